"""The proxy makes the networks it says it makes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.chaos.proxy import HALF_OPEN, PARTITION, Flow, Link, Proxy, Weather

PATIENCE_S = 0.3


class Echo:
    """A server that sends back what it gets."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._socket.getsockname()
        self.got = b""
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        with peer:
            try:
                while data := peer.recv(65536):
                    self.got += data
                    peer.sendall(data)
            except OSError:
                return

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    echo = Echo()
    yield echo
    echo.close()


@pytest.fixture
def link(echo: Echo) -> Iterator[Link]:
    with Proxy() as proxy:
        yield proxy.open("link", echo.address)


@pytest.fixture
def client(link: Link) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", link.port)) as client:
        client.settimeout(PATIENCE_S)
        client.sendall(b"hello")
        assert client.recv(100) == b"hello"
        yield client


def answer(client: socket.socket, text: bytes, patience_s: float = 5.0) -> bytes:
    client.settimeout(patience_s)
    client.sendall(text)
    found = b""
    while len(found) < len(text):
        found += client.recv(65536)
    return found


def test_latency_is_added_to_each_direction(link: Link, client: socket.socket) -> None:
    link.turn(Weather(latency_ms=100))
    started = time.monotonic()
    assert answer(client, b"slow") == b"slow"
    assert 0.2 <= time.monotonic() - started < 1.0


def test_jitter_never_changes_the_order(link: Link, client: socket.socket) -> None:
    link.turn(Weather(latency_ms=20, jitter_ms=20))
    sent = bytes(range(256)) * 8
    for start in range(0, len(sent), 64):
        client.sendall(sent[start : start + 64])
    client.settimeout(10)
    got = b""
    while len(got) < len(sent):
        got += client.recv(65536)
    assert got == sent


def test_a_narrow_line_takes_its_time(link: Link, client: socket.socket) -> None:
    link.turn(Weather(bytes_per_s=200_000))
    started = time.monotonic()
    answer(client, b"x" * 100_000, 10)
    assert time.monotonic() - started > 0.4


def test_a_reset_is_seen_as_one_by_the_client(link: Link, client: socket.socket) -> None:
    assert link.reset() == 1
    client.settimeout(2)
    with pytest.raises(ConnectionResetError):
        client.recv(100)


def test_what_is_held_in_a_partition_arrives_when_it_heals(link: Link, client: socket.socket, echo: Echo) -> None:
    link.turn(PARTITION)
    client.sendall(b" late")
    with pytest.raises(TimeoutError):
        client.recv(100)
    assert echo.got == b"hello"
    link.heal()
    client.settimeout(2)
    assert client.recv(100) == b" late"


def test_silence_in_one_direction_lets_the_other_one_pass(link: Link, client: socket.socket, echo: Echo) -> None:
    link.turn(Weather(down=Flow.HOLD))
    client.sendall(b" there")
    with pytest.raises(TimeoutError):
        client.recv(100)
    assert echo.got == b"hello there"


def test_a_half_open_peer_takes_everything_and_is_reset_when_it_heals(link: Link, client: socket.socket, echo: Echo) -> None:
    link.turn(HALF_OPEN)
    client.sendall(b" lost")
    with socket.create_connection(("127.0.0.1", link.port)) as fresh:
        fresh.settimeout(PATIENCE_S)
        fresh.sendall(b"anybody?")
        with pytest.raises(TimeoutError):
            fresh.recv(100)
        link.heal()
        for peer in (client, fresh):
            peer.settimeout(2)
            with pytest.raises(ConnectionResetError):
                peer.recv(100)
    assert echo.got == b"hello"


def test_a_cut_ends_the_connection_in_the_middle_of_a_frame(link: Link, client: socket.socket, echo: Echo) -> None:
    link.turn(Weather(cut_after_bytes=7))
    client.sendall(b"0123456789")
    client.settimeout(2)
    with pytest.raises(ConnectionResetError):
        [client.recv(100) for _ in range(10)]
    assert echo.got in (b"hello", b"hello0123456")  # an RST may overtake what was sent before it


def test_a_refused_connection_is_reset(link: Link) -> None:
    link.turn(Weather(refuse=True))
    with socket.create_connection(("127.0.0.1", link.port)) as client:
        client.settimeout(2)
        with pytest.raises(ConnectionResetError):
            client.recv(100)


def test_a_link_notices_when_its_client_gives_up_on_a_silent_peer(link: Link, client: socket.socket) -> None:
    link.turn(HALF_OPEN)
    before = time.monotonic()
    client.close()
    deadline = before + 5
    while link.closed_by_client_at is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert link.closed_by_client_at is not None
    assert link.closed_by_client_at >= before

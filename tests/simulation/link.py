"""The simulated network: connections between hosts and one server, each way first in first out, with seeded latency and cuts.

Owns what is on its way. A cut loses nothing by itself: what was sent waits, as TCP sends it again, and arrives when the cut is
over, even where the sender has given the connection up meanwhile. A reset loses what is on its way in both directions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any, Protocol

from msgspec import Struct

from tests.simulation.loop import SimLoop

RETRANSMIT_S = (0.001, 0.4)
"""How long after a cut is over the sender's next retransmission comes."""


class Refused(ConnectionRefusedError):
    """Nobody listens there."""


class Dials(Struct):
    """How bad a network is. Latencies are (least, most) in seconds; chances are per message."""

    latency_s: tuple[float, float] = (0.0001, 0.001)
    slow_chance: float = 0.0
    slow_s: tuple[float, float] = (0.01, 0.5)


class Peer(Protocol):
    """One end of a connection."""

    def received(self, item: Any) -> None:
        """Take what the other end sent."""
        ...

    def ended(self, *, reset: bool) -> None:
        """Take in that nothing comes any more: the other end closed, or the connection was reset."""
        ...


class _End(Struct, frozen=True):
    reset: bool


class Pipe:
    """One direction of a connection."""

    def __init__(self, network: Network, host: str, to_server: bool, context: Context) -> None:
        self._network, self._host, self._to_server, self._context = network, host, to_server, context
        self._items: deque[tuple[float, Any]] = deque()
        self._last_s = 0.0
        self._timer: Any = None
        self.peer: Peer | None = None
        self.closed = False

    def send(self, item: Any) -> None:
        """Put an item on its way."""
        if self.closed:
            return
        at_s = max(self._last_s, self._network.loop.time() + self._network.latency_s())
        self._last_s = at_s
        self._items.append((at_s, item))
        if self._timer is None and not self._network.is_cut(self._host, self._to_server):
            self._arm(at_s)

    def end(self, *, reset: bool = False) -> None:
        """Say that nothing comes after this."""
        if reset:
            self._items.clear()
        self.send(_End(reset))
        self.closed = True

    def drop(self) -> None:
        """Lose what is on its way, silently, and take no more."""
        self._items.clear()
        self.closed = True
        self.peer = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def abandon(self) -> None:
        """Take no more, and do not say so: the machine that sent is gone."""
        self.closed = True

    def stall(self) -> None:
        """Keep what is on its way for as long as the cut lasts."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def resume(self) -> None:
        """Go on after a cut."""
        if self._items and self._timer is None:
            delay_s = self._network.loop.rng.uniform(*RETRANSMIT_S)
            self._last_s = max(self._last_s, self._network.loop.time() + delay_s)
            self._arm(self._network.loop.time() + delay_s)

    def _arm(self, at_s: float) -> None:
        self._timer = self._network.loop.call_at(at_s, self._pump, context=self._context)

    def _pump(self) -> None:
        self._timer = None
        items, now_s = self._items, self._network.loop.time()
        while items and items[0][0] <= now_s:
            _, item = items.popleft()
            peer = self.peer
            if peer is None:
                items.clear()
            elif isinstance(item, _End):
                self.peer = None
                items.clear()
                peer.ended(reset=item.reset)
            else:
                peer.received(item)
        if items and self._timer is None and not self._network.is_cut(self._host, self._to_server):
            self._arm(items[0][0])


class Link:
    """One connection: `up` leads to the server, `down` from it."""

    def __init__(self, network: Network, host: str, context: Context) -> None:
        self.host = host
        self.up = Pipe(network, host, True, network.server_context)
        self.down = Pipe(network, host, False, context)

    def reset(self) -> None:
        """Break the connection: both ends notice, what is on its way is lost."""
        self.up.end(reset=True)
        self.down.end(reset=True)


Accept = Callable[["Link"], Peer]


class Network:
    """Which hosts reach the server, and how fast. `dials` may be changed at any time."""

    def __init__(self, loop: SimLoop, dials: Dials | None = None) -> None:
        self.loop = loop
        self.dials = dials or Dials()
        self.server_context = Context()
        self.links: list[Link] = []
        self._cut: set[tuple[str, bool]] = set()
        self._listening: Accept | None = None

    def latency_s(self) -> float:
        """Return how long the next message takes."""
        rng, dials = self.loop.rng, self.dials
        seconds = dials.latency_s[0] + (dials.latency_s[1] - dials.latency_s[0]) * rng.random()
        if dials.slow_chance and rng.random() < dials.slow_chance:
            seconds += rng.uniform(*dials.slow_s)
        return seconds

    def listen(self, accept: Accept | None) -> None:
        """Take connections with `accept`, or refuse them."""
        self._listening = accept

    def is_cut(self, host: str, to_server: bool) -> bool:
        """Return whether nothing gets from a host to the server, or back."""
        return (host, to_server) in self._cut

    def cut(self, host: str, *, to_server: bool = True, from_server: bool = True) -> None:
        """Let nothing through; only one direction makes a half-open connection."""
        for wanted, upward in ((to_server, True), (from_server, False)):
            if wanted:
                self._cut.add((host, upward))
                for link in self.links:
                    if link.host == host:
                        (link.up if upward else link.down).stall()

    def heal(self, host: str) -> None:
        """Let everything through again."""
        self._cut -= {(host, True), (host, False)}
        for link in list(self.links):
            if link.host == host:
                link.up.resume()
                link.down.resume()

    def reset(self, host: str) -> None:
        """Break every connection of a host."""
        for link in list(self.links):
            if link.host == host:
                link.reset()

    def open(self, host: str, peer: Peer, context: Context) -> Link | None:
        """Return a new connection, None where nothing gets through. Raises Refused."""
        if self.is_cut(host, True) or self.is_cut(host, False):
            return None
        if self._listening is None:
            raise Refused(f"nobody listens for {host}")
        link = Link(self, host, context)
        link.down.peer = peer
        link.up.peer = self._listening(link)
        self.links.append(link)
        return link

    def forget(self, link: Link) -> None:
        """Forget a connection that both ends have given up."""
        if link in self.links:
            self.links.remove(link)

"""A small HTTP client for attacks: it sends exactly what it is told, which no polite client does."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit


class Answer(NamedTuple):
    """What came back: the status, the headers in lower case, the body."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Http:
    """A client of one console, with the cookie and the form token of a session."""

    host: str
    port: int
    cookie: str = ""
    form_token: str = ""

    @classmethod
    def logged_in(cls, link: str) -> Http:
        """Use a link of `qd open` up."""
        parts = urlsplit(link)
        assert parts.hostname is not None
        assert parts.port is not None
        client = cls(parts.hostname, parts.port)
        answer = client.get(f"{parts.path}?{parts.query}")
        assert answer.status == 303, answer
        client.cookie = answer.headers["set-cookie"].partition(";")[0]
        page = client.get("/").body.decode()
        found = re.search(r'data-form-token="([0-9a-f]+)"', page)
        assert found is not None
        client.form_token = found[1]
        return client

    @property
    def authority(self) -> str:
        return f"{self.host}:{self.port}"

    def raw(self, data: bytes, timeout_s: float = 10.0) -> Answer:
        """Send bytes and return the answer; status 0 for a connection that was closed without one."""
        with socket.create_connection((self.host, self.port), timeout=timeout_s) as connection:
            connection.sendall(data)
            received = b""
            try:
                while chunk := connection.recv(65536):
                    received += chunk
                    head, found, body = received.partition(b"\r\n\r\n")
                    length = re.search(rb"(?i)content-length: (\d+)", head)
                    if found and length is not None and len(body) >= int(length[1]):
                        break
            except ConnectionResetError:
                pass
        return _answer(received)

    def request(self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b"") -> Answer:
        """Send a request with exactly these headers, beside Host and Content-Length (None of a header leaves it out)."""
        sent = {"Host": self.authority, "Content-Length": str(len(body)), "Connection": "close", **(headers or {})}
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items() if value is not None)]
        return self.raw("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)

    def get(self, target: str, **headers: str) -> Answer:
        """Get a page as the browser of the session would."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("GET", target, {"Cookie": self.cookie, **named} if self.cookie else named)

    def own(self) -> dict[str, str]:
        """Return the headers with which a page of ours posts."""
        return {
            "Cookie": self.cookie,
            "Origin": f"http://{self.authority}",
            "Sec-Fetch-Site": "same-origin",
            "X-QD-Form": self.form_token,
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
        }

    def post(self, target: str, fields: dict[str, str] | list[tuple[str, str]], **changed: str | None) -> Answer:
        """Post a form as a page of ours does, with some headers changed or (None) left out."""
        headers = self.own()
        for name, value in changed.items():
            key = name.replace("_", "-")
            found = next((known for known in headers if known.lower() == key.lower()), key)
            if value is None:
                headers.pop(found, None)
            else:
                headers[found] = value
        return self.request("POST", target, headers, urlencode(fields).encode())


def _answer(received: bytes) -> Answer:
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    if not lines[0].startswith("HTTP/"):
        return Answer(0, {}, received)
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return Answer(int(lines[0].split()[1]), headers, body)

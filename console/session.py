"""Who may come in: a one-time token in a URL becomes a cookie; each form carries a token of its session.

Owns two files in the console's data folder: the secret that signs cookies (so that they outlive a restart) and the one-time token
that the next browser may use. Both are mode 0600.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from pathlib import Path

from console.config import SESSION_S

COOKIE = "qd-session"
SECURE_COOKIE = "__Host-qd-session"


class Sessions:
    """Makes and checks cookies, one-time tokens and form tokens."""

    def __init__(self, data: Path) -> None:
        """Take the secret of the data folder, made at the first start."""
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._login_file = data / "login-token"
        secret_file = data / "secret"
        if not secret_file.exists():
            _write(secret_file, secrets.token_hex(32))
        self._secret = secret_file.read_text().strip().encode()
        self._login = ""
        self.renew()

    @property
    def login_token(self) -> str:
        """The token that the next browser may use, once."""
        return self._login

    def note_address(self, address: str) -> None:
        """Write down where the console is, for `qd open`."""
        _write(self._login_file.with_name("address"), address)

    def renew(self) -> None:
        """Make a new one-time token and write it down; the one before is worth nothing any more."""
        self._login = secrets.token_urlsafe(32)
        _write(self._login_file, self._login)

    def redeem(self, token: str) -> str | None:
        """Return a new cookie for the one-time token, which is used up by this; None for another text."""
        if not hmac.compare_digest(token.encode(), self._login.encode()):
            return None
        self.renew()
        body = f"{int(time.time() + SESSION_S)}.{secrets.token_urlsafe(16)}"
        return f"{body}.{self._signature('session', body)}"

    def is_valid(self, cookie: str) -> bool:
        """Return whether a cookie is one of ours and not too old."""
        body, _, signature = cookie.rpartition(".")
        expires, _, _ = body.partition(".")
        if not hmac.compare_digest(signature.encode(), self._signature("session", body).encode()):
            return False
        return expires.isdecimal() and int(expires) > time.time()

    def form_token(self, cookie: str) -> str:
        """Return the token that forms of a session carry."""
        return self._signature("form", cookie)

    def _signature(self, purpose: str, text: str) -> str:
        return hmac.new(self._secret, f"{purpose}\0{text}".encode(), hashlib.sha256).hexdigest()


def _write(path: Path, text: str) -> None:
    fresh = path.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")
    fresh.replace(path)

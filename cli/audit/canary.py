"""Canaries: planted secrets, and the ways in which they may be written down. Pure."""

from __future__ import annotations

import base64

import msgspec

CHARS_MIN = 8
"""A shorter text stands in many places by chance."""


def forms(secret: str) -> tuple[bytes, ...]:
    """Return the ways to write a secret: as it is, in a URL, escaped in JSON, in base64 at each offset. Empty for one that is too short."""
    if len(secret) < CHARS_MIN:
        return ()
    raw = secret.encode()
    plain = (raw, _in_a_url(raw), msgspec.json.encode(secret)[1:-1])
    return tuple(dict.fromkeys(form for form in (*plain, *map(_encoded, (raw,) * 3, range(3))) if len(form) >= CHARS_MIN))


_AS_THEY_ARE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~")
"""Bytes that stand for themselves in a URL (RFC 3986, unreserved)."""


def _in_a_url(raw: bytes) -> bytes:
    return b"".join(bytes((byte,)) if byte in _AS_THEY_ARE else b"%%%02X" % byte for byte in raw)


def _encoded(raw: bytes, shift: int) -> bytes:
    """Return the part of a base64 text that does not hang on what stands `shift` bytes before, or behind."""
    text = base64.b64encode(b"\0" * shift + raw)
    return text[(0, 2, 3)[shift] : len(text) - 4]

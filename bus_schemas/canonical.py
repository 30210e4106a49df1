"""Canonical JSON and its hash. Pure."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

HASH_PREFIX = "sha256-"


def canonical(value: Any) -> bytes:
    """Return `value` as canonical JSON: keys sorted at every level, no blanks, UTF-8."""
    return msgspec.json.encode(msgspec.to_builtins(value), order="sorted")


def canonical_hash(value: Any) -> str:
    """Return `sha256-` and the lower-case hex digest of the canonical JSON of `value`."""
    return HASH_PREFIX + hashlib.sha256(canonical(value)).hexdigest()

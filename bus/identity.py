"""Identities on the bus: keys, and the accounts of a server configuration in which each of them can do only its own work.

The text is pure; `make_key` owns the key files. Subject permissions alone leak: the server never checks a reply subject,
and itself publishes there (acks, answers, deliveries). So everybody who is not a service lives in an account of its own,
where such an answer reaches nobody else, and every subject it may use is an import that the control account exports to it.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import nkeys

from bus_schemas import ids
from bus_schemas.subjects import SERVICE_PERMISSIONS, Permissions, node_permissions, operator_permissions

CONTROL_ACCOUNT = "CTL"
SYSTEM_ACCOUNT = "SYS"
CONNECTIONS_MAX = 64
"""Of an account of one identity: one machine must not use up the server."""
SUBSCRIPTIONS_MAX = 4096

STREAMED = ("$JS.API.CONSUMER.MSG.NEXT.", "$SRV.")
"""Requests that get more than one answer."""

_nkeys: Any = nkeys  # it has no annotations
_PUBLIC = re.compile(r"U[A-Z2-7]{55}")


class Kind(StrEnum):
    """What an identity is; it says what it may do."""

    SERVICE = "service"
    OPERATOR = "operator"
    NODE = "node"


class Identity(NamedTuple):
    """Somebody on the bus, and the public nkey that proves it."""

    kind: Kind
    name: str
    public: str


class BadIdentity(ValueError):
    """An identity that must not stand in a server configuration; the message says why."""


class KeyExists(Exception):
    """There is a key of that name; it is never overwritten."""


class Key(NamedTuple):
    """A new key: the public half for the server, the file (mode 0600) with the seed for its owner."""

    public: str
    seed_file: Path


def make_key(folder: Path, name: str) -> Key:
    """Make a user nkey and write its seed to `folder`/`name`.nk. Raises BadId for the name, KeyExists and OSError."""
    seed_file = folder / f"{ids.principal(name)}.nk"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    seed: bytes = _nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    try:
        descriptor = os.open(seed_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise KeyExists(f"{seed_file} exists; remove it first if {name} is to have another key") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(seed + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return Key(_public_of(seed), seed_file)


def public_of(seed_file: Path) -> str:
    """Return the public half of a seed file. Raises BadIdentity when it holds no user seed, and OSError."""
    return _public_of(seed_file.read_bytes().strip())


def sign(seed_file: Path, data: bytes) -> bytes:
    """Return the signature (64 bytes) of `data` with the key in a seed file. Raises BadIdentity and OSError."""
    seed = seed_file.read_bytes().strip()
    _public_of(seed)
    return bytes(_nkeys.from_seed(bytearray(seed)).sign(data))


def is_signed_by(public: str, data: bytes, signature: bytes) -> bool:
    """Return whether `signature` of `data` was made with the key whose public half this is. Raises BadIdentity when it is none."""
    if _PUBLIC.fullmatch(public) is None:
        raise BadIdentity(f"{ids.shown(public)} is not the public nkey of a user")
    raw = base64.b32decode(public)
    if raw[0] != _nkeys.PREFIX_BYTE_USER or not _nkeys.crc16_checksum(raw[:-2]) == raw[-2:]:
        raise BadIdentity(f"{ids.shown(public)} is not the public nkey of a user: a letter is wrong")
    try:
        _nkeys.nacl.signing.VerifyKey(raw[1:-2]).verify(data, signature)
    except (_nkeys.nacl.exceptions.CryptoError, ValueError):
        return False
    return True


def _public_of(seed: bytes) -> str:
    try:
        prefix, _ = _nkeys.decode_seed(seed)
        public = bytes(_nkeys.from_seed(bytearray(seed)).public_key).decode()
    except (nkeys.NkeysError, ValueError) as error:
        raise BadIdentity("this is not the seed of an nkey") from error
    if prefix != nkeys.PREFIX_BYTE_USER:
        raise BadIdentity(f"this is the seed of {public[:1]}..., not of a user")
    return public


def account_of(identity: Identity) -> str:
    """Return the account an identity lives in."""
    if identity.kind is Kind.SERVICE:
        return CONTROL_ACCOUNT
    return f"{identity.kind.upper()}-{identity.name}"


def permissions_of(identity: Identity) -> Permissions:
    """Return what an identity may publish and subscribe."""
    match identity.kind:
        case Kind.SERVICE:
            return SERVICE_PERMISSIONS
        case Kind.OPERATOR:
            return operator_permissions(identity.name)
        case Kind.NODE:
            return node_permissions(identity.name)


def accounts(identities: Iterable[Identity], *, system: str | None = None) -> str:
    """Return the `accounts` of a server configuration for these identities.

    The control account owns JetStream and holds the services. `system` is the public key that may ask the server about
    itself; None: nobody may. The same identities in any order give the same text. Raises BadId and BadIdentity.

    A running server takes it with SIGHUP, sent twice: with 2.15.1 the imports of a new account work after the second. Nobody
    else is disturbed, and who is not in the text any more is disconnected.
    """
    everybody = sorted(identities)
    _check(everybody, system)
    others = [identity for identity in everybody if identity.kind is not Kind.SERVICE]
    parts = [_control_account([identity for identity in everybody if identity.kind is Kind.SERVICE], others)]
    parts += [_own_account(identity) for identity in others]
    users = "" if system is None else f"{{ nkey: {system} }}"
    parts.append(f"  {SYSTEM_ACCOUNT} {{ users: [{users}] }}")
    return "\n".join(["accounts {", *parts, "}", f"system_account: {SYSTEM_ACCOUNT}", ""])


def _check(everybody: Sequence[Identity], system: str | None) -> None:
    owners: dict[str, str] = {} if system is None else {system: "the system"}
    names: set[tuple[bool, str]] = set()
    for kind, name, public in everybody:
        (ids.node_id if kind is Kind.NODE else ids.principal)(name)
        # operators and services share the subjects of commands and receipts
        if (kind is Kind.NODE, name) in names:
            raise BadIdentity(f"there are two called {name}")
        names.add((kind is Kind.NODE, name))
        if public in owners:
            raise BadIdentity(f"{name} has the same key as {owners[public]}")
        owners[public] = name
    for public, name in owners.items():
        if _PUBLIC.fullmatch(public) is None:
            raise BadIdentity(f"the key of {name} is not the public nkey of a user: {ids.shown(public)}")


def _control_account(services: Sequence[Identity], others: Sequence[Identity]) -> str:
    service_exports: dict[str, list[str]] = {}
    stream_exports: dict[str, list[str]] = {}
    for identity in others:
        permissions = permissions_of(identity)
        for subject in permissions.publish:
            service_exports.setdefault(subject, []).append(account_of(identity))
        for subject in _shared_streams(permissions):
            stream_exports.setdefault(subject, []).append(account_of(identity))
    lines = [f"  {CONTROL_ACCOUNT} {{", "    jetstream: enabled", "    users: ["]
    lines += [f"      {_user(identity)}" for identity in services]
    lines += ["    ]", "    exports: ["]
    lines += [
        f'      {{ service: "{subject}", response_type: {_response_type(subject)}, accounts: {_quoted(names)} }}'
        for subject, names in service_exports.items()
    ]
    lines += [f'      {{ stream: "{subject}", accounts: {_quoted(names)} }}' for subject, names in stream_exports.items()]
    return "\n".join([*lines, "    ]", "  }"])


def _own_account(identity: Identity) -> str:
    permissions = permissions_of(identity)
    lines = [
        f'  "{account_of(identity)}" {{',
        f"    limits {{ max_connections: {CONNECTIONS_MAX}, max_subscriptions: {SUBSCRIPTIONS_MAX} }}",
        "    users: [",
        f"      {_user(identity)}",
        "    ]",
        "    imports: [",
    ]
    lines += [f'      {{ service: {{ account: {CONTROL_ACCOUNT}, subject: "{subject}" }} }}' for subject in permissions.publish]
    lines += [f'      {{ stream: {{ account: {CONTROL_ACCOUNT}, subject: "{subject}" }} }}' for subject in _shared_streams(permissions)]
    return "\n".join([*lines, "    ]", "  }"])


def _shared_streams(permissions: Permissions) -> list[str]:
    # the inbox is the account's own: answers come back to it by themselves
    return [subject for subject in permissions.subscribe if not subject.startswith("_INBOX_")]


def _response_type(subject: str) -> str:
    return "stream" if subject.startswith(STREAMED) else "singleton"


def _user(identity: Identity) -> str:
    publish, subscribe = permissions_of(identity)
    return (
        f"{{ nkey: {identity.public}, permissions: {{ publish: {{ allow: {_quoted(publish)} }}, subscribe: {{ allow: {_quoted(subscribe)} }} }} }}"
        f" # {identity.kind} {identity.name}"
    )


def _quoted(texts: Iterable[str]) -> str:
    return "[" + ", ".join(f'"{text}"' for text in texts) + "]"

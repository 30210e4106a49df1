"""Streams and durable consumers: created and compared in one place, from the data in `bus_schemas.subjects`.

Owns the JetStream API's create and update calls. Nothing else in the house creates a stream or a durable consumer.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple

from bus.connection import NO_STREAM, ApiFailure, Bus
from bus_schemas.subjects import CONTROLLER_CONSUMERS, LEDGER, STREAMS, ConsumerSpec, StreamSpec

NO_CONSUMER = 10014
SYNC_METADATA = "qd-sync"
REPLICAS_SAFE = 3


class Sync(StrEnum):
    """How a server writes: each message synced to disk before its ack, only now and then, or nobody knows."""

    ALWAYS = "always"
    UNSAFE = "unsafe"
    UNKNOWN = "unknown"


class UnsafeSync(Exception):
    """A single server that does not sync each write loses acknowledged writes when the power goes."""

    def __init__(self, sync: Sync) -> None:
        """Say what to do about it."""
        found = "does not sync every write" if sync is Sync.UNSAFE else "does not show how it syncs"
        super().__init__(
            f"this server {found}: acknowledged work could be lost when the power goes. Set `sync_interval: always` in its jetstream block and run"
            " `qd bus init --monitor URL`, or allow it with --allow-unsafe-sync"
        )
        self.sync = sync


class Change(NamedTuple):
    """Something that was made or differed: `done` is `created`, `updated`, `same` or `differs`."""

    thing: str
    done: str
    detail: str = ""


def _stream_config(spec: StreamSpec, replicas: int) -> dict[str, Any]:
    config: dict[str, Any] = {
        "name": spec.name,
        "subjects": list(spec.subjects),
        "retention": spec.retention,
        "storage": spec.storage,
        "discard": spec.discard,
        "max_age": int(spec.max_age_s * 1e9),
        "max_bytes": spec.max_bytes,
        "max_msg_size": spec.max_msg_bytes,
        "max_msgs": -1,
        "max_msgs_per_subject": spec.max_per_subject,
        "max_consumers": spec.max_consumers,
        "num_replicas": replicas if spec.clustered else 1,
        "duplicate_window": int(spec.duplicate_window_s * 1e9),
        "deny_delete": spec.deny_delete,
        "deny_purge": spec.deny_purge,
        "allow_rollup_hdrs": spec.allow_rollup,
        "allow_direct": spec.allow_direct,
        "compression": "s2" if spec.compressed else "none",
    }
    if spec.discard_new_per_subject:
        config["discard_new_per_subject"] = True
    return config


def _consumer_config(spec: ConsumerSpec) -> dict[str, Any]:
    config: dict[str, Any] = {
        "durable_name": spec.name,
        "name": spec.name,
        "ack_policy": "explicit",
        "deliver_policy": "all",
        "ack_wait": int(spec.ack_wait_s * 1e9),
        "max_ack_pending": spec.max_ack_pending,
        "max_deliver": spec.max_deliver,
        "max_waiting": 512,
        "replay_policy": "instant",
    }
    if len(spec.filters) == 1:
        config["filter_subject"] = spec.filters[0]
    else:
        config["filter_subjects"] = list(spec.filters)
    return config


def _differences(wanted: dict[str, Any], found: dict[str, Any]) -> list[str]:
    unset: tuple[Any, ...] = (None, False, 0, "")
    return [
        f"{key}: {found.get(key)!r}, should be {value!r}"
        for key, value in wanted.items()
        if found.get(key) != value and not (value in unset and found.get(key) in unset)
    ]


async def ensure_stream(bus: Bus, spec: StreamSpec, replicas: int, *, dry_run: bool = False) -> Change:
    """Make a stream as it must be. Raises ApiFailure where the server refuses the change (like other storage)."""
    wanted = _stream_config(spec, replicas)
    try:
        found = (await bus.api(f"STREAM.INFO.{spec.name}"))["config"]
    except ApiFailure as failure:
        if failure.err_code != NO_STREAM:
            raise
        if not dry_run:
            await bus.api(f"STREAM.CREATE.{spec.name}", wanted)
        return Change(f"stream {spec.name}", "differs" if dry_run else "created", "missing" if dry_run else "")
    differences = _differences(wanted, found)
    if not differences:
        return Change(f"stream {spec.name}", "same")
    if not dry_run:
        await bus.api(f"STREAM.UPDATE.{spec.name}", {**found, **wanted})
    return Change(f"stream {spec.name}", "differs" if dry_run else "updated", "; ".join(differences))


async def ensure_consumer(bus: Bus, spec: ConsumerSpec, *, dry_run: bool = False) -> Change:
    """Make a durable consumer as it must be; what it has delivered and what waits stays."""
    wanted = _consumer_config(spec)
    thing = f"consumer {spec.stream}/{spec.name}"
    try:
        found = (await bus.api(f"CONSUMER.INFO.{spec.stream}.{spec.name}"))["config"]
    except ApiFailure as failure:
        if failure.err_code not in (NO_CONSUMER, NO_STREAM):
            raise
        if not dry_run:
            await bus.api(f"CONSUMER.CREATE.{spec.stream}.{spec.name}", {"stream_name": spec.stream, "config": wanted, "action": "create"})
        return Change(thing, "differs" if dry_run else "created", "missing" if dry_run else "")
    differences = _differences(wanted, found)
    if not differences:
        return Change(thing, "same")
    if not dry_run:
        await bus.api(f"CONSUMER.CREATE.{spec.stream}.{spec.name}", {"stream_name": spec.stream, "config": {**found, **wanted}, "action": "update"})
    return Change(thing, "differs" if dry_run else "updated", "; ".join(differences))


async def ensure_all(bus: Bus, *, replicas: int = 1, sync: Sync | None = None, dry_run: bool = False) -> list[Change]:
    """Make every stream and every controller consumer as it must be; return what was done for each.

    `sync` is written on the ledger, where every service reads it at its start; None leaves what is there. Raises ApiFailure,
    Unavailable.
    """
    changes = [await ensure_stream(bus, spec, replicas, dry_run=dry_run) for spec in STREAMS]
    changes += [await ensure_consumer(bus, spec, dry_run=dry_run) for spec in CONTROLLER_CONSUMERS]
    if sync is not None and not dry_run:
        config = (await bus.api(f"STREAM.INFO.{LEDGER}"))["config"]
        metadata = config.get("metadata") or {}
        if metadata.get(SYNC_METADATA) != sync:
            await bus.api(f"STREAM.UPDATE.{LEDGER}", {**config, "metadata": {**metadata, SYNC_METADATA: str(sync)}})
    return changes


async def sync_of(bus: Bus) -> Sync:
    """Return how the server writes, as `ensure_all` noted it; a cluster of three or more replicas counts as safe. Raises Unavailable."""
    config = (await bus.api(f"STREAM.INFO.{LEDGER}"))["config"]
    if int(config.get("num_replicas", 1)) >= REPLICAS_SAFE:
        return Sync.ALWAYS
    noted = (config.get("metadata") or {}).get(SYNC_METADATA)
    return Sync(noted) if noted in set(Sync) else Sync.UNKNOWN


async def refuse_unsafe(bus: Bus, *, allow_unsafe_sync: bool) -> Sync:
    """Return how the server writes. Raises UnsafeSync when that can lose acknowledged writes and it was not allowed."""
    sync = await sync_of(bus)
    if sync is not Sync.ALWAYS and not allow_unsafe_sync:
        raise UnsafeSync(sync)
    return sync

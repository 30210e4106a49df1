"""Random sequences of operations on a stream and its consumers, for the comparison of the simulated server with the real one. *Pure.*"""

from __future__ import annotations

import random
from typing import Any

SHORT_ACK_S = 0.6
SUBJECTS = ("a", "b", "b.c")
CONSUMERS = ("one", "two")

Op = tuple[Any, ...]


def plan(seed: int) -> tuple[dict[str, Any], list[Op]]:
    """Return the configuration of a stream and the operations on it."""
    rng = random.Random(seed)
    # filters stay: a real server counts wrong after they were changed, and the house never changes them
    filters = {name: rng.choice(([], ["a"], ["b"], ["b.>"], ["a", "b.c"], [">"])) for name in CONSUMERS}
    ops: list[Op] = [_consumer(rng, name, rng.random() < 0.8) for name in CONSUMERS if rng.random() < 0.7]
    makers = [_write, _write, _write, _read, _consume, _consume, _answer, _answer, _other]
    for _ in range(rng.randint(6, 14)):
        ops.append(rng.choice(makers)(rng))
    ops = [(*op[:3], filters[op[1]], op[3]) if op[0] == "consumer" else op for op in ops]
    if not patient_only(ops):  # a heartbeat and a redelivery that are due at the same time may come in either order
        ops = [("loop", op[1], 3) if op[0] == "beats" else op for op in ops]
    if not patient_only(ops) and rng.random() < 0.7:
        ops.insert(rng.randint(len(ops) // 2, len(ops)), ("wait",))
    return _config(rng), [*ops, ("state",), ("info", "one"), ("info", "two")]


def patient_only(ops: list[Op]) -> bool:
    """Return whether no consumer of a sequence delivers again soon."""
    return all(op[2]["ack_wait"] > 1e9 for op in ops if op[0] == "consumer")


def is_timed(ops: list[Op]) -> bool:
    """Return whether something is delivered again soon in a sequence, so that what is seen when is a matter of time."""
    return not patient_only(ops) or any(op[0] == "answer" and b"delay" in op[2] for op in ops)


def _config(rng: random.Random) -> dict[str, Any]:
    config: dict[str, Any] = {
        "retention": rng.choice(("limits", "limits", "workqueue")),
        "storage": rng.choice(("file", "file", "memory")),
        "discard": rng.choice(("new", "new", "old")),
        "max_msgs": rng.choice((-1, -1, -1, 4)),
        "max_bytes": rng.choice((-1, -1, -1, 400)),
        "max_msgs_per_subject": rng.choice((-1, 1, 1, 2)),
        "max_msg_size": rng.choice((-1, 1000)),
        "duplicate_window": 120_000_000_000,
        "allow_direct": True,
        "deny_purge": rng.random() < 0.1,
        "max_consumers": rng.choice((-1, -1, 1)),
    }
    if config["discard"] == "new" and config["max_msgs_per_subject"] > 0 and rng.random() < 0.7:
        config["discard_new_per_subject"] = True
    return config


def _consumer(rng: random.Random, name: str, patient: bool = True) -> Op:
    config = {
        "ack_policy": "explicit",
        "deliver_policy": "all",
        "ack_wait": 30_000_000_000 if patient else int(SHORT_ACK_S * 1e9),
        "max_ack_pending": rng.choice((1, 2, 100)),
        "max_deliver": -1,
        "max_waiting": 512,
        "replay_policy": "instant",
    }
    return ("consumer", name, config, rng.choice(("create", "create", "update", "")))


def _write(rng: random.Random) -> Op:
    subject, size = rng.choice(SUBJECTS), rng.choice((0, 10, 10, 10, 100, 1200))
    return rng.choice(
        (
            ("append", subject, size, None, None),
            ("append", subject, size, rng.randint(0, 4), None),
            ("append", subject, size, "last", None),
            ("append", subject, size, None, {"Nats-Msg-Id": rng.choice("xy")}),
            ("once", subject, size),
        )
    )


def _read(rng: random.Random) -> Op:
    subject = rng.choice((*SUBJECTS, "*", ">"))
    return rng.choice(
        (("last", subject), ("next", subject, rng.randint(0, 5)), ("direct", rng.choice(SUBJECTS)), ("read", subject, rng.randint(1, 4)))
    )


def _consume(rng: random.Random) -> Op:
    name = rng.choice(CONSUMERS)
    return rng.choice(
        (
            ("pull", name, rng.randint(1, 4), False),
            ("pull", name, rng.randint(1, 4), False),
            ("pull", name, rng.randint(1, 4), True),
            ("loop", name, rng.randint(1, 4)),
            ("beats", name),
        )
    )


def _answer(rng: random.Random) -> Op:
    return ("answer", rng.random(), rng.choice((b"+ACK", b"+ACK", b"", b"-NAK", b'-NAK {"delay": 400000000}', b"+TERM bad", b"+WPI")))


def _other(rng: random.Random) -> Op:
    name = rng.choice(CONSUMERS)
    return rng.choice(
        (
            ("state",),
            ("info", name),
            ("uncreate", name),
            _consumer(rng, name),
            ("purge", {"filter": rng.choice(SUBJECTS)}),
            ("purge", {"seq": rng.randint(1, 5)}),
            ("purge", {}),
            ("delete", rng.randint(1, 4)),
            ("nobody",),
            ("nothing",),
            ("limit", rng.choice((2, 5))),
        )
    )

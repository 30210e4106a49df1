"""Failpoints: named places at which a fault may be injected from outside. Owns nothing; without orders it costs a dictionary's truth.

`QD_FAILPOINTS` arms them for a process: `name:action@n`, comma-separated. Action `kill` ends the process by SIGKILL, `sleep=MS`
stalls it whole for so many milliseconds; `@n` means the n-th time it is reached (default 1), `@n+` every time from then on.
With `QD_FAILPOINTS_LOG=FILE` each order that is obeyed is written down there first: what really happened. With `QD_FAILPOINTS_FILE=FILE`
the signal SIGUSR2 makes a process that runs take its orders from there, in place of those it had.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct

NAMES = (
    "controller.received",
    "controller.decided",
    "controller.stored",
    "controller.observed",
    "controller.before-receipt",
    "controller.before-ack",
    "controller.acked",
    "controller.before-order",
    "controller.ordered",
    "controller.withdrawn",
    "controller.lease-taken",
    "controller.lease-renewed",
    "node.received",
    "node.journaled",
    "node.claimed",
    "node.acked",
    "node.spawning",
    "node.spawned",
    "node.exit-seen",
    "node.end-journaled",
    "node.reported",
    "node.stop-received",
    "node.beat",
    "timeline.fetched",
    "timeline.in-transaction",
    "timeline.committed",
    "client.before-request",
    "client.stored",
    "client.receipt-read",
)
"""Every failpoint of the house; each stands at exactly one place in the code (a test looks)."""

ENVIRONMENT = "QD_FAILPOINTS"
LOG_ENVIRONMENT = "QD_FAILPOINTS_LOG"
FILE_ENVIRONMENT = "QD_FAILPOINTS_FILE"


class BadFailpoint(Exception):
    """The orders for failpoints cannot be read."""


class _Order(Struct):
    """What to do at one failpoint, and when."""

    action: str
    sleep_ms: float
    first: int
    repeats: bool
    reached: int = 0


def parse(text: str) -> dict[str, _Order]:
    """Return the orders in `name:action@n,...`. Raises BadFailpoint, naming the part."""
    orders: dict[str, _Order] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, rest = part.partition(":")
        action, _, count = rest.partition("@")
        verb, _, value = action.partition("=")
        repeats = count.endswith("+")
        number = count.removesuffix("+") or "1"
        if name not in NAMES:
            raise BadFailpoint(f"failpoint {name!r} is not known; there are {', '.join(NAMES)}")
        if verb not in ("kill", "sleep") or (verb == "sleep") != bool(value) or not number.isdecimal() or (value and not value.isdecimal()):
            raise BadFailpoint(f"failpoint order {part!r} is not valid: expected name:kill, name:kill@3, name:sleep=250 or name:sleep=250@2+")
        orders[name] = _Order(verb, float(value or 0), int(number), repeats)
    return orders


_orders: dict[str, _Order] = {}
_observer: list[Callable[[str], None]] = []


def arm(environment: Mapping[str, str]) -> None:
    """Take orders from an environment, and later from the file that it names, if it names one. Raises BadFailpoint."""
    _take(environment.get(ENVIRONMENT, ""))
    file = environment.get(FILE_ENVIRONMENT)
    if file:
        signal.signal(signal.SIGUSR2, lambda *_: _take(Path(file).read_text()))


def _take(text: str) -> None:
    orders = parse(text)
    _orders.clear()
    _orders.update(orders)


def observe(observer: Callable[[str], None] | None) -> None:
    """Tell `observer` of every failpoint that is reached in this process; None ends that. For simulations."""
    _observer[:] = [] if observer is None else [observer]


def failpoint(name: str) -> None:
    """Mark a place; do there what was ordered."""
    if _observer:
        _observer[0](name)
    if _orders and name in _orders:
        _obey(name, _orders[name])


def _obey(name: str, order: _Order) -> None:
    order.reached += 1
    if order.reached < order.first or (order.reached > order.first and not order.repeats):
        return
    _note(name, order.action)
    if order.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(order.sleep_ms / 1000)


def _note(name: str, action: str) -> None:
    path = os.environ.get(LOG_ENVIRONMENT)
    if path is None:
        return
    line = f'{{"failpoint":"{name}","action":"{action}","pid":{os.getpid()},"mono_ns":{time.monotonic_ns()}}}\n'
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


arm(os.environ)

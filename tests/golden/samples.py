"""Every sample by the name of its file, and the vocabulary: each enum of the contract with its values."""

from __future__ import annotations

import importlib
import pkgutil
from enum import StrEnum
from typing import Any

import bus_schemas
from bus_schemas import commands, events
from tests.golden.commands import COMMANDS, FULL_ENVELOPE, LAUNCH_BY_POLICY, envelope
from tests.golden.events import EVENTS
from tests.golden.ledger import MESSAGE, RECEIPTS
from tests.golden.reports import BEAT, ENDED_BADLY, ORDER, REPORTS, RESULTS, STOP
from tests.golden.views import VIEWS


def tag_of(value: Any) -> str:
    """Return the tag of a sample of a union."""
    return str(type(value).__struct_config__.tag)


def vocabulary() -> dict[str, list[str]]:
    """Return every enum of the contract by name, with its values in order."""
    modules = [importlib.import_module(f"bus_schemas.{module.name}") for module in pkgutil.iter_modules(bus_schemas.__path__)]
    enums = {
        value.__name__: value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, StrEnum) and value is not StrEnum
    }
    return {name: [member.value for member in enums[name]] for name in sorted(enums)}


SAMPLES: dict[str, Any] = {
    **{f"command.{commands.type_of(command)}": envelope(command) for command in COMMANDS},
    "command.launch-by-policy": envelope(LAUNCH_BY_POLICY),
    "envelope": FULL_ENVELOPE,
    **{f"event.{events.type_of(event)}": event for event in EVENTS},
    **{f"report.{tag_of(report)}": report for report in REPORTS},
    "report.ended-badly": ENDED_BADLY,
    **{f"result.{tag_of(result)}": result for result in RESULTS},
    "beat": BEAT,
    "order.work": ORDER,
    "order.stop": STOP,
    "ledger": MESSAGE,
    **{f"receipt.{name}": receipt for name, receipt in RECEIPTS.items()},
    **{f"view.{type(view).__name__.removesuffix('View').lower()}": view for view in VIEWS},
    "vocabulary": vocabulary(),
}

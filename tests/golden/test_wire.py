"""Golden samples: the bytes of every wire type.

A changed sample is a changed contract. `QD_UPDATE_GOLDEN=1 uv run pytest tests/golden` writes the files; what it changed
stands in the diff, and has to be a field that older readers can live without, or a new version.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct
from msgspec import inspect as shapes

from bus_schemas import codec, views
from bus_schemas.commands import COMMAND_TYPES, CommandEnvelope
from bus_schemas.decisions import LedgerMessage, Receipt
from bus_schemas.events import EVENT_TYPES, Event
from bus_schemas.orders import StopOrder, WorkOrder
from bus_schemas.reports import Beat, Ended, Report, Result, Started, Withdrawn
from tests.golden.commands import COMMANDS, LAUNCH_BY_POLICY
from tests.golden.samples import SAMPLES, tag_of, vocabulary

WIRE = Path(__file__).parent / "wire"
UPDATE = os.environ.get("QD_UPDATE_GOLDEN") == "1"

VIEW_TYPES = [value for value in vars(views).values() if isinstance(value, type) and issubclass(value, Struct) and value.__module__ == views.__name__]
ROOTS: tuple[Any, ...] = (
    *COMMAND_TYPES.values(),
    CommandEnvelope,
    Event,
    Report,
    Result,
    Beat,
    WorkOrder,
    StopOrder,
    LedgerMessage,
    Receipt,
    *VIEW_TYPES,
)

DECODERS: dict[type, Callable[[bytes], Any]] = {
    CommandEnvelope: codec.decode_envelope,
    LedgerMessage: codec.decode_ledger,
    Receipt: codec.decode_receipt,
    WorkOrder: codec.decode_order,
    StopOrder: codec.decode_stop,
    Beat: codec.decode_beat,
    **dict.fromkeys((Started, Withdrawn, Ended), codec.decode_report),
}


def decoded(value: Any, data: bytes) -> Any:
    kind = type(value)
    return DECODERS[kind](data) if kind in DECODERS else msgspec.json.decode(data, type=kind)


def instances(value: Any) -> list[Any]:
    """Return the structs that a value is made of."""
    if isinstance(value, Struct):
        return [value, *(found for name in value.__struct_fields__ for found in instances(getattr(value, name)))]
    if isinstance(value, dict):
        return [found for inner in value.values() for found in instances(inner)]
    return [found for inner in value for found in instances(inner)] if isinstance(value, tuple) else []


def struct_types(shape: Any, found: set[type]) -> None:
    """Add every struct that a type is made of to `found`."""
    match shape:
        case shapes.StructType():
            if shape.cls not in found:
                found.add(shape.cls)
                for field in shape.fields:
                    struct_types(field.type, found)
        case shapes.UnionType():
            for inner in shape.types:
                struct_types(inner, found)
        case shapes.VarTupleType():
            struct_types(shape.item_type, found)
        case shapes.TupleType():
            for inner in shape.item_types:
                struct_types(inner, found)
        case shapes.DictType():
            struct_types(shape.value_type, found)
        case shapes.Metadata():
            struct_types(shape.type, found)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_has_the_bytes_of_its_file(name: str) -> None:
    data = codec.encode(SAMPLES[name]) + b"\n"
    path = WIRE / f"{name}.json"
    if UPDATE:
        path.write_bytes(data)
    assert path.is_file(), "a new sample is written by QD_UPDATE_GOLDEN=1"
    assert path.read_bytes() == data


def test_no_file_is_left_over_from_a_sample_that_is_gone() -> None:
    left = {path.name for path in WIRE.iterdir()} - {f"{name}.json" for name in SAMPLES}
    if UPDATE:
        for name in left:
            (WIRE / name).unlink()
        left = set()
    assert left == set()


@pytest.mark.parametrize("name", [name for name in SAMPLES if name != "vocabulary"])
def test_a_file_decodes_to_its_sample(name: str) -> None:
    assert decoded(SAMPLES[name], (WIRE / f"{name}.json").read_bytes().rstrip(b"\n")) == SAMPLES[name]


@pytest.mark.parametrize("command", [*COMMANDS, LAUNCH_BY_POLICY], ids=tag_of)
def test_the_file_of_a_command_holds_that_command(command: Any) -> None:
    name = "command.launch-by-policy" if command is LAUNCH_BY_POLICY else f"command.{tag_of(command)}"
    assert codec.decode_command(codec.decode_envelope((WIRE / f"{name}.json").read_bytes())) == command


def test_every_command_event_report_result_and_view_has_a_sample() -> None:
    names = set(SAMPLES)
    assert {f"command.{tag}" for tag in COMMAND_TYPES} <= names
    assert {f"event.{tag}" for tag in EVENT_TYPES} <= names
    assert {f"report.{kind.__struct_config__.tag}" for kind in Report.__args__} <= names
    assert {f"result.{kind.__struct_config__.tag}" for kind in Result.__args__} <= names
    assert {type(sample) for name, sample in SAMPLES.items() if name.startswith("view.")} == set(VIEW_TYPES)


def test_every_field_of_every_type_that_travels_is_set_in_a_sample() -> None:
    reachable: set[type] = set()
    for root in ROOTS:
        struct_types(shapes.type_info(root), reachable)
    everything = [*SAMPLES.values(), *COMMANDS, LAUNCH_BY_POLICY]
    found = [value for sample in everything for value in instances(sample)]
    unset = [
        f"{kind.__name__}.{field.name}"
        for kind in sorted(reachable, key=lambda kind: kind.__name__)
        for field in msgspec.structs.fields(kind)
        if not any(type(value) is kind and getattr(value, field.name) != field.default for value in found)
    ]
    assert len(reachable) > 100
    assert unset == []


def test_the_vocabulary_names_every_enum_of_the_contract() -> None:
    assert {"OrchestrationStatus", "RunKind", "Reason", "HoldKind", "Via", "Flag"} <= set(vocabulary())
    assert all(vocabulary().values())

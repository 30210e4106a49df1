"""The index: what it holds is what a replay gives, whenever it was written and whenever it is read again."""

from __future__ import annotations

import msgspec

from bus_schemas.events import Event
from controller import index_changes, shelf_codec
from controller.project import Aggregate


def test_every_field_of_an_aggregate_is_written_or_follows_from_what_is() -> None:
    fields = {field.name for field in msgspec.structs.fields(Aggregate)}
    counters = {field.name for field in msgspec.structs.fields(shelf_codec.Counters)}
    follows = {"project", "orchestrations", "commands", "live_slugs"}
    assert fields == counters | follows | set(shelf_codec.THINGS) - {"counters"}


def test_every_event_touches_what_the_table_says_or_an_orchestration() -> None:
    others = [kind for kind in Event.__args__ if kind not in index_changes._TOUCHES]
    assert [kind for kind in others if "orchestration" not in kind.__struct_fields__] == []

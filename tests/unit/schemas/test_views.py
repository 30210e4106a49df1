"""Views: the table of queries names what answers them."""

from __future__ import annotations

import msgspec

from bus_schemas import views
from bus_schemas.decisions import Receipt

PARTS = {"AlarmView", "AuditHead", "ObstacleView", "HoldView", "TaskView", "PhaseView"}
"""Views that stand inside of others."""


def test_the_table_of_queries_names_every_view() -> None:
    table = views.__doc__ or ""
    assert {name for name in views.__all__ if name not in table} == PARTS


def test_every_view_is_given_out() -> None:
    defined = {name for name, value in vars(views).items() if isinstance(value, type) and value.__module__ == views.__name__}
    assert set(views.__all__) == defined | {Receipt.__name__}


def test_no_view_refuses_what_a_newer_service_adds() -> None:
    for name in views.__all__:
        assert issubclass(getattr(views, name), msgspec.Struct)
        assert not getattr(views, name).__struct_config__.forbid_unknown_fields

"""The document of the console's commands says what the contract says."""

from __future__ import annotations

from typing import Any

import pytest

from bus_schemas import commands as c
from console.forms import META
from console.openapi import document
from console.page import Context, Page, Visit


async def nothing(visit: Visit) -> Context:
    return {}


WALL, ONE = Page("/", "wall.html", nothing), Page("/orchestrations/{id}/plan", "plan.html", nothing)
PATHS: dict[str, Any] = document((WALL, ONE))["paths"]


def form(kind: str) -> dict[str, Any]:
    """Return what the form of a command takes."""
    found: dict[str, Any] = PATHS[f"/command/{kind}"]["post"]["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"]
    return found


def test_there_is_one_path_for_each_command_and_each_page() -> None:
    assert set(PATHS) == {"/", "/orchestrations/{id}/plan", *(f"/command/{kind}" for kind in c.COMMAND_TYPES)}
    assert {method for operations in PATHS.values() for method in operations} == {"get", "post"}


@pytest.mark.parametrize(
    ("kind", "needed"),
    [
        ("pause", ["key", "orchestration"]),
        ("gate-reject", ["key", "orchestration", "feedback"]),
        ("project-add", ["key", "project", "repo"]),
        ("task-insert", ["key", "orchestration", "phase", "after", "subject", "depends_on", "target_revision"]),
    ],
)
def test_a_form_needs_its_key_and_the_fields_without_a_default(kind: str, needed: list[str]) -> None:
    assert form(kind)["required"] == needed


@pytest.mark.parametrize(("kind", "spelled_as_places"), [("launch", {"overrides", "policy", "labels"}), ("set-policy", {"patch"}), ("pause", set())])
def test_a_form_has_the_fields_of_its_command_but_objects_which_are_spelled_as_places(kind: str, spelled_as_places: set[str]) -> None:
    assert set(form(kind)["properties"]) == META | set(c.COMMAND_TYPES[kind].__struct_fields__) - spelled_as_places


def test_a_command_says_in_one_line_what_it_does_and_needs_the_header_that_no_other_site_can_send() -> None:
    pause = PATHS["/command/pause"]["post"]
    assert (pause["operationId"], pause["summary"]) == ("pause", (c.Pause.__doc__ or "").splitlines()[0])
    assert [(p["name"], p["in"], p["required"]) for p in pause["parameters"]] == [("X-QD-Form", "header", True)]
    assert pause["responses"]["200"]["content"]["application/json"]["schema"]["required"] == ["schema", "action", "status", "equivalent"]


def test_a_page_of_one_thing_takes_its_id_in_the_path_and_no_two_pages_have_one_name() -> None:
    wall, one = PATHS[WALL.path]["get"], PATHS[ONE.path]["get"]
    assert wall["parameters"] == []
    assert [(p["name"], p["in"], p["schema"]["pattern"]) for p in one["parameters"]] == [("id", "path", "^[a-z0-9-]{1,80}$")]
    assert (wall["operationId"], one["operationId"]) == ("page-", "page-orchestrations-id-plan")

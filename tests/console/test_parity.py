"""Whatever can be asked from a terminal can be asked from a page: every command has its control."""

from __future__ import annotations

import re

import pytest

from bus_schemas.commands import COMMAND_TYPES
from console import rendering
from console.pages.orchestration import controls
from tests.console.http import Http

TEMPLATES = "\n".join(path.read_text() for path in (rendering.HERE / "templates").glob("*.html"))
COVERED = {
    # the form posts `set-policy` with `model.<role>` among its fields: what `set-role-model` does is a part of it
    "set-role-model": "set-policy",
}


def posted() -> set[str]:
    """Return the types that some control posts."""
    found = set(re.findall(r'hx-post="/command/([a-z-]+)"', TEMPLATES))
    if 'hx-post="/command/{{ control.kind }}"' in TEMPLATES:
        found |= {control["kind"] for control in controls({"status": "executing", "holds": []})}
    listed = re.search(r"for kind, word, why_not in \[(.*?)\] %\}", TEMPLATES)
    if listed is not None:
        found |= set(re.findall(r"\('([a-z-]+)',", listed[1]))
    return found


@pytest.mark.parametrize("kind", sorted(COMMAND_TYPES))
def test_a_command_has_its_control_on_a_page(kind: str) -> None:
    assert COVERED.get(kind, kind) in posted()


def test_no_control_posts_what_is_no_command() -> None:
    assert posted() <= set(COMMAND_TYPES)


def test_the_policy_form_has_the_model_of_every_role(http: Http) -> None:
    page = http.get("/launch?project=shop").body.decode()  # whatever other files have added
    assert {"planner", "executor", "reviewer"} <= set(re.findall(r'data-field="model\.([a-z_]+)"', page))


def test_every_form_has_a_key_and_every_key_is_its_own() -> None:
    forms = re.findall(r"<form[^>]*hx-post=\"/command/.*?</form>", TEMPLATES, re.S)
    assert len(forms) >= 20
    keys = [re.search(r'name="key" value="([^"]*)"', form) for form in forms]
    assert None not in keys

"""What a browser posts is the command that is meant, or it is refused with a word about what is wrong."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus_schemas import commands as c
from bus_schemas.reasons import Reason
from console import forms
from console.backend import Problem
from console.forms import Form
from tests.golden.commands import COMMANDS, LAUNCH_BY_POLICY


def pairs(command: c.Command) -> list[tuple[str, str]]:
    """Return a command as a page of ours posts it."""
    found: list[tuple[str, str]] = []
    for name, value in msgspec.to_builtins(command).items():
        if name == "type" or value is None:
            continue
        if name == "labels":
            found += [(f"labels.{label}", text) for label, text in value.items()]
        elif name in ("patch", "overrides", "policy"):
            found += [(f"{name}.{s}.{f}", text) for s, fields in value.items() for f, v in fields.items() for text in texts(f, v)]
        elif name in ("depends_on", "blocks"):
            found.append((name, ",".join(map(str, value)) or "none"))
        elif isinstance(value, list | tuple):
            found += [(name, str(item)) for item in value]
        else:
            found.append((name, text_of(value)))
    return found


def text_of(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def texts(name: str, value: Any) -> list[str]:
    """Return the values of a field of a policy; gates stand once for each, beside an empty one."""
    if name == "human_gates":
        return ["", *value]
    if isinstance(value, list | tuple):
        return [", ".join(map(str, value))]
    return ["" if value is None else text_of(value)]


@pytest.mark.parametrize("command", [*COMMANDS, LAUNCH_BY_POLICY], ids=c.type_of)
def test_a_command_posted_as_a_form_comes_out_equal(command: c.Command) -> None:
    posted = [("key", "k1"), *pairs(command), ("reason", "why"), ("dry_run", "true")]
    assert forms.command_of(c.type_of(command), Form(posted)) == command


@pytest.mark.parametrize(
    ("kind", "posted", "code", "named"),
    [
        ("pause", [], Reason.MISSING_FIELD, "orchestration"),
        ("pause", [("orchestration", "shop-o1"), ("mode", "gently")], Reason.INVALID_PAYLOAD, "mode"),
        ("pause", [("orchestration", "shop-o1"), ("other", "x")], Reason.INVALID_PAYLOAD, "other"),
        ("pause", [("orchestration", "shop-o1"), ("patch.flow.budget_usd", "3")], Reason.INVALID_PAYLOAD, "patch"),
        ("flag-set", [("flag", "cp.launch"), ("on", "perhaps")], Reason.INVALID_PAYLOAD, "on"),
        ("task-skip", [("orchestration", "shop-o1"), ("phase", "1"), ("task", "two"), ("target_revision", "1")], Reason.INVALID_PAYLOAD, "task"),
        ("task-skip", [("orchestration", "shop-o1"), ("phase", "1"), ("task", "1.5"), ("target_revision", "1")], Reason.INVALID_PAYLOAD, "task"),
        ("task-skip", [("orchestration", "shop-o1"), ("phase", "1"), ("task", "1"), ("target_revision", "-1")], Reason.INVALID_PAYLOAD, "revision"),
        ("task-skip", [("orchestration", "shop-o1"), ("phase", "1"), ("task", "1"), ("target_revision", "")], Reason.MISSING_FIELD, "revision"),
        ("set-policy", [("orchestration", "shop-o1"), ("target_revision", "1")], Reason.MISSING_FIELD, "patch"),
        ("gate-reject", [("orchestration", "shop-o1"), ("feedback", " ")], Reason.MISSING_FIELD, "feedback"),
        ("gate-reject", [("orchestration", "shop-o1"), ("feedback", "x" * 20_000)], Reason.TOO_LARGE, "feedback"),
        ("ticket-add", [("project", "shop"), ("title", "")], Reason.MISSING_FIELD, "title"),
        ("ticket-add", [("project", "shop"), ("title", "a\0b")], Reason.INVALID_PAYLOAD, "title"),
        ("ticket-add", [("project", "shop"), ("title", "t"), ("priority", "extreme")], Reason.INVALID_PAYLOAD, "priority"),
        ("design-mark", [("design", "shop-d1"), ("marker", "scope_bounded"), ("completed", "2")], Reason.INVALID_PAYLOAD, "completed"),
        ("launch<script>", [], Reason.UNKNOWN_ACTION, "launch"),
        ("Pause", [("orchestration", "shop-o1")], Reason.UNKNOWN_ACTION, "Pause"),
    ],
)
def test_a_bad_form_is_refused_and_says_what_is_wrong(kind: str, posted: list[tuple[str, str]], code: Reason, named: str) -> None:
    with pytest.raises(Problem) as refused:
        forms.command_of(kind, Form(posted))
    assert refused.value.code == code
    assert named in refused.value.message


def test_a_lone_half_of_a_surrogate_is_refused() -> None:
    with pytest.raises(Problem, match="Unicode"):
        forms.command_of("ticket-add", Form([("project", "shop"), ("title", "\ud800")]))


def launched(*posted: tuple[str, str]) -> dict[str, Any]:
    command = forms.command_of("launch", Form([("design", "shop-d1"), ("node", "auto"), *posted]))
    assert isinstance(command, c.Launch)
    return command.overrides


def test_no_gate_ticked_is_an_empty_list_and_no_field_is_no_override() -> None:
    assert launched(("overrides.flow.human_gates", "")) == {"flow": {"human_gates": []}}
    assert launched() == {}


def test_an_unticked_switch_is_false_and_a_ticked_one_true() -> None:
    name = "overrides.review.require_tests"
    switches = [f for f in forms.SECTIONS["review"].__annotations__ if "bool" in str(forms.SECTIONS["review"].__annotations__[f])]
    if switches:
        name = f"overrides.review.{switches[0]}"
    section, field = name.split(".")[1:]
    assert launched((name, "false")) == {section: {field: False}}
    assert launched((name, "false"), (name, "true")) == {section: {field: True}}


def test_an_empty_optional_number_is_none_and_a_comma_list_is_numbers() -> None:
    assert launched(("overrides.flow.budget_usd", "")) == {"flow": {"budget_usd": None}}
    assert launched(("overrides.flow.phases_enabled", "1, 3 4")) == {"flow": {"phases_enabled": [1, 3, 4]}}
    assert launched(("overrides.flow.phases_enabled", " ")) == {"flow": {"phases_enabled": None}}


def test_blocks_left_empty_is_the_default_and_none_is_nothing() -> None:
    base = [("orchestration", "shop-o1"), ("phase", "1"), ("after", "0"), ("subject", "s"), ("depends_on", ""), ("target_revision", "1")]
    left, none = (forms.command_of("task-insert", Form([*base, ("blocks", text)])) for text in ("", "none"))
    assert isinstance(left, c.TaskInsert)
    assert isinstance(none, c.TaskInsert)
    assert (left.blocks, none.blocks, left.depends_on) == (None, (), ())


def test_the_last_value_of_a_name_counts() -> None:
    form = Form([("dry_run", "false"), ("a", "1"), ("dry_run", "true")])
    assert (form.one("dry_run"), form.all("dry_run"), form.one("nothing", "-")) == ("true", ["false", "true"], "-")


NAMES = st.sampled_from(
    [*{f.name for kind in c.COMMAND_TYPES.values() for f in msgspec.structs.fields(kind)}, "patch.flow.budget_usd", "labels.x", "patch.x.y"]
)


@given(kind=st.sampled_from(sorted(c.COMMAND_TYPES)), posted=st.lists(st.tuples(NAMES | st.text(max_size=20), st.text(max_size=40)), max_size=12))
def test_any_form_is_a_command_or_a_problem(kind: str, posted: list[tuple[str, str]]) -> None:
    try:
        command = forms.command_of(kind, Form(posted))
    except Problem as problem:
        assert problem.status in range(400, 500)  # noqa: PT017
    else:
        assert c.type_of(command) == kind

"""Routing: exact names and prefixes, one notion of a valid model."""

from __future__ import annotations

import pytest

from bus_schemas.routing import DEFAULT_ROUTES, AgentOffer, agent_for, offered, takes

OFFERS = tuple(AgentOffer(name, "1.0", models) for name, models in DEFAULT_ROUTES.items())


@pytest.mark.parametrize(
    ("model", "agent"),
    [
        ("codex", "codex"),
        ("gpt-5", "codex"),
        ("o1-mini", "codex"),
        ("o3-mini", "codex"),
        ("o4-mini", "codex"),
        ("gemini-2.5-pro", "gemini"),
        ("opus", "claude"),
        ("sonnet", "claude"),
        ("haiku", "claude"),
        ("claude-opus-4", "claude"),
        ("shell", "shell"),
    ],
)
def test_a_model_goes_to_the_agent_of_the_table(model: str, agent: str) -> None:
    found = agent_for(OFFERS, model)
    assert found is not None
    assert found.name == agent


@pytest.mark.parametrize(
    "model", ["", "codex-1", "gpt", "o1", "o2-mini", "opus-4", "Opus", "opus ", "gemini", "shell-x", "claude", "*", "xgpt-5", "gpt*"]
)
def test_a_model_that_no_row_names_goes_nowhere(model: str) -> None:
    assert agent_for(OFFERS, model) is None


def test_an_exact_name_is_not_a_prefix_and_a_prefix_takes_itself() -> None:
    assert takes(("opus",), "opus")
    assert not takes(("opus",), "opus-4")
    assert takes(("gpt-*",), "gpt-")
    assert takes(("*",), "anything")
    assert not takes((), "opus")


def test_the_first_agent_that_takes_a_model_runs_it() -> None:
    first, second = AgentOffer("a", "1", ("x-*",)), AgentOffer("b", "1", ("x-1",))
    assert agent_for((first, second), "x-1") is first
    assert agent_for((second, first), "x-1") is second
    assert agent_for((second, first), "x-2") is first


def test_what_is_offered_is_named_once_in_order() -> None:
    assert offered((AgentOffer("a", "1", ("b", "a")), AgentOffer("b", "1", ("b", "c-*")))) == "a, b, c-*"
    assert offered(()) == "nothing"

"""Routing: which agent runs a model. Pure.

The table is part of a node's configuration; a node's beat says for each agent it has which models it takes, as exact
names or prefixes ending in `*`. There is one notion of a valid model: some agent of the node takes it.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct


class AgentOffer(Struct, frozen=True):
    """An agent that a node has: its name, its version, and the models it takes (exact, or a prefix ending in `*`)."""

    name: str
    version: str
    models: tuple[str, ...]


DEFAULT_ROUTES: dict[str, tuple[str, ...]] = {
    "codex": ("codex", "gpt-*", "o1-*", "o3-*", "o4-*"),
    "gemini": ("gemini-*",),
    "claude": ("opus", "sonnet", "haiku", "claude-*"),
    "shell": ("shell",),
}


def takes(patterns: Iterable[str], model: str) -> bool:
    """Return whether one of `patterns` matches `model`."""
    return any(model.startswith(p[:-1]) if p.endswith("*") else model == p for p in patterns)


def agent_for(offers: Iterable[AgentOffer], model: str) -> AgentOffer | None:
    """Return the first agent that takes `model`, or None."""
    return next((offer for offer in offers if takes(offer.models, model)), None)


def offered(offers: Iterable[AgentOffer]) -> str:
    """Return what the agents take, for a message; `nothing` when there is none."""
    return ", ".join(sorted({model for offer in offers for model in offer.models})) or "nothing"

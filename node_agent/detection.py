"""Which agents this machine has. Owns nothing; asks the installation."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from node_agent.agents.agent import Agent
from node_agent.agents.shell import Shell


def detected() -> tuple[Agent, ...]:
    """Return the agents that can be offered; `shell` is always among them."""
    try:
        ours = version("quarterdeck")
    except PackageNotFoundError:  # run from a folder, not installed
        ours = "unknown"
    return (Shell(ours),)

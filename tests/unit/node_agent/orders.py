"""Orders and end reports for the tests of the node agent's parts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from bus_schemas.orders import Inputs, RunKind, TaskBrief, WorkOrder, Workspace
from bus_schemas.policy import ReviewPolicy
from bus_schemas.reports import Ended, Outcome
from node_agent.attempt import Taken

AT = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


def order(kind: RunKind = RunKind.TASK, number: int = 1, **changes: Any) -> WorkOrder:
    inputs: dict[str, Any] = {
        "feature": "Greeter",
        "design_title": "Greeter",
        "design_body": "",
        "total_phases": 1,
        "phase": "1",
        "task": TaskBrief("1", 1, "greet"),
    }
    inputs |= changes.pop("inputs", {})
    workspace: dict[str, Any] = {"repo": "/nowhere", "slug": "greeter", "branch": "qd/greeter"} | changes.pop("workspace", {})
    fields: dict[str, Any] = {
        "v": 1,
        "type": "work-order",
        "run": f"shop-o1-r{number}",
        "attempt": 1,
        "nonce": f"n{number}",
        "kind": kind,
        "project": "shop",
        "orchestration": "shop-o1",
        "node": "a",
        "role": "executor",
        "model": "shell",
        "workspace": Workspace(**workspace),
        "inputs": Inputs(**inputs),
        "review": ReviewPolicy(),
        "policy_revision": 1,
        "timeout_s": 20.0,
        "action": "shop-a1",
        "issued_at": AT,
        **changes,
    }
    return WorkOrder(**fields)


def taken(number: int = 1) -> Taken:
    return Taken(order(number=number), f"claim-{number}", AT)


def ended(outcome: Outcome = Outcome.SUCCEEDED) -> Ended:
    return Ended(v=1, outcome=outcome, at=AT)

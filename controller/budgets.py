"""Budgets and quotas: what an orchestration may cost, and what the provider lets it (domain §7). Pure.

Both hold before the next run starts; what runs is let end. A quota burns no attempt and ends by itself at its reset time, if known.
"""

from __future__ import annotations

from bus_schemas import events as e
from bus_schemas.events import HoldKind
from bus_schemas.reasons import Reason
from bus_schemas.reports import Ended
from controller.draft import Draft
from controller.orchestration import Orchestration, Run


def field(o: Orchestration) -> str:
    """Return the name of the budget that is reached; of tokens where none is."""
    flow = o.active_policy.flow
    return "budget_usd" if flow.budget_usd is not None and (o.usd or 0.0) >= flow.budget_usd else "budget_tokens"


def over(o: Orchestration) -> str | None:
    """Say which budget is reached; None when there is room."""
    flow = o.active_policy.flow
    if flow.budget_usd is not None and (o.usd or 0.0) >= flow.budget_usd:
        return f"{o.id} has cost {o.usd:.2f} USD of a budget of {flow.budget_usd:g}"
    if flow.budget_tokens is not None and o.tokens >= flow.budget_tokens:
        return f"{o.id} has used {o.tokens} tokens of a budget of {flow.budget_tokens}"
    return None


def hold_when_reached(draft: Draft, o: Orchestration) -> None:
    """Hold an orchestration whose budget is reached."""
    text = over(o)
    if text is not None and o.is_live and o.hold(HoldKind.BUDGET) is None and o.hold(HoldKind.CANCELLING) is None:
        draft.emit(e.HoldSet(orchestration=o.id, hold=HoldKind.BUDGET, reason=text, reason_code=Reason.BUDGET_EXHAUSTED.value))


def hold_for_quota(draft: Draft, o: Orchestration, run: Run, ended: Ended) -> None:
    """Hold an orchestration whose provider refuses to do more for now."""
    until = "" if ended.resets_at is None else f" until {ended.resets_at:%Y-%m-%d %H:%M} UTC"
    text = f"the quota of {run.model or 'the agent'} is used up{until}: {ended.detail[:500]}"
    draft.emit(e.HoldSet(orchestration=o.id, hold=HoldKind.QUOTA, reason=text, reason_code=Reason.QUOTA_EXHAUSTED.value, until=ended.resets_at))

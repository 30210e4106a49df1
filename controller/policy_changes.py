"""Changes of the active policy (domain §7). Pure.

A patch names fields; the rest stays. The new revision is the old one plus one, also where nothing changed. Runs that start later
use it: an attempt that waits is taken back and ordered anew (see `Run.policy_revision`), one that has started keeps what it got.
"""

from __future__ import annotations

from bus_schemas import events as e
from bus_schemas.commands import PolicySet, RoleModelSet
from bus_schemas.decisions import Action, ActionStatus
from bus_schemas.ids import shown
from bus_schemas.policy import Policy, PolicyError, Role, models_of, resolve
from bus_schemas.reasons import Reason
from bus_schemas.routing import agent_for, offered
from controller import budgets, plan, progress, standing
from controller.draft import Draft, Refused
from controller.orchestration import Orchestration

PolicyCommand = PolicySet | RoleModelSet


def decide_policy(draft: Draft, command: PolicyCommand) -> Action:
    """Apply a change of policy; it is completed at once. Raises Refused."""
    o = draft.changeable(command.orchestration)
    if command.target_revision != o.policy_revision:
        text = f"the policy of {o.id} is at revision {o.policy_revision}, not {command.target_revision}{_who(o)}; read it again"
        raise Refused(Reason.REVISION_CONFLICT, text)
    policy = _patched(o, command)
    _routable(draft, o, policy)
    changed = tuple(path for path, _, _ in plan.differences(o.active_policy, policy))
    revision = o.policy_revision + 1
    draft.emit(e.PolicyChanged(orchestration=o.id, revision=revision, policy=policy, changed=changed))
    draft.emit(e.ActionCompleted(draft.action_id))
    budgets.hold_when_reached(draft, draft.orchestration(o.id))
    standing.order_anew(draft, draft.orchestration(o.id))
    progress.go_on(draft, draft.orchestration(o.id))
    return Action(id=draft.action_id, status=ActionStatus.ACCEPTED, orchestration=o.id, revision=revision)


def _who(o: Orchestration) -> str:
    """Say what the newest revision changed, for somebody whose change came too late."""
    if not o.policy_changes:
        return ""
    last = o.policy_changes[-1]
    values = [f"{path} = {new}" for path, _, new in plan.differences(o.policy, last.policy) if path in last.changed]
    return f" ({last.action} set {', '.join(values) or 'nothing new'})"


def _patched(o: Orchestration, command: PolicyCommand) -> Policy:
    if isinstance(command, RoleModelSet):
        if command.role not in set(Role):
            raise Refused(Reason.INVALID_PAYLOAD, f"role {shown(command.role)} is not known; allowed: {', '.join(Role)}")
        patch: dict[str, object] = {"model": {command.role: command.model}}
    else:
        patch = command.patch
    try:
        return resolve(o.active_policy, patch)
    except PolicyError as error:
        raise Refused(Reason.INVALID_PAYLOAD, str(error)) from error


def _routable(draft: Draft, o: Orchestration, policy: Policy) -> None:
    """Refuse a policy that brings in a model which the orchestration's node does not offer."""
    node = draft.context.plane.nodes.get(o.node)
    offers = () if node is None else node.agents
    before = models_of(o.active_policy)
    missing = [model for model in models_of(policy) if model not in before and agent_for(offers, model) is None]
    if missing:
        raise Refused(Reason.MODEL_UNROUTABLE, f"node {o.node} does not offer {', '.join(missing)}; it offers {offered(offers)}")

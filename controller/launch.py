"""Launch: the checks in their order, each with its own reason code, and what an accepted launch records (domain §4). Pure."""

from __future__ import annotations

from bus_schemas import events as e
from bus_schemas.commands import Launch
from bus_schemas.decisions import Action, ActionStatus
from bus_schemas.design import missing_markers, phase_problems
from bus_schemas.entities import Design, DesignStatus, Node, Ticket, TicketStatus
from bus_schemas.ids import BadId, design_id, node_id, shown, slug_of, ticket_id
from bus_schemas.orders import RunKind
from bus_schemas.policy import PRESETS, Policy, PolicyError, Preset, models_of, policy_hash, resolve, whole
from bus_schemas.reasons import Reason
from bus_schemas.routing import agent_for, offered
from controller import placement
from controller.draft import Context, Draft, Refused

TICKETS_BYTES_MAX = 128 * 1024
"""Of the texts of all tickets of a launch: they stand in every plan and task order, beside a design of up to 200 KiB."""

AUTO = "auto"
BRANCH_PREFIX = "qd/"
CUSTOM = "custom"
"""Preset origin of a policy that was given whole."""


def decide_launch(draft: Draft, command: Launch) -> Action:
    """Launch an orchestration. Raises Refused with the first check that fails."""
    design = _design(draft, command)
    policy, origin = _policy(command)
    nodes = draft.context.online_nodes()
    _routable(policy, nodes)
    node = _node(command, policy, nodes, draft.context)
    tickets = _tickets(draft, command)
    feature, slug = _feature(draft, command, design)
    branch = command.branch or BRANCH_PREFIX + slug
    if not branch.startswith(BRANCH_PREFIX) or ".." in branch or branch.endswith(("/", ".", ".lock")) or "//" in branch:
        raise Refused(Reason.INVALID_PAYLOAD, f"branch {shown(branch)} is not allowed: agents write only branches under {BRANCH_PREFIX}")
    orchestration = f"{draft.state.project}-o{draft.state.orchestration_count + 1}"
    draft.emit(
        e.OrchestrationLaunched(
            orchestration=orchestration,
            design=design.id,
            design_revision=design.revision,
            feature=feature,
            slug=slug,
            branch=branch,
            node=node.id,
            total_phases=design.phase_count,
            policy=policy,
            policy_hash=policy_hash(policy),
            preset_origin=origin,
            tickets=tuple(ticket.id for ticket in tickets),
            design_only=not tickets,
        )
    )
    for ticket in tickets:
        if ticket.status is TicketStatus.TODO:
            draft.emit(e.TicketMoved(ticket.id, TicketStatus.IN_PROGRESS, ticket.status, orchestration))
    draft.queue(draft.orchestration(orchestration), RunKind.INIT)
    warnings = () if tickets else ("design only: no ticket was named, so the agents see the design and nothing else",)
    return Action(
        id=draft.action_id,
        status=ActionStatus.ACCEPTED,
        warnings=warnings,
        design=design.id,
        orchestration=orchestration,
        node=node.id,
        revision=1,
    )


def _design(draft: Draft, command: Launch) -> Design:
    try:
        design = draft.state.designs.get(design_id(command.design))
    except BadId as error:
        raise Refused(Reason.INVALID_PAYLOAD, str(error)) from error
    if design is None:
        raise Refused(Reason.ENTITY_NOT_FOUND, f"there is no design {command.design} in project {draft.state.project}")
    if design.status is DesignStatus.ARCHIVED:
        raise Refused(Reason.INVALID_STATE, f"{design.id} is archived; move it to draft first")
    problems = readiness_problems(design)
    if problems:
        raise Refused(Reason.NOT_READY, f"{design.id} is not ready: {'; '.join(problems)}")
    return design


def readiness_problems(design: Design) -> tuple[str, ...]:
    """Return all that keeps a design from being launched; empty when it is ready."""
    missing = missing_markers(design.complexity, design.completed_markers)
    markers = (f"{design.complexity} needs the markers {', '.join(missing)}",) if missing else ()
    return markers + phase_problems(design.body)


def _policy(command: Launch) -> tuple[Policy, str]:
    try:
        if command.policy is not None:
            if command.overrides:
                raise Refused(Reason.INVALID_PAYLOAD, "a whole policy and overrides exclude each other")
            return whole(command.policy), CUSTOM
        if command.preset not in set(Preset):
            raise Refused(Reason.INVALID_PAYLOAD, f"no preset is called {shown(command.preset)}; allowed: {', '.join(Preset)}")
        preset = Preset(command.preset)
        return resolve(PRESETS[preset], command.overrides), preset.value
    except PolicyError as error:
        raise Refused(Reason.INVALID_PAYLOAD, str(error)) from error


def _routable(policy: Policy, nodes: list[Node]) -> None:
    missing = [model for model in models_of(policy) if not any(agent_for(node.agents, model) for node in nodes)]
    if missing and nodes:
        offers = offered(offer for node in nodes for offer in node.agents)
        raise Refused(Reason.MODEL_UNROUTABLE, f"no online node offers {', '.join(missing)}; offered: {offers}")


def _node(command: Launch, policy: Policy, nodes: list[Node], context: Context) -> Node:
    if command.node == AUTO:
        return _choose(command, policy, nodes, context)
    try:
        name = node_id(command.node)
    except BadId as error:
        raise Refused(Reason.INVALID_PAYLOAD, str(error)) from error
    node = context.plane.nodes.get(name)
    online = ", ".join(known.id for known in nodes) or "none"
    if node is None:
        raise Refused(Reason.ENTITY_NOT_FOUND, f"there is no node {name}; online: {online}")
    if name not in context.online:
        raise Refused(Reason.NODE_OFFLINE, f"node {name} is offline; online: {online}")
    if node.cordoned:
        raise Refused(Reason.NODE_OFFLINE, f"node {name} is cordoned and takes no new work")
    missing = placement.not_offered(models_of(policy), node)
    if missing:
        raise Refused(Reason.MODEL_UNROUTABLE, f"node {name} does not offer {', '.join(missing)}; it offers {offered(node.agents)}")
    return node


def _choose(command: Launch, policy: Policy, nodes: list[Node], context: Context) -> Node:
    fitting = [node for node in nodes if not node.cordoned and command.labels.items() <= node.labels.items()]
    if not fitting:
        wanted = ",".join(f"{key}={value}" for key, value in sorted(command.labels.items()))
        raise Refused(Reason.NODE_OFFLINE, f"no node is online and uncordoned{f' with labels {wanted}' if wanted else ''}")
    able = [node for node in fitting if not placement.not_offered(models_of(policy), node)]
    chosen = placement.least_loaded(able, context.load)
    if chosen is None:
        raise Refused(Reason.MODEL_UNROUTABLE, f"no fitting node offers all of {', '.join(models_of(policy))}")
    return chosen


def _tickets(draft: Draft, command: Launch) -> list[Ticket]:
    found: list[Ticket] = []
    missing: list[str] = []
    for text in dict.fromkeys(command.tickets):
        try:
            ticket = draft.state.tickets.get(ticket_id(text))
        except BadId as error:
            raise Refused(Reason.INVALID_PAYLOAD, str(error)) from error
        if ticket is None:
            missing.append(text)
        else:
            found.append(ticket)
    size_bytes = sum(len(ticket.title.encode()) + len(ticket.body.encode()) for ticket in found)
    if size_bytes > TICKETS_BYTES_MAX:
        raise Refused(Reason.TOO_LARGE, f"the texts of the tickets have {size_bytes} bytes together; at most {TICKETS_BYTES_MAX}")
    if missing:
        raise Refused(Reason.ENTITY_NOT_FOUND, f"no ticket {', '.join(missing)} in project {draft.state.project}")
    return found


def _feature(draft: Draft, command: Launch, design: Design) -> tuple[str, str]:
    if command.feature is not None and not command.feature.strip():
        raise Refused(Reason.MISSING_FIELD, "the feature is blank; leave it out to take the design's title")
    feature = (command.feature or design.title).strip()
    slug = slug_of(feature)
    if not slug:
        raise Refused(Reason.INVALID_PAYLOAD, f"feature {shown(feature)} has no letter or digit to make a branch name of")
    live = draft.state.live_slugs.get(slug)
    if live is not None:
        raise Refused(Reason.INVALID_STATE, f"{live} is live with the same feature {slug}; name another with --feature, or cancel it")
    return feature, slug

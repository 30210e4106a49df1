"""The limit's messages: the same types as Quarterdeck's, filled in without deciding anything. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec.structs import replace

from bench import work
from bus_schemas import codec, subjects
from bus_schemas import events as e
from bus_schemas.commands import CommandEnvelope
from bus_schemas.decisions import CORE_VERSION, Action, ActionStatus, CommandCause, Decision, LedgerMessage, Receipt, ReportCause, receipt_of
from bus_schemas.orders import Inputs, RunKind, WorkOrder, Workspace
from bus_schemas.policy import PRESETS, Preset, policy_hash, resolve
from bus_schemas.reports import Ended, InitResult, Outcome, Started

LEDGER_SUBJECT = subjects.ledger(work.PROJECT)
NONCE = "0123456789abcdef0123456789"
COMMIT = "0" * 40
OWNER = "limit-00000000"

_POLICY = resolve(PRESETS[Preset.BALANCED], work.OVERRIDES)
_POLICY_HASH = policy_hash(_POLICY)
_NOW = datetime(2026, 1, 1, 12, 0, 0, 123456, UTC)


def orchestration(number: int) -> str:
    """Return the orchestration of a launch."""
    return f"{work.PROJECT}-o{number}"


def _run(number: int) -> str:
    return f"{work.PROJECT}-o{number}-r1"


def _action(number: int) -> str:
    return f"{work.PROJECT}-a{number}"


def _node(number: int) -> str:
    return work.NODES[number % len(work.NODES)]


def _ledger(decision: Decision) -> bytes:
    return codec.encode(
        LedgerMessage(
            v=codec.VERSION,
            type="ledger-message",
            project=work.PROJECT,
            batch="0" * 32,
            by=OWNER,
            prev=codec.ZERO_HASH,
            plane_seq=1,
            core=CORE_VERSION,
            decisions=(decision,),
        )
    )


def _cause(envelope: CommandEnvelope) -> CommandCause:
    return CommandCause(
        id=envelope.id,
        type=envelope.type,
        key=envelope.key,
        by="local",
        via=envelope.via.value,
        project=work.PROJECT,
        received_at=_NOW,
        body_hash=_POLICY_HASH,
        body=envelope.body,
    )


def _accepted(envelope: CommandEnvelope, number: int) -> tuple[Decision, CommandCause, Action]:
    cause = _cause(envelope)
    action = Action(
        id=_action(number),
        status=ActionStatus.ACCEPTED,
        warnings=("design only: no ticket was named, so the agents see the design and nothing else",),
        design=work.DESIGN,
        orchestration=orchestration(number),
        node=_node(number),
        revision=1,
    )
    return Decision(at=_NOW, cause=cause, action=action), cause, action


def accepted(envelope: CommandEnvelope, number: int) -> bytes:
    """Return the ledger record of an accepted launch."""
    decision, _, _ = _accepted(envelope, number)
    slug = f"feature-{number}"
    launched = e.OrchestrationLaunched(
        orchestration=orchestration(number),
        design=work.DESIGN,
        design_revision=1,
        feature=slug,
        slug=slug,
        branch=f"qd/{slug}",
        node=_node(number),
        total_phases=1,
        policy=_POLICY,
        policy_hash=_POLICY_HASH,
        preset_origin="balanced",
        design_only=True,
    )
    queued = e.RunQueued(
        orchestration=orchestration(number),
        run=_run(number),
        attempt=1,
        nonce=NONCE,
        kind=RunKind.INIT,
        node=_node(number),
        role="node",
        model="",
        policy_revision=1,
    )
    return _ledger(replace(decision, events=(launched, queued)))


def receipt(envelope: CommandEnvelope, number: int, duplicate: bool) -> bytes:
    """Return the receipt of a launch."""
    decision, cause, action = _accepted(envelope, number)
    made: Receipt = receipt_of(decision, cause, action, None)
    return codec.encode(replace(made, duplicate=duplicate))


_ORDER = WorkOrder(
    v=codec.VERSION,
    type="work-order",
    run="",
    attempt=1,
    nonce=NONCE,
    kind=RunKind.INIT,
    project=work.PROJECT,
    orchestration="",
    node="",
    role="node",
    model="",
    workspace=Workspace(repo="/nowhere", slug="feature", branch="qd/feature"),
    inputs=Inputs(feature="feature", design_title="Bench", design_body=work.DESIGN_BODY, total_phases=1),
    review=_POLICY.review,
    policy_revision=1,
    timeout_s=1800.0,
    action="",
    issued_at=_NOW,
)


def order(number: int) -> tuple[str, bytes]:
    """Return the subject and the bytes of the order of a launch."""
    node = _node(number)
    made = replace(_ORDER, run=_run(number), orchestration=orchestration(number), node=node, action=_action(number))
    return subjects.work(node, made.run, 1), codec.encode(made)


def started(now: datetime) -> bytes:
    """Return the report of a start."""
    return codec.encode(Started(v=codec.VERSION, boot="0" * 32, claim="0" * 32, at=now))


def end(now: datetime) -> bytes:
    """Return the report of an end."""
    result = InitResult(base=COMMIT, path="/null/bench", branch="qd/feature")
    return codec.encode(Ended(v=codec.VERSION, outcome=Outcome.SUCCEEDED, at=now, result=result))


def ended(report_subject: str) -> bytes:
    """Return the ledger record of an end that was reported on a subject."""
    _, _, node, _, run, _, _, _ = report_subject.split(".")
    name = run.removesuffix("-r1")
    events = (
        e.RunStarted(orchestration=name, run=run, attempt=1, node=node, queue_ms=1.234),
        e.RunEnded(
            orchestration=name, run=run, attempt=1, node=node, outcome=Outcome.SUCCEEDED, result=InitResult(COMMIT, "/null/bench", "qd/feature")
        ),
        e.WorkspaceReady(orchestration=name, base=COMMIT, path="/null/bench", branch="qd/feature"),
        e.ActionCompleted(name.replace("-o", "-a")),
        e.OrchestrationMoved(orchestration=name, status=e.OrchestrationStatus.VALIDATING, previous=e.OrchestrationStatus.LAUNCHING),
    )
    cause = ReportCause(node=node, run=run, attempt=1, kind="ended", stored_at=_NOW)
    return _ledger(Decision(at=_NOW, cause=cause, because=name.replace("-o", "-a"), events=events))

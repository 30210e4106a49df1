"""The same evidence before the general verifier of `cli.audit`: a second judge, written by somebody else. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from bus_schemas import subjects
from cli.audit import evidence as audit
from cli.audit.folder import journal_of
from cli.audit.judge import verify
from tests.simulation.evidence import Call, Evidence, Record, Violation
from tests.simulation.jetstream import EPOCH_NS

EPOCH_S = EPOCH_NS / 1e9


def verdict_of(evidence: Evidence, nodes: Mapping[str, str]) -> list[Violation]:
    """Return what the verifier finds wrong; `nodes` says which node's journal a machine keeps."""
    verdict = verify(
        audit.Evidence(
            ledger=[_stored(record) for record in evidence.ledger],
            reports=[_stored(record) for record in evidence.stored if record.stream == subjects.REP],
            dead_letters=[_stored(record) for record in evidence.stored if record.stream == subjects.DLQ],
            calls=[_call(call) for call in evidence.calls],
            witness=[
                audit.Witnessed(
                    at=EPOCH_S + seen.at_s,
                    orchestration=seen.orchestration,
                    run=seen.run,
                    attempt=seen.attempt,
                    event="start" if seen.what == "start" else "end",
                    project=seen.project,
                    node=seen.node,
                    nonce=seen.nonce,
                    pid=seen.pid,
                )
                for seen in evidence.witness
            ],
            journals=[journal_of(nodes[machine], data) for machine, data in evidence.journals.items() if machine not in evidence.emptied],
            circumstances=audit.Circumstances(quiesced=True, clients_complete=True),
        )
    )
    return [Violation(f"audit {found.invariant}", f"{found.where}: {found.text}") for found in verdict.violations]


def _stored(record: Record) -> audit.Stored:
    return audit.Stored(record.seq, record.subject, EPOCH_S + record.at_s, record.data)


def _call(call: Call) -> audit.Call:
    receipt = call.receipt
    answer = None
    if receipt is not None:
        answer = audit.Answer(
            action=receipt.action,
            status=receipt.status.value,
            project=receipt.project,
            idempotency_key=receipt.idempotency_key,
            requested_by=receipt.requested_by,
            type=receipt.type,
            duplicate=receipt.duplicate,
            position=receipt.position,
            reason_code=receipt.reason_code,
            orchestration=receipt.orchestration,
        )
    outcomes: dict[str, audit.Outcome] = {"ok": "ok", "refused": "refused", "unknown": "unknown", "nothing-sent": "not-sent"}
    return audit.Call(
        client=call.client,
        at_s=call.sent_at_s,
        call_id=call.command,
        project=call.project,
        verb=call.kind,
        key=call.key,
        outcome=outcomes[call.outcome],
        done_at_s=None if call.done_at_s == float("inf") else call.done_at_s,
        principal=call.client,
        body_hash=call.body_hash,
        receipt=answer,
        dry_run=call.dry_run,
    )

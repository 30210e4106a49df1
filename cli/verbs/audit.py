"""`qd audit`: is the record what it was written as? Checked live, over an export, or over the evidence of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from cli.context import Ctx
from cli.exits import AUDIT_FAILED, UNREACHABLE, Exit
from cli.failure import Failure, usage
from cli.session import unless_refused

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from bus.connection import Bus
    from bus_schemas.chain import Notes
    from cli.audit.report import Audit

app = App(name="audit", help="Is the record what it was written as?")

SERVICE_KEY = "The raw ledger is read with the key of a service: --creds FILE. An operator's key is enough for `qd audit heads`."

Heads = Annotated[str | None, Parameter(help="Compare with heads that were noted before: the output of `qd audit heads`.")]


@app.command
async def verify(
    export: Annotated[str | None, Parameter(help="An export: the folder that `qd audit export` wrote. Without it: the ledger that is there.")] = None,
    /,
    *,
    evidence: Annotated[str | None, Parameter(help="Judge the evidence of a run in this folder instead (docs/evidence.md).")] = None,
    heads: Heads = None,
    signer: Annotated[str | None, Parameter(help="The public key that must have signed the export.")] = None,
    chain_only: Annotated[bool, Parameter(help="Only hashes, sequences and heads: little memory, no invariants.")] = False,
    ctx: Ctx,
) -> int:
    """Verify the ledger, an export of it, or the evidence of a run. Exit 11 if something is wrong.

    Every place that is not as it was written is named: message, project, expected and found hash.
    """
    if evidence is not None and (export is not None or heads is not None or signer is not None):
        raise usage("--evidence is judged alone, without an export, --heads and --signer")
    if signer is not None and export is None:
        raise usage("--signer is for an export")
    ctx.stay()
    if evidence is not None:
        return _told(ctx, _of_evidence(Path(evidence)))
    noted = _noted(heads)
    if export is not None:
        return _told(ctx, _of_export(Path(export), noted, signer, chain_only))
    return _told(ctx, await _of_ledger(ctx, noted, chain_only))


@app.command
async def export(
    folder: str,
    /,
    *,
    project: Annotated[str | None, Parameter(help="Only this project, with the registry `plane`.")] = None,
    since: Annotated[str | None, Parameter(help="Only from this position on, like 418.")] = None,
    sign: Annotated[str | None, Parameter(help="Sign it with the nkey in this seed file.")] = None,
    ctx: Ctx,
) -> None:
    """Write the stored messages, word for word, to a folder that can be verified anywhere.

    The folder must not exist yet; it is there when it is complete. `qd audit verify FOLDER` needs no bus.
    """
    from importlib.metadata import version

    from bus.identity import BadIdentity
    from bus_schemas.decisions import Position
    from bus_schemas.ids import project_id
    from cli.arguments import safe
    from cli.audit import exporter

    try:
        since_seq = 1 if since is None else max(1, Position.parse(since).seq)
    except ValueError as error:
        raise usage(f"--since: {error}") from error
    name = None if project is None else safe(project_id, project)
    bus = await ctx.bus()
    asked = exporter.Asked(name, since_seq, bus.principal, f"quarterdeck {version('quarterdeck')}", None if sign is None else Path(sign))
    try:
        manifest = await _reading(bus, exporter.write(bus, Path(folder), asked, ctx.out.warn))
    except FileExistsError as error:
        raise usage(str(error)) from error
    except (OSError, BadIdentity) as error:
        raise usage(f"the export cannot be written: {error}") from error
    count, size_bytes = sum(file.lines for file in manifest.files), sum(file.bytes for file in manifest.files)
    facts = {"folder": folder, "messages": count, "bytes": size_bytes, "stream_last_seq": manifest.stream_last_seq, "signer": manifest.signer}
    if not ctx.out.one("export", {**facts, "project": name, "since_seq": since_seq, "heads": manifest.heads}, folder):
        ctx.out.line(f"{count} messages of {len(manifest.heads)} projects, {size_bytes} bytes, are in {folder}")
        ctx.out.note(f"`qd audit verify {folder}` verifies it, anywhere")


@app.command(name="heads")
async def show_heads(*, ctx: Ctx) -> None:
    """Show the newest message of each project with its hash, to be kept elsewhere.

    `qd audit verify --heads FILE` compares with them later. One line a project: name, sequence, SHA-256; the first line stands for all.
    """
    from cli.audit.live import timeline_heads

    view = (witness := await timeline_heads(ctx)).view
    items = [{"project": head.project, "seq": head.seq, "sha256": head.sha256} for head in witness.notes.heads]
    facts = {"stream_created": view.stream_created, "last_seq": view.last_seq, "rolling_hash": view.rolling_hash}
    if ctx.out.one("heads", {**facts, "heads": items}, view.rolling_hash):
        return
    ctx.out.line(f"* {view.last_seq} {view.rolling_hash}")
    for head in witness.notes.heads:
        ctx.out.line(f"{head.project} {head.seq} {head.sha256}")


# ── what is audited ──────────────────────────────────────────────────────────────────────────────────────────────────


async def _of_ledger(ctx: Ctx, noted: Notes, chain_only: bool) -> Audit:
    """Return the audit of the ledger on the bus."""
    from bus.reader import stream_state
    from bus.walk import walk
    from bus_schemas.chain import Chain, Notes
    from bus_schemas.subjects import LEDGER
    from bus_schemas.violation import Violation
    from cli.audit import live, report
    from cli.audit.history import History
    from cli.audit.judge import judge

    bus = await ctx.bus()
    await _reading(bus, stream_state(bus, LEDGER))  # first: an identity that may not read it hears so at once
    notes = noted
    services: list[report.Check] = []
    violations: list[Violation] = []
    try:
        witness = await live.timeline_heads(ctx)
        notes = Notes((*noted.heads, *witness.notes.heads), (*noted.rolling, *witness.notes.rolling))
        if witness.alarm is not None:
            violations.append(Violation(report.TIMELINE, witness.alarm.project or "the ledger", witness.alarm.text))
        services.append(report.of_service(report.TIMELINE, violations))
    except Failure as failure:
        services.append(report.of_service(report.TIMELINE, [], failure.message))
    stopped, why_not = await _stopped(ctx)
    violations += stopped
    services.append(report.of_service(report.CONTROLLER, stopped, why_not))
    chain, history = Chain(notes=notes), None if chain_only else History()
    take = None if history is None else lambda stored: history.take(live.evidence(stored))
    violations += await _reading(bus, walk(bus, chain, take, ctx.out.progress))
    ctx.out.progress("")
    violations += chain.findings
    checks = [*report.of_chain(chain, tuple(violations)), *services]
    if history is not None:
        verdict = judge(live.evidence_of(await _reading(bus, live.reports(bus))), history)
        violations += verdict.violations
        checks += report.of_verdict(verdict)
    facts = {"last_seq": chain.last_seq, "rows": chain.rows, "projects": len(chain.heads)}
    return report.Audit(f"the ledger at {bus.url}", tuple(checks), tuple(violations), facts)


async def _stopped(ctx: Ctx) -> tuple[list[Any], str | None]:
    """Return the projects that the controller has stopped, as violations, or why it cannot be asked."""
    from bus_schemas.violation import Violation
    from cli.audit import report

    try:
        status = await ctx.ask("status")
    except Failure as failure:
        return [], failure.message
    return [Violation(report.CONTROLLER, project, why) for project, why in status["stopped_projects"].items()], None


def _of_export(folder: Path, noted: Notes, signer: str | None, chain_only: bool) -> Audit:
    from cli.audit import report
    from cli.audit.folder import load
    from cli.audit.judge import verify as judged
    from cli.audit.reading import ReadExport

    if not folder.is_dir():
        raise usage(f"{folder} is not a folder: an export is one that `qd audit export` wrote")
    read = ReadExport(folder, noted, signer)
    read.read()
    audit = report.of_export(read.judged())
    manifest = read.manifest
    if chain_only or not audit.is_sound or manifest is None or manifest.project is not None or manifest.since_seq > 1:
        return audit  # invariants are about whole ledgers
    found = load(folder)
    whole = manifest.files[-1].first_seq in (None, 1) and manifest.files[-1].lines == (manifest.files[-1].last_seq or 0)
    verdict = judged(found if whole else found._replace(reports=None))
    return audit._replace(checks=(*audit.checks, *report.of_verdict(verdict)), violations=(*audit.violations, *verdict.violations))


def _of_evidence(folder: Path) -> Audit:
    import msgspec

    from cli.audit import report
    from cli.audit.folder import Unreadable
    from cli.audit.halves import verify

    try:
        verdict = verify(folder)
    except Unreadable as error:
        raise Failure(AUDIT_FAILED, str(error)) from error
    return report.Audit(f"evidence {folder}", report.of_verdict(verdict), verdict.violations, {"figures": msgspec.to_builtins(verdict.figures)})


def _noted(path: str | None) -> Notes:
    from bus_schemas.chain import NO_NOTES
    from cli.arguments import document
    from cli.audit.notes import BadNotes, heads_of

    if path is None:
        return NO_NOTES
    try:
        return heads_of(document("--heads", path, limit_bytes=64 * 1024**2), path)
    except BadNotes as error:
        raise usage(f"--heads {path}: {error}") from error


async def _reading(bus: Bus, work: Coroutine[Any, Any, Any]) -> Any:
    """Return what reading the raw streams returns. Raises Failure where this identity may not, or the bus does not answer."""
    from bus.connection import ApiFailure
    from bus.errors import Unavailable

    try:
        return await unless_refused(bus, work)
    except (Unavailable, ApiFailure) as error:
        raise Failure(UNREACHABLE, f"the streams of {bus.url} cannot be read: {error}", hint=SERVICE_KEY) from error
    except Failure as failure:
        raise Failure(failure.code, failure.message, hint=SERVICE_KEY) from failure


# ── what is said of it ───────────────────────────────────────────────────────────────────────────────────────────────


def _told(ctx: Ctx, audit: Audit) -> int:
    """Print the audit; return the exit code, or raise Failure when something is wrong."""
    from cli.audit import report

    if not ctx.out.one("audit", report.as_object(audit), "sound" if audit.is_sound else "unsound"):
        ctx.out.table(report.table(audit), empty="")
        missing = report.unchecked(audit)
        for text in missing:
            ctx.out.detail(f"not wholly checked: {text}")
        if missing:
            ctx.out.note(f"{_count(len(missing), 'check')} had less evidence than there could be: --verbose says which")
        _print_violations(ctx, audit)
    if audit.is_sound:
        ctx.out.note(f"{audit.source} is sound in all that was checked")
        return Exit.DONE
    raise Failure(AUDIT_FAILED, f"{audit.source} is not sound: {_count(len(audit.violations), 'violation')}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _print_violations(ctx: Ctx, audit: Audit) -> None:
    from cli.audit import report
    from cli.text import cell

    for found in audit.violations[: report.SHOWN_MAX]:
        ctx.out.lines([(f"✗ {found.invariant}  {cell(found.where)}", "red"), (f"  {cell(found.text)}", "")])
    more = len(audit.violations) - report.SHOWN_MAX
    if more > 0:
        ctx.out.note(f"{more} more are in -o json")

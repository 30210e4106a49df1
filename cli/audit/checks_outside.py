"""Checks of what lies around the system: recovery, processes, the user's repository, secrets (I15, I16, I17, I18). Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from cli.audit.canary import forms
from cli.audit.case import Case
from cli.audit.evidence import RepositoryState
from cli.audit.verdict import Finding, Recovery

OUR_REFS = ("refs/heads/qd/", "refs/qd/")
"""What agents may write in a user's repository."""


def recovery_times(case: Case) -> dict[str, list[float | None]]:
    """Return for each class of faults the seconds from each heal to the first answer after it; None where none came."""
    answers = sorted(call.done_at_s for call in case.calls if call.done_at_s is not None and call.outcome in ("ok", "refused"))
    found: dict[str, list[float | None]] = {}
    for fault in case.faults:
        healed_at_s = fault.at_s if fault.healed_at_s is None else fault.healed_at_s
        index = bisect_left(answers, healed_at_s)
        found.setdefault(fault.kind, []).append(answers[index] - healed_at_s if index < len(answers) else None)
    return found


def recovery(case: Case) -> dict[str, Recovery]:
    """Return the figures of recovery by class of fault."""
    figures: dict[str, Recovery] = {}
    for kind, times in recovery_times(case).items():
        known = sorted(time for time in times if time is not None)
        at = [known[min(len(known) - 1, int(share * len(known)))] if known else None for share in (0.5, 0.99, 1.0)]
        figures[kind] = Recovery(len(times), at[0], at[1], at[2], len(times) - len(known))
    return figures


def recovers(case: Case) -> Iterator[Finding]:
    """I15: after a fault of a class that has a bound is healed, the first answer comes within it."""
    for kind, times in recovery_times(case).items():
        bound_s = case.circumstances.recovery_bounds_s.get(kind)
        for time_s in times:
            if bound_s is not None and time_s is not None and time_s > bound_s:
                yield Finding(kind, f"the first answer came {time_s:.3f} s after the heal; at most {bound_s:g} s")


def no_survivors(case: Case) -> Iterator[Finding]:
    """I16: when nothing is to run any more, no process of an agent is there, not even as a zombie."""
    for process in case.survivors:
        yield Finding(
            str(process.pid), f"{process.name or 'a process'} of {process.run or 'an agent'} is still there ({process.state or 'state not known'})"
        )


def repositories_untouched(case: Case) -> Iterator[Finding]:
    """I17: of a user's repository nothing changed but refs under `qd/`."""
    for repository in case.repositories:
        for what, before, after in _differences(repository.before, repository.after):
            yield Finding(repository.path, f"{what} was {before or 'not there'} and is {after or 'gone'}")


def _differences(before: RepositoryState, after: RepositoryState) -> Iterator[tuple[str, str, str]]:
    for ref in sorted({*before.refs, *after.refs}):
        if not ref.startswith(OUR_REFS) and before.refs.get(ref) != after.refs.get(ref):
            yield ref, before.refs.get(ref, ""), after.refs.get(ref, "")
    for name in sorted({*before.files, *after.files}):
        if before.files.get(name) != after.files.get(name):
            yield f"file {name}", before.files.get(name, ""), after.files.get(name, "")
    if before.head != after.head:
        yield "HEAD", before.head, after.head
    if before.index != after.index:
        yield "the index", before.index, after.index


def no_canaries(case: Case) -> Iterator[Finding]:
    """I18: no planted secret stands anywhere: as it is, in base64, in a URL, or escaped in JSON."""
    needles = {form: canary for canary in case.canaries for form in forms(canary)}
    for seq, form in case.history.leaks:
        yield Finding(f"ledger {seq}", f"the secret {needles.get(form, '')[:4]}… stands in it")
    for name, data in _sinks(case):
        for form, canary in needles.items():
            if form in data:
                yield Finding(name, f"the secret {canary[:4]}… stands in it")


def _sinks(case: Case) -> Iterator[tuple[str, bytes]]:
    yield from case.sinks.items()
    for noun, stream in (("report", case.reports), ("command", case.commands), ("dead letter", case.dead_letters)):
        for stored in stream:
            yield f"{noun} {stored.seq}", stored.data

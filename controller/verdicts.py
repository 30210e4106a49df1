"""How a review is judged by the policy's rules, whatever the reviewer said (domain §5). Pure."""

from __future__ import annotations

from bus_schemas.policy import ReviewPolicy
from bus_schemas.reports import Finding, ReviewResult, Verdict


def open_findings(findings: tuple[Finding, ...], policy: ReviewPolicy, repairs: int) -> tuple[Finding, ...]:
    """Return the findings that no valid override covers.

    An override counts only where the policy allows them, and with `require_fix_first` only after one repair.
    """
    overrides_count = policy.allow_rare_override and (repairs >= 1 or not policy.require_fix_first)
    return tuple(finding for finding in findings if finding.override_reason is None or not overrides_count)


def judged(result: ReviewResult, policy: ReviewPolicy, *, repairs: int) -> Verdict:
    """Return `pass` or `gaps`: with `hard_block_detectors` a pass with an open finding counts as gaps."""
    if result.verdict is not Verdict.PASS:
        return Verdict.GAPS
    if policy.hard_block_detectors and open_findings(result.findings, policy, repairs):
        return Verdict.GAPS
    return Verdict.PASS

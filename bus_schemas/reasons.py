"""Reason codes: why a request was refused or a run failed, with what to do about it. Pure.

An open enum on the wire (a reader keeps codes it does not know), closed in code. Each refusal and each failure has
exactly one, chosen where it arises. The category is the prefix. `qd explain CODE` prints the text kept here.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Reason(StrEnum):
    """Every reason code of the contract."""

    MISSING_FIELD = "validation_missing_field"
    INVALID_PAYLOAD = "validation_invalid_payload"
    UNKNOWN_ACTION = "validation_unknown_action"
    REVISION_CONFLICT = "validation_revision_conflict"
    INVALID_STATE = "validation_invalid_state"
    ENTITY_NOT_FOUND = "validation_entity_not_found"
    NODE_OFFLINE = "validation_node_offline"
    IDEMPOTENCY_MISMATCH = "validation_idempotency_mismatch"
    NOT_READY = "validation_not_ready"
    MODEL_UNROUTABLE = "validation_model_unroutable"
    FEATURE_DISABLED = "validation_feature_disabled"
    NOT_AUTHORIZED = "validation_not_authorized"
    TOO_LARGE = "validation_too_large"
    DEPENDENCY_INVALID = "validation_dependency_invalid"
    EXPIRED = "validation_expired"

    CLI_SPAWN_FAILED = "dispatch_cli_spawn_failed"
    CLI_EXIT_NONZERO = "dispatch_cli_exit_nonzero"
    CLI_NOT_FOUND = "dispatch_cli_not_found"
    PAYLOAD_INVALID = "dispatch_payload_invalid"
    UNKNOWN_TYPE = "dispatch_unknown_type"
    NODE_LOST = "dispatch_node_lost"
    TIMEOUT = "dispatch_timeout"
    CANCELLED = "dispatch_cancelled"

    INIT_FAILED = "execution_init_failed"
    OUTPUT_MALFORMED = "execution_output_malformed"
    OUTPUT_TOO_LARGE = "execution_output_too_large"
    VERIFY_FAILED = "execution_verify_failed"
    REVIEW_EXHAUSTED = "execution_review_exhausted"
    QUOTA_EXHAUSTED = "execution_quota_exhausted"
    BUDGET_EXHAUSTED = "execution_budget_exhausted"
    CONSENSUS_DISAGREEMENT = "execution_consensus_disagreement"
    POLICY_WRITE_FAILED = "execution_policy_write_failed"
    TASK_MUTATION_FAILED = "execution_task_mutation_failed"
    MERGE_CONFLICT = "execution_merge_conflict"
    KILLED_BY_SIGNAL = "execution_killed_by_signal"
    INTERNAL = "execution_internal"


class Explanation(NamedTuple):
    """What a reason code means and what an operator does next."""

    cause: str
    next_step: str


EXPLANATIONS: dict[Reason, Explanation] = {
    Reason.MISSING_FIELD: Explanation(
        "A compulsory field of the request is missing or blank.", "Send the request again with the field named in the message and a new key."
    ),
    Reason.INVALID_PAYLOAD: Explanation(
        "The request has an unknown field, a value of the wrong type, or a value that is not allowed.",
        "Correct what the message names (all errors are listed together) and send it with a new key.",
    ),
    Reason.UNKNOWN_ACTION: Explanation("No such action exists.", "`qd --help` lists the actions; an old client may be newer than this controller."),
    Reason.REVISION_CONFLICT: Explanation(
        "Somebody changed it since you read it: the revision you named is not the current one.",
        "Read it again, check that your change still makes sense, and repeat it with the current revision.",
    ),
    Reason.INVALID_STATE: Explanation(
        "The action does not fit the state that the thing is in; the message names that state.",
        "`qd show ID` tells the state, `qd why ID` what would free it.",
    ),
    Reason.ENTITY_NOT_FOUND: Explanation(
        "The project, design, ticket, orchestration, node or gate does not exist, or belongs to another project.",
        "Check the id with the matching `qd ... ls`.",
    ),
    Reason.NODE_OFFLINE: Explanation(
        "The node is unknown, was not seen for 10 s, or takes no new work.",
        "`qd node ls` shows who is online; start the node agent or choose another node.",
    ),
    Reason.IDEMPOTENCY_MISMATCH: Explanation(
        "This idempotency key was used before for a different request in this project.", "Use a new key for a new request; keys are never freed."
    ),
    Reason.NOT_READY: Explanation(
        "The design is not ready to be launched: markers are missing or it has no phase; all errors are listed together.",
        "`qd design mark` sets markers; phases are the headings `## Phase N`.",
    ),
    Reason.MODEL_UNROUTABLE: Explanation(
        "No online node (or not the node you named) offers an agent for this model.",
        "`qd node show NAME` lists what it offers. On a machine without agent CLIs launch with `--model shell`.",
    ),
    Reason.FEATURE_DISABLED: Explanation(
        "The feature flag for this kind of command is off.", "`qd flag ls` shows the flags; `qd flag set NAME on` turns one on."
    ),
    Reason.NOT_AUTHORIZED: Explanation("This identity may not do that.", "Use credentials of an operator who may."),
    Reason.TOO_LARGE: Explanation("A text or a message is over its limit; the message names the limit.", "Shorten it."),
    Reason.DEPENDENCY_INVALID: Explanation(
        "A task depends on a task that does not exist or is skipped, or the dependencies form a cycle.",
        "Correct the dependencies that the message names.",
    ),
    Reason.EXPIRED: Explanation(
        "The request was older than its `valid_for_s` when it was decided; it was not executed and its key is free.",
        "Send it again if you still want it.",
    ),
    Reason.CLI_SPAWN_FAILED: Explanation(
        "The agent's process could not be started.", "Read the run's detail with `qd logs`; check the agent's installation on the node."
    ),
    Reason.CLI_EXIT_NONZERO: Explanation("The agent's process ended with an exit code other than 0.", "`qd logs ID --run RUN` shows its output."),
    Reason.CLI_NOT_FOUND: Explanation(
        "The agent's program is not on the node.", "Install it there, or launch with models of an agent the node offers."
    ),
    Reason.PAYLOAD_INVALID: Explanation(
        "The node could not use the work order.", "Node and controller may be of different versions; upgrade the node."
    ),
    Reason.UNKNOWN_TYPE: Explanation("The node does not know this kind of run.", "Upgrade the node."),
    Reason.NODE_LOST: Explanation(
        "The node or the process went away between the start of the run and its report; how far it came is not known.",
        "A new attempt is made while attempts are left; commits that were pushed are kept under refs/qd/.",
    ),
    Reason.TIMEOUT: Explanation(
        "The run was still going at its time limit and was stopped with all its descendants.", "Raise `flow.run_timeout_s`, or make the task smaller."
    ),
    Reason.CANCELLED: Explanation("The run was stopped because an operator paused or cancelled.", "Nothing; resume continues where it stood."),
    Reason.INIT_FAILED: Explanation(
        "The node could not make the clone or the branch.", "Check that the node reaches the project's repository and default branch."
    ),
    Reason.OUTPUT_MALFORMED: Explanation(
        "The agent's result was missing or not of the agreed form.", "One more attempt is made with the error text; then an operator decides."
    ),
    Reason.OUTPUT_TOO_LARGE: Explanation("The agent's result is over 256 KiB.", "Results are summaries; long output belongs to the log."),
    Reason.VERIFY_FAILED: Explanation(
        "Reserved: no run ends with it, since a check that fails is a good report.",
        "Its tail is an issue of the phase, which is repaired; where that does not help, `execution_review_exhausted` follows.",
    ),
    Reason.REVIEW_EXHAUSTED: Explanation(
        "The phase was still not accepted after two repairs and both remediation phases, or a task after three rejections.",
        "Read the issues with `qd timeline ID`; change the design and launch again.",
    ),
    Reason.QUOTA_EXHAUSTED: Explanation("The provider's usage limit is reached.", "It resumes at the reset time, or by `qd resume`."),
    Reason.BUDGET_EXHAUSTED: Explanation(
        "The orchestration's budget is reached.",
        "Raise it with `qd policy set ID flow.budget_usd=N` or `flow.budget_tokens=N`, then `qd resume ID`.",
    ),
    Reason.CONSENSUS_DISAGREEMENT: Explanation(
        "The two reviewers disagree.", "`qd gate show ID` shows both verdicts; approve (pass) or reject (gaps)."
    ),
    Reason.POLICY_WRITE_FAILED: Explanation(
        "Reserved: a change of policy is accepted and recorded in one write, so that it cannot fail afterwards.", "Repeat it with the same key."
    ),
    Reason.TASK_MUTATION_FAILED: Explanation(
        "Reserved: a change of tasks is accepted and recorded in one write, so that it cannot fail afterwards.", "Repeat it with the same key."
    ),
    Reason.MERGE_CONFLICT: Explanation(
        "The commits of tasks that ran side by side do not merge.", "Make one task depend on the other, or set `flow.max_parallel_tasks` to 1."
    ),
    Reason.KILLED_BY_SIGNAL: Explanation(
        "The agent's process was killed by a signal that we did not send.", "Check memory and the node's kernel log."
    ),
    Reason.INTERNAL: Explanation("Something we did not expect.", "Report it, with the output of `qd doctor`."),
}


def category(code: str) -> str:
    """Return `validation`, `dispatch` or `execution`, also for codes this version does not know."""
    return code.split("_", 1)[0]

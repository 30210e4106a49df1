"""Views as humans see them, and receipts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from bus_schemas.decisions import ActionStatus, Receipt
from bus_schemas.policy import FlowPolicy, Policy
from bus_schemas.routing import AgentOffer
from bus_schemas.views import DesignView, GateView, HoldView, NodeView, OrchestrationView, PhaseView, TaskView, TimelineRow
from cli import receipts
from cli.render import catalogue, fleet, history, orchestrations

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def view(value: Any) -> dict[str, Any]:
    """Return a view as it comes over the bus."""
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(value))
    return found


def orchestration(**changes: Any) -> dict[str, Any]:
    task = TaskView("1", 1, "write it", "", "completed", None, (), 2, 1, None, 1, 0, ("a" * 40, "b" * 40))
    waiting = TaskView("1", 2, "test it", "", "in_progress", "opus", (1,), 2, 2, None, 2, 0, None)
    whole = OrchestrationView(
        id="shop-o12",
        project="shop",
        design="shop-d3",
        design_revision=4,
        feature="Greeting",
        slug="greeting",
        branch="qd/greeting",
        node="mac-mini-1",
        status="executing",
        hold=None,
        holds=(),
        phase="1",
        total_phases=2,
        design_only=True,
        tickets=(),
        preset_origin="balanced",
        policy_snapshot_hash="sha256-" + "1b" * 32,
        policy_revision=1,
        requested_by="ana",
        action="shop-a44",
        reason_code=None,
        message="",
        head=None,
        cost_usd=1.5,
        tokens=12,
        created_at=NOW - timedelta(minutes=3),
        ended_at=None,
        position="418.0",
        policy_snapshot=Policy(),
        active_policy=Policy(),
        plan=(PhaseView("1", "executing", 1, 1, "failed", (task, waiting)),),
    )
    return view(msgspec.structs.replace(whole, **changes))


GATE = HoldView("gate", "gate plan waits for an operator", NOW - timedelta(minutes=2))


def test_status_and_hold_of_an_orchestration_are_never_one_word() -> None:
    table = orchestrations.table([orchestration(hold=GATE, holds=(GATE,))], NOW)
    row = dict(zip((column.title for column in table.columns), table.rows[0], strict=True))
    assert row["STATUS"] == "▶ executing"
    assert row["HOLD"] == "gate: gate plan waits for an operator"
    assert (row["ID"], row["PHASE"], row["TOOK"], row["COST"], row["LAUNCHED"]) == ("shop-o12", "1/2", "3m00s", "$1.50", "3m00s ago")


def test_an_orchestration_is_shown_with_its_plan_and_without_a_next_step_when_none_is_needed() -> None:
    lines = [text for text, _ in orchestrations.lines(orchestration(), NOW, UTC)]
    assert lines[0] == "shop-o12  Greeting"
    assert "  design    shop-d3 revision 4   tickets none (design only)" in lines
    assert "  phase 1   ▶ executing   check failed   repairs 1   plan revision 1" in lines
    assert "    ✓ completed     1  write it  aaaaaaaa..bbbbbbbb" in lines
    assert "    ▶ in_progress   2  test it  after 1  opus  2 attempts" in lines
    assert not any("next" in line for line in lines)


def test_an_orchestration_that_waits_for_a_human_says_which_verb_helps() -> None:
    def step(kind: str) -> str:
        hold = HoldView(kind, "", NOW)
        return " ".join(orchestrations.next_steps(orchestration(hold=hold, holds=(hold,))))

    assert "qd gate approve shop-o12" in step("gate")
    assert "qd retry shop-o12" in step("blocked")
    assert "qd resume shop-o12" in step("paused")
    assert "qd node show mac-mini-1" in step("node_lost")
    assert step("pausing") == ""
    assert "flow.budget_tokens=N" in step("budget")
    spent = Policy(flow=FlowPolicy(budget_usd=1.0))
    hold = HoldView("budget", "", NOW)
    step_of_the_other = " ".join(orchestrations.next_steps(orchestration(hold=hold, holds=(hold,), active_policy=spent)))
    assert "flow.budget_usd=N" in step_of_the_other


def test_progress_says_status_hold_phase_task_time_and_cost_in_one_line() -> None:
    text = orchestrations.progress(orchestration(hold=GATE, holds=(GATE,)), NOW)
    assert text == "▶ executing · held: gate · phase 1 of 2 · 1/2 tasks · test it · 3m00s · $1.50"


def row(type_: str, **changes: Any) -> dict[str, Any]:
    whole = TimelineRow(
        position="418.3",
        at=NOW,
        project="shop",
        orchestration="shop-o12",
        category="event",
        type=type_,
        by=None,
        via=None,
        summary="something happened",
        status=None,
        reason_code=None,
        phase=None,
        task=None,
        run=None,
        attempt=None,
        node=None,
        action=None,
        detail={},
    )
    return view(msgspec.structs.replace(whole, **changes))


def test_a_follower_is_told_requests_outcomes_and_faults_and_not_the_queues() -> None:
    told = [
        row("launch", category="action"),
        row("task-moved", status="completed", task=1),
        row("verdict-recorded", status="pass"),
        row("verdict-recorded", status="gaps", task=1),
        row("run-ended", status="failed", reason_code="dispatch_timeout"),
        row("orchestration-moved", status="complete"),
        row("gate-opened"),
    ]
    untold = [
        row("run-queued"),
        row("run-dispatched"),
        row("run-ended", status="succeeded"),
        row("task-moved", status="in_progress", task=1),
        row("verdict-recorded", status="pass", task=1),
        row("action-completed", category="action"),
        row("hold-set", status="gate"),
    ]
    assert all(history.is_told(known) for known in told)
    assert not any(history.is_told(known) for known in untold)


def test_a_row_of_the_timeline_names_its_reason_code_once() -> None:
    assert history.line(row("run-ended", reason_code="dispatch_timeout"), UTC) == (
        "12:00:00     418.3  something happened  [dispatch_timeout]",
        "red",
    )
    said = row("run-ended", reason_code="dispatch_timeout", summary="it ended: dispatch_timeout")
    assert history.line(said, UTC)[0] == "12:00:00     418.3  it ended: dispatch_timeout"


def test_a_column_without_a_reason_code_is_left_out() -> None:
    assert [column.title for column in history.rows([row("launch")], UTC).columns][-1] == "STATUS"
    assert [column.title for column in history.rows([row("launch", reason_code="x")], UTC).columns][-1] == "REASON"


def test_columns_of_the_same_name_stay_apart_as_objects() -> None:
    answer = {"columns": ["n", "n", "n_2"], "types": ["BIGINT"] * 3, "rows": [[1, 2, 3]]}
    assert history.items(answer) == [{"n": 1, "n_2": 2, "n_2_2": 3}]


def test_one_long_row_of_a_table_is_turned() -> None:
    answer = {"columns": [f"c{n}" for n in range(9)], "types": ["BIGINT"] * 9, "rows": [list(range(9))]}
    assert history.table(answer).rows[8] == ("c8", "8")
    assert history.table({**answer, "rows": [list(range(9))] * 2}).rows[0] == tuple(map(str, range(9)))


def test_a_design_says_what_keeps_it_from_being_launched() -> None:
    known = view(DesignView("shop-d1", "shop", "T", "draft", "simple", ("a", "b"), ("a",), 0, 2, ("no phase",), NOW, None, "# Body\n\tx\x1b[2J"))
    assert catalogue.designs([known], NOW).rows[0][5] == "no: no phase"
    lines = catalogue.design(known, UTC)
    assert "  markers   ✓ a  · b" in lines
    assert "  not ready no phase" in lines
    assert lines[-1] == "    x·[2J"


def test_presence_and_cordon_of_a_node_are_told_apart() -> None:
    known = view(NodeView("n1", True, True, 4, {"arch": "arm"}, (AgentOffer("shell", "1", ("shell",)),), ("shop-o1-r2.1",), NOW, NOW))
    assert fleet.nodes([known], NOW).rows[0] == ("n1", "online, cordoned", "1/4", "shell", "arch=arm", "0.0s ago")
    assert "  agent       shell 1   models shell" in fleet.node(known, NOW, UTC)


def test_a_gate_shows_what_is_to_be_judged_and_how() -> None:
    known = view(GateView("shop-o1", "shop", "plan", "1", "task 1\ntask 2", NOW, "Greeting"))
    lines = fleet.gate(known, NOW)
    assert lines[3:5] == ["  task 1", "  task 2"]
    assert lines[-2:] == ["  qd gate approve shop-o1", "  qd gate reject shop-o1 --feedback TEXT"]


RECEIPT = Receipt(
    action="shop-a44",
    type="launch",
    status=ActionStatus.ACCEPTED,
    project="shop",
    idempotency_key="k",
    requested_by="ana",
    received_at=NOW,
    orchestration="shop-o12",
    node="n1",
    revision=1,
    position="418.3",
    reason="because",
)


def test_a_receipt_as_json_has_exactly_the_fields_of_the_contract_in_their_order() -> None:
    text = msgspec.json.encode(receipts.as_object(RECEIPT)).decode()
    assert text == (
        '{"schema":"qd.receipt/1","action":"shop-a44","type":"launch","status":"accepted","duplicate":false,"project":"shop","design":null,'
        '"ticket":null,"orchestration":"shop-o12","node":"n1","task":null,"warnings":[],"reason_code":null,"message":"","idempotency_key":"k",'
        '"requested_by":"ana","position":"418.3","revision":1,"received_at":"2026-11-23T12:00:00Z","accepted_at":null,"completed_at":null}'
    )


def test_a_receipt_in_one_line_says_status_action_and_what_it_is_about() -> None:
    assert receipts.as_line(RECEIPT, about="shop-o12", dry_run=False) == "accepted  shop-a44  launch  shop-o12  on n1  revision 1"
    assert receipts.as_line(RECEIPT, about="shop-o12", dry_run=True) == "would be accepted  launch  shop-o12  on n1  revision 1"
    again = msgspec.structs.replace(RECEIPT, duplicate=True)
    assert receipts.as_line(again, about="shop-o12", dry_run=False).endswith("(decided before; nothing happened again)")
    assert receipts.name_of(RECEIPT) == "shop-o12"


# ── what a machine and a human read of the same view ──


def test_a_receipt_names_what_was_made_else_the_project_else_the_action() -> None:
    bare = msgspec.structs.replace(RECEIPT, orchestration=None, node=None)
    added = msgspec.structs.replace(bare, type="project-add", project="tool")

    assert receipts.name_of(msgspec.structs.replace(bare, ticket="shop-t1", design="shop-d1")) == "shop-t1"
    assert receipts.name_of(msgspec.structs.replace(bare, design="shop-d1")) == "shop-d1"
    assert receipts.name_of(msgspec.structs.replace(bare, node="n1")) == "n1"
    assert receipts.name_of(bare) == "shop-a44"
    assert receipts.name_of(added) == "tool"
    assert receipts.name_of(msgspec.structs.replace(added, project="plane")) == "shop-a44"
    assert receipts.name_of(msgspec.structs.replace(added, status=ActionStatus.REFUSED)) == "shop-a44"


def test_a_refusal_in_one_line_ends_with_its_code_and_names_a_node_once() -> None:
    refused = msgspec.structs.replace(RECEIPT, status=ActionStatus.REFUSED, reason_code="validation_not_ready", node="n1", revision=None)

    assert receipts.as_line(refused, about="n1", dry_run=False) == "refused  shop-a44  launch  n1  validation_not_ready"
    assert receipts.as_line(refused, about="shop-a44", dry_run=False) == "refused  shop-a44  launch  on n1  validation_not_ready"


def cells(table: Any) -> list[dict[str, str]]:
    """Return the rows of a table as objects by title."""
    return [dict(zip((column.title for column in table.columns), row, strict=True)) for row in table.rows]


PROJECT = {
    "id": "shop",
    "name": "The shop",
    "repo": "/srv/shop.git",
    "default_branch": "main",
    "check": None,
    "designs": 2,
    "tickets": 3,
    "orchestrations": 4,
    "live": 1,
    "created_at": "2026-11-23T11:58:00Z",
}


def test_a_project_is_shown_with_its_counts_and_without_a_check_says_that_verify_is_skipped() -> None:
    (row_,) = cells(catalogue.projects([PROJECT], NOW))
    assert row_ == {
        "ID": "shop",
        "NAME": "The shop",
        "REPO": "/srv/shop.git",
        "BRANCH": "main",
        "DESIGNS": "2",
        "TICKETS": "3",
        "LIVE": "1/4",
        "ADDED": "2m00s ago",
    }
    assert "  check     none: verify is skipped" in catalogue.project(PROJECT, UTC)
    assert "  check     make test" in catalogue.project({**PROJECT, "check": "make test"}, UTC)


def test_a_ticket_is_shown_with_its_text_and_what_was_said_of_it() -> None:
    said = {"author": "ana", "at": "2026-11-23T11:00:00Z", "body": "why?\n\tbecause"}
    ticket = {
        "id": "shop-t1",
        "title": "Sum",
        "status": "todo",
        "priority": "high",
        "design": None,
        "created_at": "2026-11-23T11:00:00Z",
        "updated_at": None,
        "body": "right to the cent\n",
        "comments": [said],
    }
    (row_,) = cells(catalogue.tickets([ticket], NOW))
    assert row_ == {"ID": "shop-t1", "STATUS": "todo", "PRIORITY": "high", "TITLE": "Sum", "DESIGN": "", "CHANGED": "1h00m ago"}
    lines = catalogue.ticket(ticket, UTC)

    assert lines[0] == "shop-t1  Sum"
    assert lines[1] == "  status    todo   priority high   design -"
    assert lines[3:5] == ["", "right to the cent"]
    assert lines[6].startswith("── ana, ")
    assert lines[7:] == ["why?", "    because"]


def test_gates_that_wait_are_listed_with_what_is_to_be_judged() -> None:
    known = view(GateView("shop-o1", "shop", "plan", None, "task 1\ntask 2", NOW - timedelta(minutes=2), "Greeting"))
    (row_,) = cells(fleet.gates([known], NOW))

    assert row_ == {"ORCHESTRATION": "shop-o1", "GATE": "plan", "PHASE": "", "FEATURE": "Greeting", "WAITS": "2m00s", "TO JUDGE": "task 1 task 2"}
    assert fleet.gate(known, NOW)[1] == "  gate plan, waits for 2m00s"


def test_an_action_is_shown_with_what_it_is_about_who_asked_and_why_it_was_refused() -> None:
    known = view(
        msgspec.structs.replace(RECEIPT, status=ActionStatus.REFUSED, reason_code="validation_not_ready", message="not yet", warnings=("w",))
    )
    (row_,) = cells(fleet.actions([known], NOW))
    assert (row_["ACTION"], row_["ABOUT"], row_["BY"], row_["WHY"]) == ("shop-a44", "shop-o12", "ana", "validation_not_ready")
    lines = fleet.action(known, UTC)
    assert "  reason      because" in lines
    assert "  warning     w" in lines
    assert lines[-1] == "  why         not yet  [validation_not_ready]"
    bare = view(msgspec.structs.replace(RECEIPT, orchestration=None, node=None, reason=None))

    assert cells(fleet.actions([bare], NOW))[0]["ABOUT"] == "shop"
    assert "  about       shop" in fleet.action(bare, UTC)
    assert not any(line.startswith(("  reason", "  why", "  warning")) for line in fleet.action(bare, UTC))


def test_a_flag_is_on_or_off() -> None:
    assert fleet.flags([{"flag": "cp.launch", "on": True}, {"flag": "require_reason", "on": False}]).rows == (
        ("cp.launch", "on"),
        ("require_reason", "off"),
    )


def test_a_completed_orchestration_stands_out_among_the_rows_of_a_follower() -> None:
    assert history.line(row("orchestration-moved", status="complete"), UTC)[1] == "bold green"
    assert history.line(row("orchestration-moved", status="planning"), UTC)[1] == "bold"


ORDER_VIEW: dict[str, Any] = {
    "run": "shop-o1-r4",
    "attempt": 2,
    "kind": "task",
    "role": "executor",
    "model": "opus",
    "node": "n1",
    "timeout_s": 1800.0,
    "policy_revision": 3,
    "action": "shop-a2",
    "workspace": {"repo": "/repo", "branch": "qd/x", "base": ["c0", "c1"]},
    "inputs": {"feature": "Greeting", "design_title": "Basket", "total_phases": 2, "phase": "1"},
}


def test_an_order_is_shown_as_the_agent_got_it_and_names_only_what_it_has() -> None:
    bare = {**ORDER_VIEW, "workspace": {"repo": "/repo", "branch": "qd/x"}, "inputs": {**ORDER_VIEW["inputs"], "phase": None}}
    assert history.order(bare) == [
        "shop-o1-r4 attempt 2   task by executor with opus on n1",
        "  workspace  /repo   branch qd/x   base -",
        "  limits     1800 s   policy revision 3   action shop-a2",
        "  feature    Greeting   design Basket",
        "  phase      - of 2",
    ]
    inputs = {
        **ORDER_VIEW["inputs"],
        "task": {"number": 2, "subject": "test it", "description": "one\ntwo"},
        "tickets": [{"id": "shop-t1", "title": "Sum"}],
        "issues": [{"source": "review", "text": "no test"}],
        "repair": 1,
        "previous_error": "it failed",
        "check": "make test",
    }

    assert history.order({**ORDER_VIEW, "inputs": inputs})[4:] == [
        "  phase      1 of 2",
        "  task       2: test it",
        "",
        "    one",
        "    two",
        "",
        "  ticket     shop-t1: Sum",
        "  issue      review: no test",
        "  repair     1",
        "  before     it failed",
        "  check      make test",
    ]


def test_a_value_that_is_missing_in_a_report_is_a_dash() -> None:
    assert history.table({"columns": ["a"], "types": ["VARCHAR"], "rows": [[None], ["x"]]}).rows == (("-",), ("x",))


def test_progress_without_a_plan_says_only_where_it_stands() -> None:
    assert orchestrations.progress(orchestration(phase=None, plan=(), status="launching"), NOW) == "▶ launching · 3m00s · $1.50"


def test_runs_are_listed_with_how_long_they_took_and_why_they_ended() -> None:
    run = {
        "run": "shop-o1-r4",
        "attempt": 2,
        "status": "failed",
        "kind": "task",
        "phase": "1",
        "task": 2,
        "model": "opus",
        "node": "n1",
        "started_at": "2026-11-23T11:58:00Z",
        "ended_at": "2026-11-23T11:59:00Z",
        "reason_code": None,
        "detail": "it failed",
    }

    assert cells(orchestrations.runs([run], NOW))[0] == {
        "RUN": "shop-o1-r4.2",
        "STATUS": "✗ failed",
        "KIND": "task",
        "PHASE": "1",
        "TASK": "2",
        "MODEL": "opus",
        "NODE": "n1",
        "TOOK": "1m00s",
        "WHY": "it failed",
    }


def test_a_node_that_is_drained_says_so() -> None:
    known = view(NodeView("n1", True, True, 4, {}, (), (), NOW, NOW))

    assert "drain" in fleet.state_of({**known, "draining": True})
    assert "drain" not in fleet.state_of({**known, "draining": False})

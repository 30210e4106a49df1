"""Results that agents hand over, from the file to the report: with an agent of the test's own that writes what it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bus_schemas.orders import RunKind, WorkOrder
from bus_schemas.reports import Ended, Outcome, Result, ReviewResult, ValidateResult, Verdict
from bus_schemas.routing import AgentOffer
from node_agent.agents.agent import Launch
from node_agent.attempt import Exit
from node_agent.run_dir import RunDir
from node_agent.runner import Runner
from tests.integration.node_world import World, git, make_order, node, world

pytestmark = pytest.mark.anyio

GOOD = '{"type":"validate","verdict":"warning"}'


class Writer:
    """Runs the body of the design as a script, which has to hand over a result."""

    def offer(self) -> AgentOffer:
        return AgentOffer("writer", "1", ("writer",))

    def launch(self, order: WorkOrder, run: RunDir) -> Launch:
        return Launch(("sh", "-c", order.inputs.design_body), env={"WORD": "warning"}, hands_over=ValidateResult, must_hand_over=True)

    def result(self, order: WorkOrder, ending: Exit, tail: str, handed: Result | None) -> Result | None:
        return handed


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as found:
        yield found


async def handed_over(made: World, script: str) -> Ended:
    order = make_order(made.repo, RunKind.VALIDATE, 1, base=(git(made.repo, "rev-parse", "main"),), body=script, model="writer")
    async with node(made, executor=Runner(made.config(), made.bus, "sweep", agents=(Writer(),))):
        return await made.do(order)


async def test_a_result_in_the_file_is_the_result_of_the_run(made: World) -> None:
    ended = await handed_over(
        made, 'grep -q verdict "$QD_RESULT_SCHEMA" && echo "{\\"type\\":\\"validate\\",\\"verdict\\":\\"$WORD\\"}" > "$QD_RESULT"'
    )
    assert (ended.outcome, ended.result, ended.agent, ended.model) == (Outcome.SUCCEEDED, ValidateResult(Verdict.WARNING), "writer", "writer")
    assert ended.head == git(made.repo, "rev-parse", "main")


UNUSABLE = {
    "true": "execution_output_malformed",
    "echo '{' > $QD_RESULT": "execution_output_malformed",
    "mkfifo $QD_RESULT": "execution_output_malformed",
    "ln -s /dev/zero $QD_RESULT": "execution_output_malformed",
    f"echo '{GOOD}' > x; ln -s $PWD/x $QD_RESULT": "execution_output_malformed",
    "head -c 300000 /dev/zero > $QD_RESULT": "execution_output_too_large",
    f"echo '{GOOD}' > $QD_RESULT; exit 1": "dispatch_cli_exit_nonzero",
}


async def test_a_result_that_cannot_be_used_has_a_reason_of_its_own(made: World) -> None:
    found: dict[str, str | None] = {}
    base = (git(made.repo, "rev-parse", "main"),)
    async with node(made, executor=Runner(made.config(), made.bus, "sweep", agents=(Writer(),)), capacity=4):
        orders = {script: make_order(made.repo, RunKind.VALIDATE, n, base=base, body=script, model="writer") for n, script in enumerate(UNUSABLE, 1)}
        for order in orders.values():
            await made.send(order)
        for script, order in orders.items():
            ended = await made.ended(order)
            assert (ended.outcome, ended.result, ended.process_started) == (Outcome.FAILED, None, True)
            found[script] = ended.reason_code
    assert found == UNUSABLE


async def test_a_check_of_the_shell_agent_may_hand_over_its_findings(made: World) -> None:
    finding = '{"type":"review","verdict":"gaps","findings":[{"text":"no test","severity":"p0"}]}'
    body = f"## Phase 1\n\n### Task 1: a\n\n```sh\ntrue\n```\n\n### Check\n\n```sh\necho '{finding}' > $QD_RESULT\n```\n"
    order = make_order(made.repo, RunKind.REVIEW, 1, base=(git(made.repo, "rev-parse", "main"),), body=body)
    async with node(made):
        ended = await made.do(order)
    assert isinstance(ended.result, ReviewResult)
    assert [(found.text, found.severity) for found in ended.result.findings] == [("no test", "p0")]

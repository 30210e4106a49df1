"""What a node agent and its agents are given: configuration, folders and environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from node_agent.config import NodeConfig
from node_agent.environment import agent_environment
from node_agent.run_dir import run_dir
from tests.unit.node_agent.orders import order


def config(**changes: object) -> NodeConfig:
    return NodeConfig.model_validate({"server": "nats://127.0.0.1:4222", "name": "a", "data": "/data", **changes})


def test_a_node_is_local_with_a_token_and_itself_with_a_seed() -> None:
    assert config(token="t").credentials.principal == "local"
    assert config(seed_file="/seed").credentials.principal == "a"
    assert config(principal="ana").credentials.principal == "ana"


@pytest.mark.parametrize("changes", [{"name": "a.b"}, {"name": "*"}, {"name": ""}, {"capacity": 0}, {"drain_grace_s": -1}, {"unknown": 1}])
def test_a_configuration_that_cannot_be_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        config(**changes)


def test_an_agent_gets_what_is_on_the_list_and_what_its_order_names() -> None:
    run = run_dir(Path("/data"), order())
    node = {"PATH": "/bin", "SECRET": "canary", "API_KEY": "k", "TZ": "Europe/Berlin", "HOME": "/root", "QD_RUN": "forged"}
    found = agent_environment(order(env=("API_KEY", "MISSING", "QD_RUN")), run, node)
    assert "canary" not in found.values()
    assert "MISSING" not in found
    assert (found["API_KEY"], found["TZ"], found["PATH"], found["LANG"]) == ("k", "Europe/Berlin", "/bin", "C.UTF-8")
    assert (found["HOME"], found["TMPDIR"], found["TERM"]) == (str(run.home), str(run.temporary), "dumb")
    assert {name: value for name, value in found.items() if name.startswith("QD_")} == {
        "QD_PROJECT": "shop",
        "QD_ORCHESTRATION": "shop-o1",
        "QD_RUN": "shop-o1-r1",
        "QD_ATTEMPT": "1",
        "QD_NODE": "a",
        "QD_KIND": "task",
        "QD_PHASE": "1",
        "QD_TASK": "1",
        "QD_REPAIR": "0",
        "QD_REPO": "/data/work/shop-o1/shop-o1-r1.1",
        "QD_RUN_DIR": "/data/runs/shop-o1-r1.1.n1",
    }


def test_no_two_files_of_an_attempt_are_one_and_all_but_the_worktree_are_in_its_folder() -> None:
    where = run_dir(Path("/data"), order())
    names = ("spec", "identity", "output", "exit", "stop", "lock", "errors", "logged", "result", "schema", "home", "temporary")
    paths = [getattr(where, name) for name in names]

    assert len(set(paths)) == len(names)
    assert {path.parent for path in paths} == {where.path}
    assert not where.tree.is_relative_to(where.path)

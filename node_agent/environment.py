"""The environment of an agent's process: by allow-list, never inherited. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from bus_schemas.orders import WorkOrder
from node_agent.run_dir import MARK, RunDir

IDENTITY = ("Quarterdeck", "qd@localhost")
"""Under which all commits are made, so that no machine needs an identity of its own."""

PATH_DEFAULT = "/usr/local/bin:/usr/bin:/bin"
INHERITED = ("PATH", "LANG", "LC_ALL", "TZ")


def agent_environment(order: WorkOrder, run: RunDir, node: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a run, from the node's own one: what is on the list, what the order names, and ours."""
    found = {name: node[name] for name in (*INHERITED, *order.env) if name in node}
    name, email = IDENTITY
    task = order.inputs.task
    return {
        "PATH": PATH_DEFAULT,
        "LANG": "C.UTF-8",
        "HOME": str(run.home),
        **found,
        "TERM": "dumb",
        "TMPDIR": str(run.temporary),
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_AUTHOR_NAME": name,
        "GIT_AUTHOR_EMAIL": email,
        "GIT_COMMITTER_NAME": name,
        "GIT_COMMITTER_EMAIL": email,
        "QD_PROJECT": order.project,
        "QD_ORCHESTRATION": order.orchestration,
        "QD_NODE": order.node,
        "QD_RUN": order.run,
        "QD_ATTEMPT": str(order.attempt),
        "QD_KIND": order.kind.value,
        "QD_PHASE": order.inputs.phase or "",
        "QD_TASK": "" if task is None else str(task.number),
        "QD_REPAIR": str(order.inputs.repair),
        "QD_REPO": str(run.tree),
        MARK: str(run.path),
    }

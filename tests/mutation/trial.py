"""A pytest plugin that tries mutants: the tests are collected once, then each mutant runs in a fork of its own those that reach it.

`tests.mutation` loads it in the folder that mutmut filled. Which tests reach a function, and how long they take, is what mutmut wrote
down; the kept histories come first, since one of them sees nearly every fault. The first test that fails kills the mutant. Owns forks.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol
from mutmut.mutation import trampoline

CPU_S_MAX = 30
"""All tests of the selection take 10 s: a mutant that needs more goes round for ever."""
SURVIVED, KILLED, NO_TESTS, TIMEOUT = 0, 1, 33, -signal.SIGXCPU
"""As mutmut notes them."""
WISHES = "QD_MUTANTS"
"""The file that names the mutants to try, one a line."""
PART = "QD_MUTANTS_PART"
"""`i/n`: try every n-th of them from the i-th, so that n processes share the work."""


def _switch_on(mutant: str) -> None:
    # the detours ask this at each call: mutmut's own way to the environment would take most of the time
    trampoline.get_mutant_under_test = lambda: mutant


def _fails(item: pytest.Item) -> bool:
    reports = runtestprotocol(item, log=False, nextitem=None)
    return any(report.failed for report in reports)


def _tried(mutant: str, items: list[pytest.Item]) -> int:
    """Return what became of a mutant, as mutmut would note it."""
    if not items:
        return NO_TESTS
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S_MAX, CPU_S_MAX + 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        _switch_on(mutant)
        try:
            failed = any(_fails(item) for item in items)
        except BaseException:
            failed = True  # whatever it is, the original does not raise it
        os._exit(KILLED if failed else SURVIVED)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return TIMEOUT if os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL) else KILLED
    return KILLED if os.WEXITSTATUS(status) else SURVIVED


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool:
    """Try the mutants and write down what became of each. Fails the session where the original does not pass."""
    stats = json.loads(Path("mutmut-stats.json").read_text())
    duration_s: dict[str, float] = stats["duration_by_test"]
    ordered = sorted(session.items, key=lambda item: ("word_for_word" not in item.name, duration_s.get(item.nodeid, 0.0)))
    _switch_on("")
    wrong = [item.nodeid for item in ordered if _fails(item)]
    if wrong:
        raise session.Failed(f"the original fails in {wrong}")
    gc.collect()
    gc.freeze()
    part, parts = map(int, os.environ[PART].split("/"))
    wishes = Path(os.environ[WISHES]).read_text().split()[part::parts]
    # a line for each as it ends: a run that is cut short is a smaller sample
    with Path(f"{os.environ[WISHES]}.{part}").open("w", buffering=1) as notes:
        for mutant in wishes:
            reached = set(stats["tests_by_mangled_function_name"].get(mutant.rpartition("__mutmut_")[0], ()))
            notes.write(f"{mutant} {_tried(mutant, [item for item in ordered if item.nodeid in reached])}\n")
    return True

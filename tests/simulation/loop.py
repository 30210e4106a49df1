"""An asyncio event loop without a machine: a virtual clock, a seeded order of what is ready, no input or output, no threads.

Owns nothing. The same seed gives the same sequence of steps, bit for bit: whatever order in asyncio and anyio comes from the
addresses of objects is replaced by the order in which they were made (see `reproducible`).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import heapq
import random
import zlib
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context, copy_context
from typing import Any, TypeVar

from anyio._backends import _asyncio as anyio_backend

from bus import host

T = TypeVar("T")

STEPS_MAX = 5_000_000
VIRTUAL_S_MAX = 86_400.0


class Deadlock(Exception):
    """Nothing is ready and nothing is scheduled, and the main coroutine waits."""


class Runaway(Exception):
    """More steps or more virtual time than a simulation may take."""


class Forbidden(Exception):
    """Something asked for a thread or for the machine's input and output, which a simulation has not."""


class InOrder(dict[Any, None]):
    """A set that is gone through in the order of adding; what anyio needs of one."""

    __slots__ = ()

    def add(self, member: Any) -> None:
        self[member] = None

    def remove(self, member: Any) -> None:
        del self[member]

    def discard(self, member: Any) -> None:
        self.pop(member, None)


@contextlib.contextmanager
def reproducible() -> Iterator[None]:
    """Make anyio cancel in the order in which tasks and scopes were made, not in that of addresses, and refuse it threads."""
    scopes: Any = anyio_backend.CancelScope
    backend: Any = anyio_backend.AsyncIOBackend
    before, threads = scopes.__init__, backend.__dict__["run_sync_in_worker_thread"]

    def in_order(scope: Any, *args: Any, **options: Any) -> None:
        before(scope, *args, **options)
        scope._child_scopes, scope._tasks = InOrder(), InOrder()

    async def no_thread(cls: Any, func: Callable[..., Any], *args: Any, **options: Any) -> Any:
        raise Forbidden(f"to_thread.run_sync({func!r}): a simulation has one thread")

    scopes.__init__ = in_order
    backend.run_sync_in_worker_thread = classmethod(no_thread)
    try:
        yield
    finally:
        scopes.__init__ = before
        backend.run_sync_in_worker_thread = threads


class SimLoop(asyncio.BaseEventLoop):
    """The loop. `rng` is the one source of chance of a simulation; `steps` counts what ran; `digest` tells two runs apart.

    With `shuffle` what is ready runs in a seeded order; without, in the order of asyncio, which is one of the possible ones.
    """

    _ready: deque[Any]
    _scheduled: list[Any]
    _asyncgens: Any

    def __init__(self, seed: int, *, shuffle: bool = True, steps_max: int = STEPS_MAX, virtual_s_max: float = VIRTUAL_S_MAX) -> None:
        super().__init__()
        self.seed = seed
        self.rng = random.Random(seed)
        self.steps = 0
        self.digest = 0
        self.failures: list[dict[str, Any]] = []
        """What nobody caught: exceptions of callbacks and of tasks that nobody awaited."""
        self.on_step: Callable[[asyncio.Handle], None] | None = None
        """Told each handle that was run, so that a fault can be aimed between any two steps."""
        self._put_off: dict[Any, list[asyncio.Handle]] = {}
        """Hosts that are stopped, as by SIGSTOP, with what waits for them."""
        self._shuffle = shuffle
        self._steps_max, self._virtual_s_max = steps_max, virtual_s_max
        self._now_s = 0.0
        self.tasks: dict[asyncio.Task[Any], Any] = {}
        """Every task that is not done, in the order of their making, with the host it belongs to."""
        self.set_task_factory(self._make_task)
        self.set_exception_handler(lambda _, context: self.failures.append(context))

    def time(self) -> float:
        """Return the virtual time, in seconds since the start."""
        return self._now_s

    def _make_task(self, loop: Any, coro: Any, context: Context | None = None) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, context=context)
        owner = host.current.get() if context is None else context.get(host.current)
        self.tasks[task] = owner
        task.add_done_callback(self.tasks.pop, context=_EMPTY)
        return task

    # ── one step ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _run_once(self) -> None:
        scheduled, ready = self._scheduled, self._ready
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
        if not ready:
            if not scheduled:
                raise Deadlock(f"seed {self.seed}: nothing can happen any more at {self._now_s:.6f} s after {self.steps} steps")
            self._now_s = max(self._now_s, scheduled[0].when())
        now_s = self._now_s
        while scheduled and scheduled[0].when() <= now_s:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            if not handle._cancelled:
                ready.append(handle)
        count = len(ready)
        if count > 1 and self._shuffle:
            batch = list(ready)
            self.rng.shuffle(batch)
            ready.clear()
            ready.extend(batch)
        for _ in range(count):
            handle = ready.popleft()
            if not handle._cancelled:
                if self._put_off and (owner := handle._context.get(host.current)) in self._put_off:
                    self._put_off[owner].append(handle)
                    continue
                self.steps += 1
                handle._run()
                if self.on_step is not None:
                    self.on_step(handle)
        self.digest = zlib.crc32(b"%r %d" % (now_s, self.steps), self.digest)
        if self.steps > self._steps_max or now_s > self._virtual_s_max:
            raise Runaway(f"seed {self.seed}: {self.steps} steps, {now_s:.1f} virtual seconds")

    def stop_host(self, owner: Any) -> None:
        """Run nothing of a host until `go_on` is called for it; its timers and its messages wait."""
        self._put_off.setdefault(owner, [])

    def go_on(self, owner: Any) -> None:
        """Run what has waited for a stopped host."""
        self._ready.extend(self._put_off.pop(owner, []))

    # ── what a simulation has not ────────────────────────────────────────────────────────────────────────────────────

    def _process_events(self, event_list: list[Any]) -> None:
        assert not event_list

    def _write_to_self(self) -> None:
        raise Forbidden("nothing outside may wake a simulation")

    def call_soon_threadsafe(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        """Refuse: there is one thread."""
        raise Forbidden(f"call_soon_threadsafe({callback!r}): a simulation has one thread")

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:  # type: ignore[override]
        """Refuse: there is one thread."""
        raise Forbidden(f"run_in_executor({func!r}): a simulation has one thread")

    def _asyncgen_finalizer_hook(self, agen: Any) -> None:
        self._asyncgens.discard(agen)
        if not self.is_closed():
            self.call_soon(self.create_task, agen.aclose(), context=_EMPTY)


_EMPTY = copy_context()


def simulate(main: Callable[[SimLoop], Coroutine[Any, Any, T]], seed: int, **options: Any) -> T:
    """Return what `main(loop)` returns, run on a loop of its own; then everything that is left is cancelled.

    Raises what `main` raises, Deadlock and Runaway.
    """
    loop = SimLoop(seed, **options)
    collecting = gc.isenabled()
    gc.disable()  # when the collector runs depends on what ran before; what it finalises would be steps
    try:
        with reproducible():
            try:
                return loop.run_until_complete(main(loop))
            finally:
                _end(loop)
    finally:
        loop.close()
        if collecting:
            gc.enable()


def _end(loop: SimLoop) -> None:
    loop._steps_max, loop._virtual_s_max = loop.steps + STEPS_MAX, loop.time() + VIRTUAL_S_MAX
    for _ in range(100):
        tasks = list(loop.tasks)
        if not tasks:
            break
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(asyncio.wait(tasks, timeout=10.0))
    events._set_running_loop(None)

"""The shim: one small process for each run, the parent of the agent's process.

Owns the agent's pipes, time limits, descendants and exit status, and lives on when the node agent dies; the agent never
outlives it. Started as a file (`python -I -S shim.py RUN_DIR`) with nothing but quick standard modules, since every run
pays for its start. It reads `spec.json`, and leaves `shim.json` (who it is), `output` and, last, `exit.json`.

Three walls, the first that works here: a PID namespace of its own (`namespace`, needs privileges), the same in a user
namespace (`userns`), or a sweep of everything below this process, which is a child subreaper (`sweep`). When the init of
a PID namespace ends, the kernel kills everything in it: nothing can double-fork or setsid its way out.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import resource
import select
import signal
import sys
import time
from typing import Any

SPEC, IDENTITY, OUTPUT, EXIT, STOP, LOCK, ERRORS = "spec.json", "shim.json", "output", "exit.json", "stop", "lock", "shim.log"
NAMESPACE, USERNS, SWEEP = "namespace", "userns", "sweep"
BY_REQUEST, BY_TIMEOUT, BY_IDLE = "request", "timeout", "idle"

LINUX = sys.platform == "linux"
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x00020000, 0x10000000, 0x20000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_SLAVE = 2, 4, 8, 0x4000, 0x80000
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 24, 36, 38
CAPABILITIES_MAX = 64

OOM_SCORE_ADJ = 800
"""Of 1000; services have 0. Raising it needs no privilege."""
CHUNK_BYTES = 64 * 1024
DESCRIPTORS_MAX = 65536
LOOK_EVERY_S = 0.5
"""How often it looks for a `stop` file by itself; the node agent also sends SIGTERM."""
SWEEP_MAX_S = 10.0
DRAIN_MAX_S = 2.0
"""For output still in the pipe when everything is dead."""

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: Any) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def start_ticks(pid: int | str) -> int | None:
    """Return when a process was started, in ticks after the kernel's boot; None when there is none, or only a zombie."""
    fields = _stat(pid)
    return None if fields is None or fields[0] in ("Z", "X") else int(fields[19])


def kernel_boot() -> str:
    """Return what changes with each boot of the kernel; empty where it does not say."""
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()
    return ""


def _stat(pid: int | str) -> list[str] | None:
    # the second field is the program's name in parentheses, which may hold blanks and parentheses itself
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2].decode("ascii", "replace").split()
    except OSError:
        return None


def _descendants(root: int) -> list[int]:
    """Return the live processes below `root`, of any session and group."""
    children: dict[int, list[int]] = {}
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc"):
            fields = _stat(name) if name.isdigit() else None
            if fields and fields[0] not in ("Z", "X"):
                children.setdefault(int(fields[1]), []).append(int(name))
    found: list[int] = []
    waiting = [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def _signal_each(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def write_atomic(path: str, text: str) -> None:
    """Make `text` the content of `path`, all of it or none, on disk."""
    fresh = path + ".new"
    with open(fresh, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)


def write_end(folder: str, text: str) -> None:
    """Leave the word on how a run ended, once the disk has room for it: an end that was seen is not lost to a full disk.

    Gives up when somebody has removed the run's folder.
    """
    while True:
        try:
            write_atomic(os.path.join(folder, EXIT), text)
            return
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not os.path.exists(os.path.join(folder, SPEC)):
                raise
        time.sleep(LOOK_EVERY_S)


class _Output:
    """The output file: the head as it comes; what is beyond it is counted, and its tail written at the end."""

    def __init__(self, path: str, head_bytes_max: int, tail_bytes_max: int) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._room, self._tail_max = head_bytes_max, tail_bytes_max
        self._tail = bytearray()
        self._beyond = 0
        self.total = 0

    def take(self, data: bytes) -> None:
        self.total += len(data)
        head, rest = data[: self._room], data[self._room :]
        self._room -= len(head)
        self._write(head)
        self._beyond += len(rest)
        self._tail += rest
        if len(self._tail) > 2 * self._tail_max:
            del self._tail[: -self._tail_max]

    def close(self) -> None:
        tail = bytes(self._tail[-self._tail_max :])
        if self._beyond > len(tail):
            self._write(b"\n[... %d bytes left out ...]\n" % (self._beyond - len(tail)))
        self._write(tail)
        os.close(self._fd)

    def _write(self, data: bytes) -> None:
        # a full disk must not end the run: the bytes are still counted
        with contextlib.suppress(OSError):
            while data:
                data = data[os.write(self._fd, data) :]


def _enter_namespace(wall: str) -> None:
    """Make the next child the init of a new PID namespace."""
    user, group = os.geteuid(), os.getegid()
    _call("unshare", CLONE_NEWPID | (CLONE_NEWUSER if wall == USERNS else 0))
    if wall == USERNS:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)


def _own_proc() -> None:
    """Give this process a /proc of its PID namespace."""
    _call("unshare", CLONE_NEWNS)
    _call("mount", None, b"/", None, MS_REC | MS_SLAVE, None)
    _call("mount", b"proc", b"/proc", b"proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, None)


def _drop_privileges() -> None:
    """No new privileges by set-uid programs, and for root: no capabilities after the next exec."""
    _call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.geteuid() == 0:
        for capability in range(CAPABILITIES_MAX):
            if _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
                break  # EINVAL: no more of them; EPERM: it has none to give away


def _be_first_to_go() -> None:
    """When the memory is over, the kernel takes the agent and not its neighbours; and what is killed leaves no image of its memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(str(OOM_SCORE_ADJ))


def _say(channel: int, **facts: object) -> None:
    """Tell the shim a line; it may hear two: why the program could not be started, then how its process ended."""
    os.write(channel, json.dumps(facts).encode() + b"\n")


class _Pipe:
    """A pipe; both ends close on exec."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()


def _exec_agent(spec: dict[str, Any], output: int, status: int) -> None:
    """Become the agent's program; return only by leaving the process, having said on `status` why it could not."""
    try:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        if LINUX:
            _drop_privileges()
            _be_first_to_go()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(spec["cwd"])
        os.execvpe(spec["argv"][0], spec["argv"], spec["env"])
    except OSError as error:
        _say(status, spawn_errno=error.errno, spawn_error=str(error))
    os._exit(127)


def _init(spec: dict[str, Any], output: int, status: int, life: _Pipe) -> None:
    """Be the init of the namespace: start the agent, reap what is orphaned, say how the agent ended, and take all with it."""
    os.close(life.write)
    _call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if select.select([life.read], [], [], 0)[0]:
        os._exit(1)  # the shim died before it could be noticed
    os.setsid()
    _own_proc()
    agent = os.fork()
    if agent == 0:
        _exec_agent(spec, output, status)
    os.close(output)
    signal.signal(signal.SIGTERM, lambda number, frame: _signal_each([-1], signal.SIGTERM))
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    while True:
        pid, ended = os.waitpid(-1, 0)
        if pid == agent:
            _say(status, status=ended)
            os._exit(0)


class Shim:
    """One run: spawn, watch, stop, sweep, say how it ended."""

    def __init__(self, folder: str, spec: dict[str, Any]) -> None:
        """Prepare; nothing is started yet."""
        self._folder, self._spec = folder, spec
        self._wall: str = spec["containment"]
        self._child = 0
        self._child_status: int | None = None
        self._said = b""
        self._stopped_by: str | None = None
        self._kill_at = 0.0
        self._asked = False
        self._out, self._status, self._life, self._wake = _Pipe(), _Pipe(), _Pipe(), _Pipe()
        self._output = _Output(os.path.join(folder, OUTPUT), spec["head_bytes_max"], spec["tail_bytes_max"])
        self._started = self._heard = time.monotonic()

    def run(self) -> dict[str, Any]:
        """Return what happened, once nothing of the run is left."""
        self._listen()
        if self._stop_is_wanted():
            self._output.close()
            return {"spawned": False, "stopped_by": BY_REQUEST, "containment": self._wall}
        self._spawn()
        self._watch()
        survivors = self._sweep()
        self._drain()
        self._output.close()
        return {**self._verdict(), "output_bytes": self._output.total, "survivors": survivors, "containment": self._wall}

    def _listen(self) -> None:
        for descriptor in (self._out.read, self._status.read, self._wake.read, self._wake.write):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(self._wake.write, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # the node agent starts us with TERM blocked

    def _on_term(self, number: int, frame: object) -> None:
        self._asked = True

    def _stop_is_wanted(self) -> bool:
        # a run whose folder is gone belongs to nobody
        return self._asked or os.path.exists(os.path.join(self._folder, STOP)) or not os.path.exists(os.path.join(self._folder, SPEC))

    def _spawn(self) -> None:
        if LINUX:
            _call("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        if self._wall != SWEEP:
            try:
                _enter_namespace(self._wall)
            except OSError as error:
                print(f"no namespace, sweeping instead: {error}", file=sys.stderr, flush=True)
                self._wall = SWEEP
        # until the child has its own handlers, a TERM for it must wait
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        me = os.getpid()
        self._child = os.fork()
        if self._child == 0:
            self._be_child(me)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        for descriptor in (self._out.write, self._status.write, self._life.read):
            os.close(descriptor)
        self._started = self._heard = time.monotonic()

    def _be_child(self, shim: int) -> None:
        signal.set_wakeup_fd(-1)
        try:
            if self._wall != SWEEP:
                _init(self._spec, self._out.write, self._status.write, self._life)
            if LINUX:
                _call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                if os.getppid() != shim:
                    os._exit(1)
            _exec_agent(self._spec, self._out.write, self._status.write)
        except BaseException as error:
            _say(self._status.write, spawn_errno=getattr(error, "errno", None) or 0, spawn_error=repr(error))
        finally:
            os._exit(127)

    def _watch(self) -> None:
        """Return when the agent, or the init above it, has ended."""
        poller = select.poll()
        for descriptor in (self._out.read, self._status.read, self._wake.read):
            poller.register(descriptor, select.POLLIN)
        while self._child_status is None:
            for descriptor, _ in poller.poll(self._patience_ms()):
                if not self._read(descriptor):
                    poller.unregister(descriptor)
            self._reap()
            if self._child_status is None:
                self._enforce()

    def _patience_ms(self) -> float:
        now = time.monotonic()
        moments = [now + LOOK_EVERY_S, self._kill_at if self._stopped_by else self._started + float(self._spec["timeout_s"])]
        return max(0.0, min(moments) - now) * 1000 + 1

    def _read(self, descriptor: int) -> bool:
        """Take what has come; return False at its end."""
        try:
            data = os.read(descriptor, CHUNK_BYTES)
        except BlockingIOError:
            return True
        if descriptor == self._out.read:
            self._output.take(data)
            self._heard = time.monotonic()
        elif descriptor == self._status.read:
            self._said += data
        return bool(data)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self._child:
                    self._child_status = status

    def _enforce(self) -> None:
        now = time.monotonic()
        if self._stopped_by is not None:
            if now >= self._kill_at:
                self._sweep()
            return
        idle_s = self._spec.get("idle_s")
        if self._stop_is_wanted():
            self._stopped_by = BY_REQUEST
        elif now - self._started >= float(self._spec["timeout_s"]):
            self._stopped_by = BY_TIMEOUT
        elif idle_s is not None and now - self._heard >= float(idle_s):
            self._stopped_by = BY_IDLE
        if self._stopped_by is not None:
            self._kill_at = now + float(self._spec["grace_s"])
            # the init of a namespace passes it on to everything in there
            _signal_each([self._child] if self._wall != SWEEP else self._below(), signal.SIGTERM)

    def _below(self) -> list[int]:
        return _descendants(os.getpid()) if LINUX else ([-self._child] if self._child_status is None else [])

    def _sweep(self) -> int:
        """Kill everything below; return how many are left, which is 0 unless the kernel itself holds one."""
        deadline = time.monotonic() + SWEEP_MAX_S
        if self._wall != SWEEP and self._child_status is None:
            _signal_each([self._child], signal.SIGKILL)
        while True:
            self._reap()
            left = self._below()
            if not left or time.monotonic() > deadline:
                return len(left)
            # stopped first, round by round, so that nothing forks while it is being counted
            known: set[int] = set()
            while fresh := [pid for pid in left if pid not in known]:
                _signal_each(fresh, signal.SIGSTOP)
                known.update(fresh)
                left = self._below()
            _signal_each(left, signal.SIGKILL)
            time.sleep(0.002)

    def _drain(self) -> None:
        deadline = time.monotonic() + DRAIN_MAX_S
        for descriptor in (self._status.read, self._out.read):
            with contextlib.suppress(OSError):
                os.set_blocking(descriptor, False)
                while time.monotonic() < deadline and self._read_now(descriptor):
                    pass

    def _read_now(self, descriptor: int) -> bool:
        before = self._output.total + len(self._said)
        return self._read(descriptor) and self._output.total + len(self._said) > before

    def _verdict(self) -> dict[str, Any]:
        said: dict[str, Any] = {}
        for line in reversed(self._said.splitlines()):
            said.update(json.loads(line))
        facts: dict[str, Any] = {"duration_ms": (time.monotonic() - self._started) * 1000, "stopped_by": self._stopped_by}
        if "spawn_error" in said:
            return {**facts, "spawned": False, "spawn_errno": said["spawn_errno"], "spawn_error": said["spawn_error"]}
        # without a word from the init, the init itself was killed, and all with it
        status = said.get("status", self._child_status)
        code = os.waitstatus_to_exitcode(int(status or 0))
        return {**facts, "spawned": True, "exit_code": code if code >= 0 else None, "signal": -code if code < 0 else None}


def _wall_works(wall: str) -> bool:
    """Try a wall with a process that left its session and ignores TERM: is it gone when the init ends?"""
    held = _Pipe()
    tester = os.fork()
    if tester == 0:
        with contextlib.suppress(BaseException):
            os.close(held.read)
            _enter_namespace(wall)
            init = os.fork()
            if init == 0:
                _try_wall()
            os._exit(os.waitstatus_to_exitcode(os.waitpid(init, 0)[1]) & 0xFF)
        os._exit(1)
    os.close(held.write)
    works = os.waitpid(tester, 0)[1] == 0
    gone = bool(select.select([held.read], [], [], 2.0)[0])
    os.close(held.read)
    return works and gone


def _try_wall() -> None:
    with contextlib.suppress(BaseException):
        _own_proc()
        if os.getpid() == 1 and os.path.exists("/proc/1/stat"):
            if os.fork() == 0:
                os.setsid()
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                time.sleep(60)
            os._exit(0)
    os._exit(1)


def walls() -> list[str]:
    """Return the walls that work on this machine, the best first."""
    wanted: tuple[str, ...] = ((NAMESPACE, USERNS) if os.geteuid() == 0 else (USERNS,)) if LINUX else ()
    return [*(wall for wall in wanted if _wall_works(wall)), SWEEP]


def main(arguments: list[str]) -> int:
    """Print the walls that work (`--probe`), or run the run of a folder. Exit code 3: another shim has it."""
    if arguments == ["--probe"]:
        print(*walls())
        return 0
    # what the node agent inherited without knowing is nothing for an agent
    os.closerange(3, DESCRIPTORS_MAX)
    folder = arguments[0]
    lock = os.open(os.path.join(folder, LOCK), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return 3
        raise
    if os.path.exists(os.path.join(folder, EXIT)):
        return 3
    with open(os.path.join(folder, SPEC)) as file:
        spec = json.load(file)
    identity = {"pid": os.getpid(), "start_ticks": start_ticks("self") or 0, "kernel_boot": kernel_boot()}
    write_atomic(os.path.join(folder, IDENTITY), json.dumps(identity))
    ending = Shim(folder, spec).run()
    write_end(folder, json.dumps(ending))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

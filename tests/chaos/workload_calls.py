"""Calls of a client that never gives up: each is written down before it is sent, keeps its key, and is asked again until it is known.

Owns the client's log. A client that was killed reads it at its next start and asks again for what it does not know.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import msgspec

from bus.errors import NotSent, Rejected, Unavailable
from bus.request import CommandClient, OutcomeUnknown
from bus_schemas import codec, subjects
from bus_schemas.commands import COMMAND_TYPES, Command, CommandEnvelope, subject_project
from bus_schemas.decisions import ActionStatus, Receipt

ANSWER_S = 5.0
"""How long one try waits for its receipt."""
AGAIN_S = 0.25

_line = msgspec.json.Decoder(dict[str, Any])


class Key(NamedTuple):
    """What a call is known by: keys are scoped to projects."""

    project: str
    key: str


class Call(NamedTuple):
    """One try of a call, which is the n-th under its key; `id` is the command's own."""

    name: Key
    number: int
    id: str


class CallLog:
    """What a client asked and what it was told, as JSON lines; read back at the start."""

    def __init__(self, path: Path, client: str) -> None:
        self._client = client
        self._tries: Counter[Key] = Counter()
        self.open: dict[Key, Command] = {}
        self.launched: dict[str, None] = {}
        """Orchestrations that were launched and not seen to end, oldest first."""
        self.launch_number = 0
        """The highest number that a key of a launch has ended with."""
        for line in _lines(path):
            self._read(line)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def _read(self, line: dict[str, Any]) -> None:
        if line["event"] == "ended":
            self.launched.pop(line["orchestration"], None)
            return
        name = Key(line["project"], line["key"])
        if line["event"] == "invoke":
            self._tries[name] += 1
            self._note_number(line["type"], name)
            command: Any = msgspec.convert(line["body"], COMMAND_TYPES[line["type"]])
            self.open[name] = command
        elif line["event"] in ("ok", "refused"):
            self.open.pop(name, None)
            self._note_launch(line["receipt"]["type"], line["receipt"]["status"], line["receipt"]["orchestration"])

    def _note_number(self, kind: str, name: Key) -> None:
        if kind == "launch":
            self.launch_number = max(self.launch_number, int(name.key.rpartition("-")[2]))

    def _note_launch(self, kind: str, status: str, orchestration: str | None) -> None:
        if kind == "launch" and status != ActionStatus.REFUSED and orchestration is not None:
            self.launched.setdefault(orchestration)

    def _write(self, event: str, **fields: Any) -> None:
        line = {"event": event, "client": self._client, "pid": os.getpid(), "mono_ns": time.monotonic_ns(), "at_ns": time.time_ns(), **fields}
        os.write(self._fd, msgspec.json.encode(line) + b"\n")

    def invoke(self, name: Key, command: Command, envelope: CommandEnvelope, principal: str) -> Call:
        """Write down that a command is about to be sent."""
        self._tries[name] += 1
        call = Call(name, self._tries[name], envelope.id)
        self._note_number(envelope.type, name)
        self.open[name] = command
        body_hash = codec.body_hash(envelope.type, envelope.body)
        self._write("invoke", principal=principal, **_named(call), type=envelope.type, body=envelope.body, body_hash=body_hash)
        return call

    def answered(self, call: Call, receipt: Receipt) -> None:
        """Write down what the client was told."""
        self.open.pop(call.name, None)
        self._note_launch(receipt.type, receipt.status, receipt.orchestration)
        self._write("refused" if receipt.status is ActionStatus.REFUSED else "ok", **_named(call), receipt=receipt)

    def unanswered(self, call: Call, event: str, detail: str) -> None:
        """Write down that nothing is known (`unknown`), or that nothing was sent for certain (`not-sent`)."""
        self._write(event, **_named(call), detail=detail)

    def ended(self, orchestration: str, status: str) -> None:
        """Write down that an orchestration was seen to have ended."""
        self.launched.pop(orchestration, None)
        self._write("ended", orchestration=orchestration, status=status)


def _named(call: Call) -> dict[str, Any]:
    return {"project": call.name.project, "key": call.name.key, "try": call.number, "id": call.id}


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield what was written; a torn last line was never acted on, and is ended so that the next one stands alone."""
    if not path.exists():
        return
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        whole = data[: data.rfind(b"\n") + 1]
        os.truncate(path, len(whole))
        data = whole
    for line in data.splitlines():
        yield _line.decode(line)


class Caller:
    """Asks until it knows."""

    def __init__(self, client: CommandClient, log: CallLog, principal: str) -> None:
        self._client, self._log, self._principal = client, log, principal

    async def ask(self, command: Command, key: str) -> Receipt:
        """Return the receipt of a command, however often it has to be asked for."""
        while True:
            receipt = await self.try_once(command, key)
            if receipt is not None:
                return receipt
            await anyio.sleep(AGAIN_S)

    async def try_once(self, command: Command, key: str) -> Receipt | None:
        """Return the receipt, or None when there was none this time."""
        envelope, project = self._client.envelope(command, key), subject_project(command)
        subject = subjects.command(self._principal, project, envelope.type, type(command).control_lane)
        call = self._log.invoke(Key(project, key), command, envelope, self._principal)
        try:
            receipt = await self._client.submit_raw(subject, envelope.id, codec.encode(envelope), key, ANSWER_S)
        except NotSent as error:
            self._log.unanswered(call, "not-sent", str(error))
        except (OutcomeUnknown, Unavailable, Rejected) as error:
            self._log.unanswered(call, "unknown", str(error))
        else:
            self._log.answered(call, receipt)
            return receipt
        return None

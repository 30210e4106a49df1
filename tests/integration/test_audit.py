"""The audit against a real server: what was changed, lost or made anew is named, and nobody goes on silently."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import msgspec
import pytest

from bus.connection import Bus, connect
from bus.embedded import EmbeddedServer
from bus.errors import Unavailable
from bus.foreground import loop_options
from bus.identity import make_key
from bus.reader import read_up_to, stream_state
from bus.request import CommandClient, QueryFailed, ask
from bus_schemas import codec
from bus_schemas import commands as c
from bus_schemas import events as e
from bus_schemas.decisions import TimerCause
from bus_schemas.entities import Complexity
from bus_schemas.subjects import LEDGER
from cli.audit.reading import ReadExport
from controller.config import ControllerConfig
from controller.service import serve as controller
from tests.integration.bus_world import built
from tests.integration.ring import ring
from timeline.config import TimelineConfig
from timeline.service import serve as timeline

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
FLIPS = 300
SOUND, UNSOUND = 0, 11


class Done(NamedTuple):
    """What a run of `qd` came to."""

    code: int
    out: str
    err: str

    @property
    def violations(self) -> list[tuple[str, str, str]]:
        answer = msgspec.json.decode(self.out, type=dict[str, Any])
        return [(found["invariant"], found["where"], found["text"]) for found in answer["violations"]]

    def names(self, check: str, where: str, text: str) -> bool:
        return any(found[0] == check and where in found[1] and text in found[2] for found in self.violations)


class Kept(NamedTuple):
    """The data of a server that was stopped, and what its ledger held."""

    data: Path
    messages: list[tuple[int, str, bytes]]

    @property
    def server(self) -> EmbeddedServer:
        return EmbeddedServer(self.data)

    def last_of(self, project: str) -> tuple[int, bytes]:
        return next((seq, body) for seq, subject, body in reversed(self.messages) if subject == f"qd.ledger.{project}")

    def flip(self, body: bytes) -> None:
        """Change one bit in the middle of a message's body where the server keeps it."""
        (block,) = self.data.rglob("LEDGER/msgs/*.blk")
        content = bytearray(block.read_bytes())
        place = content.find(body)
        assert place > 0
        content[place + len(body) // 2] ^= 0x01
        block.write_bytes(content)


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", loop_options(with_duckdb=True)


@pytest.fixture(scope="module")
async def kept(tmp_path_factory: pytest.TempPathFactory, anyio_backend: tuple[str, Any]) -> Kept:
    """A ledger of a whole launch, made by real controllers; after the newest message of `shop` the registry recorded its head."""
    folder = tmp_path_factory.mktemp("kept")
    async with ring(folder, controllers=0) as made:
        first = await made.controller("first")
        await made.active()
        await made.catalogue()
        await made.node()
        await made.launch()
        await made.ended()
        first.cancel()
        await made.controller("second")
        await until_recorded(made.bus, "shop")
        messages = await stored(made.bus)
    return Kept(folder / "bus", messages)


@pytest.fixture
def copy(kept: Kept, tmp_path: Path) -> Kept:
    """The same in a folder of its own, to be spoiled."""
    shutil.copytree(kept.data, tmp_path / "bus")
    return kept._replace(data=tmp_path / "bus")


async def qd(data: Path, server: EmbeddedServer | None, *arguments: str) -> Done:
    """Run the client as a process of its own."""
    there = () if server is None else ("--server", server.url, "--token-file", str(server.token_file))
    environment = {"PATH": os.environ["PATH"], "QD_STATE_DIR": str(data / "state"), "QD_CONFIG_DIR": str(data / "config")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli", *there, *arguments, cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())


@contextlib.asynccontextmanager
async def serving(server: EmbeddedServer, data: Path, *which: str) -> AsyncIterator[None]:
    """Run a controller or a timeline or both in this process."""
    credentials: dict[str, Any] = {"server": server.url, "token": server.credentials.token}
    async with anyio.create_task_group() as tasks:
        if "controller" in which:
            await tasks.start(controller, ControllerConfig(**credentials, owner="auditor"))
        if "timeline" in which:
            await tasks.start(timeline, TimelineConfig(**credentials, data=data / "timeline"))
        try:
            yield
        finally:
            tasks.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def client(server: EmbeddedServer) -> AsyncIterator[Bus]:
    bus = await connect(server.url, "test", server.credentials, retry=True)
    try:
        yield bus
    finally:
        await bus.close()


async def until(bus: Bus, query: str, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Return an answer once it is as wanted."""
    answer: dict[str, Any] = {}
    with anyio.move_on_after(20):
        while True:
            with contextlib.suppress(Unavailable, QueryFailed):
                answer = await ask(bus, query, {})
                if fits(answer):
                    return answer
            await anyio.sleep(0.05)
    raise AssertionError(f"{query} never came to be as wanted; last: {answer}")


async def stored(bus: Bus) -> list[tuple[int, str, bytes]]:
    last = (await stream_state(bus, LEDGER)).last_seq
    return [(one.seq, one.subject, one.data) async for batch in read_up_to(bus, LEDGER, ("qd.ledger.*",), 1, last) for one in batch]


async def heads_of(bus: Bus) -> dict[str, tuple[int, str]]:
    return {subject.rpartition(".")[2]: (seq, codec.body_sha256(data)) for seq, subject, data in await stored(bus)}


async def recorded(bus: Bus) -> list[dict[str, tuple[int, str]]]:
    """Every record of heads, in order."""
    found = []
    for _, _, data in await stored(bus):
        for decision in codec.decode_ledger(data).decisions:
            for event in decision.events:
                if isinstance(event, e.HeadsRecorded):
                    assert decision.cause == TimerCause("heads")
                    found.append({head.project: (head.seq, head.sha256) for head in event.heads})
    return found


async def until_recorded(bus: Bus, project: str) -> None:
    """Return when the newest head of a project is recorded."""
    with anyio.fail_after(20):
        while True:
            head = (await heads_of(bus)).get(project)
            if any(record.get(project) == head for record in await recorded(bus)):
                return
            await anyio.sleep(0.1)


async def paged(bus: Bus) -> dict[str, list[Any]]:
    """Return the heads that the timeline tells, one a page."""
    found: dict[str, list[Any]] = {}
    page: dict[str, Any] = {"next": ""}
    while page["next"] is not None:
        page = await ask(bus, "audit", {"after": page["next"], "limit": 1})
        assert len(page["items"]) == 1
        found |= {item["project"]: [item["seq"], item["sha256"]] for item in page["items"]}
    return found


# ── heads ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_controller_that_takes_over_records_the_heads_that_changed_and_nothing_when_none_did(copy: Kept, tmp_path: Path) -> None:
    async with copy.server as server, client(server) as bus:
        before = await recorded(bus)
        assert before[-1] == {"shop": (await heads_of(bus))["shop"]}
        async with serving(server, tmp_path, "controller"):
            await until(bus, "status", lambda status: status["owner"] == "auditor")
            await anyio.sleep(0.5)
        assert await recorded(bus) == before
        assert len(await stored(bus)) == len(copy.messages)


# ── a sound ledger ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_ledger_as_it_was_written_is_sound_live_and_as_an_export_whole_or_in_part(copy: Kept, tmp_path: Path) -> None:
    key = make_key(tmp_path, "auditor")
    async with copy.server as server, client(server) as bus, serving(server, tmp_path, "controller", "timeline"):
        last = len(copy.messages)
        await until(bus, "timeline-status", lambda status: int(status["position"].partition(".")[0]) >= last)
        await until(bus, "status", lambda status: status["owner"] == "auditor")
        live = await qd(tmp_path, server, "audit", "verify", "-o", "json")
        assert (live.code, live.violations) == (SOUND, []), live.err
        noted = await qd(tmp_path, server, "audit", "heads")
        (tmp_path / "noted").write_text(noted.out)
        assert await paged(bus) == {project: list(head) for project, head in (await heads_of(bus)).items()}
        whole = await qd(tmp_path, server, "audit", "export", str(tmp_path / "whole"), "--sign", str(key.seed_file))
        assert whole.code == SOUND, whole.err
        assert (await qd(tmp_path, server, "audit", "export", str(tmp_path / "shop"), "--project", "shop", "--since", "4.2")).code == SOUND
        again = await qd(tmp_path, server, "audit", "export", str(tmp_path / "whole"))
        assert (again.code, "exists" in again.err) == (2, True)
    offline = await qd(
        tmp_path, None, "audit", "verify", str(tmp_path / "whole"), "--signer", key.public, "--heads", str(tmp_path / "noted"), "-o", "json"
    )
    assert (offline.code, offline.violations) == (SOUND, []), offline.err
    assert {check["check"] for check in msgspec.json.decode(offline.out)["checks"]} >= {"files", "lines", "chain", "heads", "signature", "I2", "I20"}
    part = await qd(tmp_path, None, "audit", "verify", str(tmp_path / "shop"), "-o", "json")
    assert (part.code, part.violations) == (SOUND, [])
    exported = [msgspec.json.decode(line) for line in (tmp_path / "whole" / "ledger.jsonl").read_bytes().splitlines()]
    assert [(one["seq"], one["subject"], one["data"].encode()) for one in exported] == copy.messages
    assert not list(tmp_path.glob(".*partial"))


# ── exports that were changed ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def exported(copy: Kept, tmp_path: Path) -> Path:
    async with copy.server as server:
        done = await qd(tmp_path, server, "audit", "export", str(tmp_path / "export"), "--sign", str(make_key(tmp_path, "auditor").seed_file))
        assert done.code == SOUND, done.err
    return tmp_path / "export"


def findings(folder: Path) -> list[tuple[str, str]]:
    read = ReadExport(folder)
    read.read()
    return [(found.invariant, found.where) for found in read.findings]


async def test_any_flipped_bit_of_any_file_of_an_export_is_found_in_that_file_and_line(exported: Path) -> None:
    assert findings(exported) == []
    chance = random.Random(20261125)
    files = sorted(exported.iterdir())
    assert [path.name for path in files] == ["ledger.jsonl", "manifest.json", "manifest.sig", "rep.jsonl"]
    for number in range(FLIPS):
        path = files[number % len(files)]
        good = path.read_bytes()
        bad = bytearray(good)
        # the ends of a file, where a format is easily blind, as often as all the rest
        place = chance.choice([*range(3), *range(len(good) - 3, len(good)), *(chance.randrange(len(good)) for _ in range(6))])
        bad[place] ^= 1 << chance.randrange(8)
        path.write_bytes(bad)
        found = findings(exported)
        path.write_bytes(good)
        where = f"flip {place} of {path.name}"
        assert any(path.name in named for _, named in found), (where, found)
        if path.suffix == ".jsonl":
            line = good.count(b"\n", 0, place) + 1
            assert any(named.startswith(f"{path.name} line {line},") for check, named in found if check == "lines"), (where, found)
    assert findings(exported) == []


@pytest.mark.parametrize("file", ["ledger.jsonl", "rep.jsonl"])
async def test_lines_that_are_gone_twice_moved_or_put_in_are_found(exported: Path, file: str) -> None:
    path = exported / file
    good = path.read_bytes()
    lines = good.splitlines(keepends=True)
    first, second, *rest = lines
    forged = lines[3].replace(b'"seq":', b'"seq":1', 1)
    spoiled = {
        "the tail": lines[:-1],
        "the middle": [first, *rest],
        "the beginning": lines[1:],
        "the order": [second, first, *rest],
        "twice": [first, first, second, *rest],
        "put in": [*lines[:3], forged, *lines[3:]],
        "a piece of the last": [*lines[:-1], lines[-1][: len(lines[-1]) // 2]],
        "everything": [],
    }
    for what, left in spoiled.items():
        path.write_bytes(b"".join(left))
        assert any(file in where for _, where in findings(exported)), what
    path.write_bytes(good)
    assert findings(exported) == []
    path.unlink()
    assert ("files", file) in findings(exported)
    path.write_bytes(good)
    (exported / "more.jsonl").write_text("{}")
    assert findings(exported) == [("files", "more.jsonl")]


async def test_an_export_that_was_made_anew_throughout_is_found_by_who_did_not_sign_it_and_by_heads_noted_before(
    exported: Path, copy: Kept, tmp_path: Path
) -> None:
    seq, body = copy.last_of("shop")
    (tmp_path / "noted").write_text(f"shop {seq} {codec.body_sha256(body)}\n")
    forged = tmp_path / "forged"
    async with EmbeddedServer(tmp_path / "other") as server, client(server) as bus:
        await bus.api("STREAM.CREATE.LEDGER", {"name": "LEDGER", "subjects": ["qd.ledger.*"], "storage": "file"})
        await bus.api("STREAM.CREATE.REP", {"name": "REP", "subjects": ["qd.rep.>"], "storage": "file"})
        newest: dict[str, str] = {}
        for _, subject, data in copy.messages:
            data = data.replace(b'"by":"first"', b'"by":"forge"')  # the same everywhere, with a chain that holds
            prev = codec.decode_ledger(data).prev
            data = data.replace(prev.encode(), newest.get(subject, prev).encode())
            await bus.append(subject, data)
            newest[subject] = codec.body_sha256(data)
        signed = make_key(tmp_path, "forger")
        assert (await qd(tmp_path, server, "audit", "export", str(forged), "--sign", str(signed.seed_file))).code == SOUND
    genuine = msgspec.json.decode((exported / "manifest.json").read_bytes())["signer"]
    by_signature = await qd(tmp_path, None, "audit", "verify", str(forged), "--signer", genuine, "--chain-only", "-o", "json")
    assert by_signature.code == UNSOUND
    assert by_signature.names("signature", "manifest.sig", f"expected {genuine}")
    by_heads = await qd(tmp_path, None, "audit", "verify", str(forged), "--heads", str(tmp_path / "noted"), "--chain-only", "-o", "json")
    assert by_heads.code == UNSOUND
    assert by_heads.names("heads", f"qd.ledger.shop message {seq}", "it was changed")


# ── a store that was changed under a stopped server ──────────────────────────────────────────────────────────────────


async def test_a_flipped_bit_in_the_middle_of_the_store_is_named_by_controller_timeline_and_audit(copy: Kept, tmp_path: Path) -> None:
    bodies = [(seq, body) for seq, subject, body in copy.messages if subject == "qd.ledger.shop"]
    (seq, body), (following, _) = bodies[2], bodies[3]
    copy.flip(body)
    async with copy.server as server, client(server) as bus, serving(server, tmp_path, "controller", "timeline"):
        status = await until(bus, "status", lambda status: status["stopped_projects"] != {})
        assert status["stopped_projects"] == {
            "shop": f"ledger message {following} does not follow {bodies[1][0]}: the chain of hashes is broken",
        }
        alarm = (await until(bus, "timeline-status", lambda status: status["state"] == "stopped"))["alarm"]
        assert (alarm["kind"], alarm["seq"]) == ("missing", seq)
        assert "qd audit verify" in alarm["next_step"]
        done = await qd(tmp_path, server, "audit", "verify", "--chain-only", "-o", "json")
        assert done.code == UNSOUND
        assert done.names("sequence", f"message {seq}", "missing")
        assert done.names("chain", f"qd.ledger.shop message {following}", f"expected hash {codec.body_sha256(body)}")
        assert done.names("timeline", "the ledger", "missing")
        assert done.names("controller", "shop", "chain of hashes")
        doctor = await qd(tmp_path, server, "doctor")
        assert doctor.code == 1
        assert f"ledger message {seq} is missing" in doctor.out
        assert "qd audit verify" in doctor.out


async def test_the_lost_tail_of_one_project_is_known_from_the_head_that_the_registry_recorded(copy: Kept, tmp_path: Path) -> None:
    seq, body = copy.last_of("shop")
    assert seq < copy.messages[-1][0]
    copy.flip(body)
    async with copy.server as server, client(server) as bus, serving(server, tmp_path, "controller"):
        status = await until(bus, "status", lambda status: "shop" in status["stopped_projects"])
        assert f"ledger message {seq} is missing" in status["stopped_projects"]["shop"]
        done = await qd(tmp_path, server, "audit", "verify", "--chain-only", "-o", "json")
        assert done.code == UNSOUND
        assert done.names("heads", f"qd.ledger.shop message {seq}", codec.body_sha256(body))
        assert done.names("sequence", f"message {seq}", "missing")


async def test_a_timeline_that_read_it_before_names_the_project_whose_newest_message_is_gone_when_it_starts_again(copy: Kept, tmp_path: Path) -> None:
    seq, body = copy.last_of("shop")
    async with copy.server as server, client(server) as bus, serving(server, tmp_path, "timeline"):
        await until(bus, "timeline-status", lambda status: int(status["position"].partition(".")[0]) >= len(copy.messages))
    copy.flip(body)
    async with copy.server as server, client(server) as bus, serving(server, tmp_path, "timeline"):
        alarm = (await until(bus, "timeline-status", lambda status: status["state"] == "stopped"))["alarm"]
        expected = ("lost-tail", "shop", seq, codec.body_sha256(body), None)
        assert (alarm["kind"], alarm["project"], alarm["seq"], alarm["expected"], alarm["found"]) == expected
        assert f"ledger message {seq}, read before" in alarm["text"]


async def test_a_damaged_end_of_the_store_stops_everybody_instead_of_being_waited_for(copy: Kept, tmp_path: Path) -> None:
    seq, _, body = copy.messages[-1]
    copy.flip(body)
    async with copy.server as server, client(server) as bus, serving(server, tmp_path, "controller", "timeline"):
        status = await until(bus, "status", lambda status: status["stopped_projects"] != {})
        assert {"plane", "shop"} <= set(status["stopped_projects"])
        assert f"gives nothing from {seq} on" in status["stopped_projects"]["shop"]
        alarm = (await until(bus, "timeline-status", lambda status: status["state"] == "stopped"))["alarm"]
        assert (alarm["kind"], alarm["seq"]) == ("damaged", seq)
        done = await qd(tmp_path, server, "audit", "verify", "--chain-only", "-o", "json")
        assert done.code == UNSOUND
        assert done.names("sequence", f"message {seq}", "damaged")


async def test_an_older_copy_of_the_store_is_a_lost_tail_to_the_timeline_and_to_noted_heads(copy: Kept, kept: Kept, tmp_path: Path) -> None:
    async with copy.server as server, client(server) as bus, serving(server, tmp_path, "controller", "timeline"):
        await until(bus, "status", lambda status: status["owner"] == "auditor")
        async with CommandClient(bus, c.Via.API) as commands:
            await commands.submit(c.DesignAdd("shop", "Later", "## Phase 1\n", Complexity.SIMPLE, ()), "later")
        last = (await stream_state(bus, LEDGER)).last_seq
        head = (await heads_of(bus))["shop"]
        await until(bus, "timeline-status", lambda status: int(status["position"].partition(".")[0]) >= last)
        noted = await qd(tmp_path, server, "audit", "heads", "-o", "json")
        (tmp_path / "noted.json").write_text(noted.out)
    shutil.rmtree(copy.data)
    shutil.copytree(kept.data, copy.data)
    async with copy.server as server, client(server) as bus, serving(server, tmp_path, "timeline"):
        alarm = (await until(bus, "timeline-status", lambda status: status["state"] == "stopped"))["alarm"]
        assert (alarm["kind"], alarm["project"], alarm["seq"], alarm["expected"]) == ("lost-tail", "shop", *head)
        done = await qd(tmp_path, server, "audit", "verify", "--chain-only", "--heads", str(tmp_path / "noted.json"), "-o", "json")
        assert done.code == UNSOUND
        assert done.names("heads", f"qd.ledger.shop message {head[0]}", "its tail was lost")
        assert done.names("heads", f"message {last}", "noted.json has read up to")
        assert done.names("timeline", "shop", "was rewound")


async def test_an_operator_may_not_read_the_raw_ledger_and_is_told_whose_key_may(tmp_path: Path) -> None:
    async with built(tmp_path) as world:
        here = ("--server", world.server.url, "--principal", "ana", "--creds", str(world.seeds["ana"]))
        for arguments in (("verify",), ("export", str(tmp_path / "stolen"))):
            done = await qd(tmp_path, None, *here, "audit", *arguments)
            assert (done.code, "key of a service" in done.err) == (4, True), done
        assert not list(tmp_path.glob("*stolen*"))
        service = ("--server", world.server.url, "--principal", "controller", "--creds", str(world.seeds["controller"]))
        done = await qd(tmp_path, None, *service, "audit", "verify", "--chain-only", "-o", "json")
        assert done.code == UNSOUND  # of that world's ledger, which is one message that is no decision
        assert done.names("chain", "qd.ledger.shop message 1", "does not decode")

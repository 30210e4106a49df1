"""The client on a server where everybody has a key and an account of their own."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from bus.embedded import EmbeddedServer
from bus.identity import Identity, Kind, accounts, make_key
from tests.acceptance.deck import Client, Done

EVERYBODY = ((Kind.SERVICE, "controller"), (Kind.OPERATOR, "ana"), (Kind.NODE, "alpha"))


@pytest.mark.anyio
async def test_what_an_identity_may_not_do_is_exit_4_at_once(tmp_path: Path) -> None:
    client = Client(tmp_path)
    keys = {name: make_key(tmp_path / "keys", name) for _, name in EVERYBODY}
    text = accounts([Identity(kind, name, keys[name].public) for kind, name in EVERYBODY])
    async with EmbeddedServer(tmp_path / "server", authorization=text) as server:

        async def qd(*arguments: str, who: str, key: str | None = None) -> Done:
            here = ("--server", server.url, "--principal", who, "--creds", str(keys[key or who].seed_file), "-o", "json")
            call: Any = partial(client.run, *arguments, *here)
            found: Done = await anyio.to_thread.run_sync(call)
            return found

        unsafe = await qd("bus", "init", who="controller")
        assert (unsafe.code, unsafe.error["code"]) == (6, "unsafe_sync")
        made = await qd("bus", "init", "--allow-unsafe-sync", who="controller")
        assert (made.code, {item["done"] for item in made.json["items"]}) == (0, {"created"})
        with anyio.fail_after(30):
            refused = [
                await qd("bus", "info", who="ana"),
                await qd("bus", "init", "--dry-run", who="ana"),
                await qd("ls", who="alpha"),
                await qd("project", "add", "shop", "--repo", "/srv/shop", who="ben", key="ana"),
            ]
        assert [(done.code, done.error["code"]) for done in refused] == [(4, "validation_not_authorized")] * 4
        missing = await qd("ls", who="ana")
        assert (missing.code, missing.error["code"]) == (9, "unreachable")
        health = await qd("doctor", who="ana")
        assert health.code == 1
        assert {check["check"]: check["state"] for check in health.json["checks"]} == {
            "bus": "ok",
            "streams": "skip",
            "controller": "fail",
            "timeline": "fail",
            "nodes": "fail",
        }

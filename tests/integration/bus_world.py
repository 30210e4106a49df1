"""A world for the tests of identity: a server with accounts, two operators, two nodes, something to steal from each."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import anyio

from bus.bootstrap import ensure_all, ensure_consumer
from bus.connection import Bus, Credentials, connect
from bus.embedded import EmbeddedServer
from bus.identity import Identity, Kind, accounts, make_key, permissions_of
from bus.request import QueryService
from bus_schemas import subjects

EVERYBODY = (
    (Kind.SERVICE, "controller"),
    (Kind.OPERATOR, "ana"),
    (Kind.OPERATOR, "ben"),
    (Kind.NODE, "a"),
    (Kind.NODE, "b"),
)


class World(NamedTuple):
    """A server with accounts, its streams made, an order waiting for each node, and a report of node b."""

    server: EmbeddedServer
    seeds: dict[str, Path]
    identities: list[Identity]
    controller: Bus

    async def join(self, name: str) -> Bus:
        return await connect(self.server.url, name, Credentials(name, seed_file=self.seeds[name]))


def report(node: str, kind: str = "started", run: str = "shop-o1-r1", nonce: str = "n1") -> str:
    return subjects.report(node, "shop", run, 1, nonce, kind)


async def furnish(controller: Bus) -> None:
    await ensure_all(controller)
    for node in ("a", "b"):
        for spec in subjects.node_consumers(node, 4):
            await ensure_consumer(controller, spec)
        await controller.append(subjects.work(node, "shop-o1-r1", 1), f"order of {node}".encode())
    await controller.append(subjects.ledger("shop"), b"the first decision")
    await controller.append(report("b", nonce="secret"), b"a report of b")


@contextlib.asynccontextmanager
async def built(folder: Path, *, one_account: bool = False) -> AsyncIterator[World]:
    keys = {name: make_key(folder / "keys", name) for _, name in EVERYBODY}
    identities = [Identity(kind, name, keys[name].public) for kind, name in EVERYBODY]
    text = in_one_account(identities) if one_account else accounts(identities)
    async with EmbeddedServer(folder / "server", authorization=text) as server:
        seeds = {name: key.seed_file for name, key in keys.items()}
        controller = await connect(server.url, "controller", Credentials("controller", seed_file=seeds["controller"]))
        try:
            await furnish(controller)
            yield World(server, seeds, identities, controller)
        finally:
            await controller.close()


def in_one_account(identities: list[Identity]) -> str:
    """Return a configuration with the same permissions and one account for all: what accounts of their own are for."""

    def user(identity: Identity) -> str:
        may = permissions_of(identity)
        publish, subscribe = ("[" + ", ".join(f'"{subject}"' for subject in allowed) + "]" for allowed in may)
        return f"{{ nkey: {identity.public}, permissions: {{ publish: {publish}, subscribe: {subscribe} }} }}"

    return "authorization { users: [\n" + "\n".join(user(identity) for identity in identities) + "\n] }"


@contextlib.asynccontextmanager
async def answering(world: World) -> AsyncIterator[None]:
    """A controller that answers queries: its answers go where the asker's account says, and nowhere else."""

    async def ping(params: dict[str, Any]) -> dict[str, Any]:
        return {"pong": params}

    async with anyio.create_task_group() as tasks:
        await tasks.start(QueryService(world.controller, "controller", "0.0.1", {"ping": ping}).run)
        yield
        tasks.cancel_scope.cancel()

"""One `qd up` for all acceptance tests, on folders of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.deck import GREETING, Client, Deck, make_repo


@pytest.fixture(scope="session")
def deck(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deck]:
    deck = Deck(tmp_path_factory.mktemp("deck"))
    deck.up()
    try:
        yield deck
    finally:
        deck.down()


@pytest.fixture
def alone(tmp_path: Path) -> Client:
    """A client on a machine where nothing runs."""
    return Client(tmp_path)


@pytest.fixture(scope="session")
def repo(deck: Deck) -> Path:
    return make_repo(deck.folder / "shop")


@pytest.fixture(scope="session")
def shop(deck: Deck, repo: Path) -> str:
    deck.qd("project", "add", "shop", "--repo", str(repo))
    return "shop"


@pytest.fixture(scope="session")
def greeting(deck: Deck, shop: str) -> str:
    """A design that is ready and can be launched as often as wanted, under different features."""
    return deck.design(shop, "Greeting", GREETING)

"""A pytest plugin for mutation runs: the kept histories first, since one of them sees nearly every fault of the core."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: "word_for_word" not in item.name)

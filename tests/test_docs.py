"""The docs do not lie about reason codes and words."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from bus_schemas.reasons import EXPLANATIONS, Reason
from cli.exits import explanation_of

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

GLOSSARY = (DOCS / "glossary.md").read_text()
ROWS = [(match[1], match[2], match[3]) for match in re.finditer(r"^\| (.+?) \| (.+?) \| `(.+?)` \|$", GLOSSARY, re.MULTILINE)]


def script(name: str) -> ModuleType:
    """Return a script of the docs as a module."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_reason_codes_is_written_from_the_code() -> None:
    written = script("draw_reason_codes").page()
    assert (DOCS / "reason-codes.md").read_text() == written, "run `uv run python docs/draw_reason_codes.py`"


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_code_stands_on_its_page_and_is_explained_by_the_command_line(reason: Reason) -> None:
    assert f"| `{reason}` |" in (DOCS / "reason-codes.md").read_text()
    assert explanation_of(reason) == EXPLANATIONS[reason]


def test_what_an_explanation_says_to_run_is_a_verb_of_ours() -> None:
    found = [verb for explanation in EXPLANATIONS.values() for text in explanation for verb in re.findall(r"`qd ([a-z]+(?: [a-z]+)*)", text)]
    reference = (DOCS / "cli.md").read_text()
    assert len(found) > 10
    assert {verb for verb in found if f"qd {verb}" not in reference} == set()


@pytest.mark.parametrize(("word", "meaning", "where"), ROWS, ids=[word for word, _, _ in ROWS])
def test_a_word_of_the_glossary_is_defined_where_it_says(word: str, meaning: str, where: str) -> None:
    assert meaning.endswith(".")
    text = (ROOT / where).read_text().lower()
    assert any(part.split()[0] in text for part in word.lower().split(", ")), f"{where} does not know the word {word}"


def test_a_word_stands_in_the_glossary_once_and_no_row_is_of_another_form() -> None:
    words = [part for word, _, _ in ROWS for part in word.split(", ")]
    assert [word for word in words if words.count(word) > 1] == []
    heads = GLOSSARY.count("| word | meaning | where |")
    assert heads >= 5
    assert len(ROWS) == GLOSSARY.count("\n| ") - heads > 40

"""Ids: what is a safe subject token and what is refused before it reaches the bus."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus_schemas import ids
from bus_schemas.ids import BadId

NEVER = (
    "",
    " ",
    "*",
    ">",
    "a.b",
    "a*",
    "a>",
    "*.a",
    "$JS.API.x",
    "$SYS",
    "_INBOX",
    "..",
    ".",
    "../../x",
    "a/b",
    "a\\b",
    "-a",
    "shop\n",
    "\nshop",
    "shop\r\n",
    "sh\0op",
    "\0",
    "shop ",
    " shop",
    "shop\t",
    "sh op",
    "Shop",
    "SHOP-D1",
    "shop-D1",
    "shop_d1",
    "shöp",
    "ѕhop",  # a Cyrillic s
    "shop\u00a0",
    "shop\u202e",
    "\u200fshop",
    "متجر",
    "shop-d１",  # a full-width digit
    "shop\ud800",
    "shop%2e",
    "shop'",
    'shop"',
    "a" * 5000,
    "shop-d" + "1" * 5000,
)
"""No id at all."""

SLUGS = ("a", "a1", "shop", "mac-mini-1", "a--b", "shop-d3", "shop-o12", "shop-o12-r7", "a" * 32)
NO_SLUGS = (*NEVER, "1", "1a", "a-", "shop-", "a" * 33, "shop-d3-")

Make = Callable[[str], str]
NUMBERED: dict[str, Make] = {"d": ids.design_id, "t": ids.ticket_id, "o": ids.orchestration_id, "a": ids.action_id}

slugs = st.from_regex(ids._SLUG, fullmatch=True)
numbers = st.integers(1, 10**12 - 1)
kinds = st.sampled_from(sorted(NUMBERED))


@pytest.mark.parametrize("make", [ids.project_id, ids.node_id, ids.principal])
@pytest.mark.parametrize("text", SLUGS)
def test_a_slug_is_a_project_a_node_and_a_principal(make: Make, text: str) -> None:
    assert make(text) == text


@pytest.mark.parametrize("make", [ids.project_id, ids.node_id, ids.principal])
@pytest.mark.parametrize("text", NO_SLUGS, ids=lambda text: ascii(text)[:24])
def test_what_is_no_slug_is_refused(make: Make, text: str) -> None:
    with pytest.raises(BadId):
        make(text)


@pytest.mark.parametrize("text", ["a", "0", "9a", "1-5", "a-", "shop-o12-r7", "a" * 63])
def test_a_token_may_start_with_a_digit(text: str) -> None:
    assert ids.token(text) == text


@pytest.mark.parametrize("text", [*NEVER, "a" * 64], ids=lambda text: ascii(text)[:24])
def test_what_is_no_subject_token_is_refused_by_its_noun(text: str) -> None:
    with pytest.raises(BadId, match=r"^command id "):
        ids.token(text, "command id")


@pytest.mark.parametrize("kind", NUMBERED)
@pytest.mark.parametrize("project", SLUGS)
@pytest.mark.parametrize("number", ["1", "10", "999999999999"])
def test_a_numbered_id_is_a_project_a_letter_and_a_counter(kind: str, project: str, number: str) -> None:
    text = f"{project}-{kind}{number}"
    assert NUMBERED[kind](text) == text
    assert ids.project_of(text) == project


@pytest.mark.parametrize(("kind", "other"), [(kind, other) for kind in NUMBERED for other in "dtoarxD" if kind != other])
def test_a_numbered_id_of_another_kind_is_refused_with_an_example(kind: str, other: str) -> None:
    with pytest.raises(BadId, match=f"like shop-{kind}3"):
        NUMBERED[kind](f"shop-{other}3")


@pytest.mark.parametrize("make", [*NUMBERED.values(), ids.run_id, ids.project_of, ids.orchestration_of])
@pytest.mark.parametrize("text", NEVER, ids=lambda text: ascii(text)[:24])
def test_what_is_no_id_is_refused_by_every_constructor(make: Make, text: str) -> None:
    with pytest.raises(BadId):
        make(text)


@pytest.mark.parametrize(
    "text",
    [
        "shop",
        "shop-d",
        "shop-d0",
        "shop-d01",
        "shop-d-1",
        "shop-d1.5",
        "-d1",
        "1-d1",
        "shop--d",
        "shop-d1\n",
        "d1",
        "shop-d1000000000000",
        "shop-d1-",
    ],
)
def test_a_design_id_needs_a_project_and_a_counter_without_leading_zeros(text: str) -> None:
    with pytest.raises(BadId):
        ids.design_id(text)


@pytest.mark.parametrize(
    "text", ["shop-o12", "shop-o12-r0", "shop-o12-r07", "shop-o12-r7-r8", "shop-d12-r7", "shop-o-r7", "shop-o12-r7\n", "shop-o12-r1000000000"]
)
def test_a_run_id_is_an_orchestration_and_a_counter(text: str) -> None:
    with pytest.raises(BadId):
        ids.run_id(text)


@pytest.mark.parametrize("value", [None, 3, b"shop", ["shop"]])
def test_a_value_that_is_no_text_is_refused(value: object) -> None:
    constructors: tuple[Callable[[str], str], ...] = (ids.project_id, ids.token, ids.design_id, ids.run_id, ids.phase_id, ids.idempotency_key)
    for make in constructors:
        with pytest.raises(BadId):
            make(value)  # type: ignore[arg-type]


@given(slugs, kinds, numbers)
def test_the_project_of_an_id_is_the_one_it_was_made_of(project: str, kind: str, number: int) -> None:
    assert ids.project_of(f"{project}-{kind}{number}") == project


@given(slugs, numbers, st.integers(1, 10**9 - 1))
def test_the_orchestration_and_project_of_a_run_are_those_it_was_made_of(project: str, number: int, run: int) -> None:
    orchestration = f"{project}-o{number}"
    assert ids.orchestration_of(f"{orchestration}-r{run}") == orchestration
    assert ids.project_of(f"{orchestration}-r{run}") == project


@given(st.text() | st.from_regex(r"[a-z0-9.*>\s-]{1,70}"))
def test_every_accepted_id_is_one_safe_token_for_its_subject(text: str) -> None:
    for make in (*NUMBERED.values(), ids.project_id, ids.node_id, ids.principal, ids.run_id, ids.token):
        try:
            accepted = make(text)
        except BadId:
            continue
        assert accepted == text
        assert re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", text)


@given(slugs, kinds, numbers)
def test_an_id_fits_a_subject_token_however_long_its_project_is(project: str, kind: str, number: int) -> None:
    assert ids.token(f"{project}-{kind}{number}")
    assert ids.token(f"{project}-o{number}-r{10**9 - 1}")


def test_a_project_that_looks_like_an_id_keeps_its_own_ids_apart() -> None:
    assert ids.project_of("shop-d3-d1") == "shop-d3"
    assert ids.project_of("shop-o12-r7-o1") == "shop-o12-r7"
    assert ids.project_of("shop-o12-r7") == "shop"
    assert ids.orchestration_of("shop-o12-r7-o1-r2") == "shop-o12-r7-o1"


def test_a_refusal_shows_what_it_refused_escaped_and_short() -> None:
    with pytest.raises(BadId) as caught:
        ids.project_id("\x1b[31m" + "x" * 5000)
    assert str(caught.value).startswith("project '\\x1b[31mxxx")
    assert len(str(caught.value)) < 200


def test_what_is_shown_has_no_control_characters_and_a_bound() -> None:
    assert ids.shown("a\n\x1b\u202e") == "'a\\n\\x1b\\u202e'"
    assert ids.shown(3) == "'3'"
    assert ids.shown("x" * 100, 20) == "'" + "x" * 15 + "...'"
    assert len(ids.shown("\u202e" * 100)) == 60


@pytest.mark.parametrize("text", ["1", "2", "10", "9999", "1.5", "1.5.5", "9999.5.5"])
def test_a_phase_is_a_number_with_at_most_two_remediations(text: str) -> None:
    assert ids.phase_id(text) == text
    assert re.fullmatch(ids._TOKEN, ids.phase_token(text))


@pytest.mark.parametrize(
    "text", ["", "0", "01", "-1", "1.", ".5", "1.4", "1.50", "1.5.5.5", "10000", "1-5", "1 ", "1\n", "1.5\n", "١", "１", "*", ">", "a"]
)
def test_what_is_no_phase_is_refused(text: str) -> None:
    with pytest.raises(BadId, match=r"N, N\.5 or N\.5\.5"):
        ids.phase_id(text)


def test_phases_are_remedied_twice_and_then_no_more() -> None:
    assert ids.remediation_phase("1") == "1.5"
    assert ids.remediation_phase("1.5") == "1.5.5"
    assert ids.remediation_phase("1.5.5") is None
    assert [ids.main_phase(phase) for phase in ("12", "12.5", "12.5.5")] == [12, 12, 12]


@given(st.integers(1, 9999))
def test_a_remediation_stands_between_its_phase_and_the_next(number: int) -> None:
    once = ids.remediation_phase(str(number))
    assert once is not None
    twice = ids.remediation_phase(once)
    assert twice is not None
    assert ids.phase_id(twice) == twice
    order = sorted([str(number), twice, once, str(number + 1)], key=lambda phase: [int(part) for part in phase.split(".")])
    assert order == [str(number), once, twice, str(number + 1)]
    assert len({ids.phase_token(phase) for phase in order}) == 4


@pytest.mark.parametrize("text", ["k", "launch-2026-11-23-01", "with space", "ключ", "🚀", "*", ">", "a.b", "a" * 200, "ß" * 100, "🚀" * 50])
def test_any_printable_text_is_an_idempotency_key(text: str) -> None:
    assert ids.idempotency_key(text) == text


@pytest.mark.parametrize(
    "text",
    ["", " ", "   ", "a\n", "\n", "a\0", "a\tb", "\x7f", "a\x1b[0m", "\ud800", "a\udfff", "\u200b", "a\u202eb", "a\u00a0b", "\ufeffa", "\ue000"],
    ids=ascii,
)
def test_a_key_that_cannot_be_printed_is_refused(text: str) -> None:
    with pytest.raises(BadId, match="printable"):
        ids.idempotency_key(text)


@pytest.mark.parametrize("text", ["a" * 201, "ß" * 100 + "a", "🚀" * 50 + "a", "a" * 5000])
def test_a_key_of_more_than_200_bytes_is_refused_by_its_bytes(text: str) -> None:
    with pytest.raises(BadId, match=f"of {len(text.encode())} bytes is too long: at most 200"):
        ids.idempotency_key(text)


@given(st.text(st.characters(), max_size=210))
def test_every_accepted_key_has_1_to_200_bytes_of_utf_8(text: str) -> None:
    try:
        key = ids.idempotency_key(text)
    except BadId:
        return
    assert 1 <= len(key.encode()) <= 200
    assert key.isprintable()


@pytest.mark.parametrize(
    ("feature", "slug"),
    [
        ("Add a thing", "add-a-thing"),
        ("  Trim  --me-- ", "trim-me"),
        ("a/b\\c:d", "a-b-c-d"),
        ("../../etc/passwd", "etc-passwd"),
        ("Größe", "gr-e"),
        ("日本語", ""),
        ("", ""),
        ("---", ""),
        ("x" * 50, "x" * 40),
        ("x" * 39 + " yes", "x" * 39),
        ("K", "k"),  # the Kelvin sign
        ("2 fast", "2-fast"),
        ("a\n\0b", "a-b"),
    ],
)
def test_the_slug_of_a_feature_is_lower_case_and_short(feature: str, slug: str) -> None:
    assert ids.slug_of(feature) == slug


@given(st.text(max_size=100))
def test_a_slug_is_empty_or_a_safe_token_and_the_slug_of_itself(feature: str) -> None:
    slug = ids.slug_of(feature)
    assert re.fullmatch(r"|[a-z0-9]+(-[a-z0-9]+)*", slug)
    assert len(slug) <= 40
    assert ids.slug_of(slug) == slug

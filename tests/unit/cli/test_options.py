"""Global options: any position, and which source wins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.failure import Failure
from cli.options import GLOBAL_OPTIONS, Options, merge, split


@pytest.mark.parametrize(
    "arguments",
    [
        ["-o", "json", "ls", "--limit", "3"],
        ["ls", "-o", "json", "--limit", "3"],
        ["ls", "--limit", "3", "-ojson"],
        ["ls", "--limit", "3", "--output=json"],
        ["--output", "json", "ls", "--limit", "3"],
    ],
)
def test_a_global_option_is_found_at_any_position(arguments: list[str]) -> None:
    assert split(arguments) == ({"output": "json"}, ["ls", "--limit", "3"])


def test_what_follows_two_dashes_is_left_alone() -> None:
    assert split(["show", "--", "-o", "json"]) == ({}, ["show", "--", "-o", "json"])


def test_wait_and_no_wait_get_the_value_that_may_be_left_out() -> None:
    assert split(["pause", "x", "--wait"])[1] == ["pause", "x", "--wait=accepted"]
    assert split(["pause", "x", "--no-wait"])[1] == ["pause", "x", "--wait=no"]
    assert split(["pause", "x", "--wait=done"])[1] == ["pause", "x", "--wait=done"]


@pytest.mark.parametrize("arguments", [["ls", "-o"], ["ls", "--timeout"], ["ls", "--quiet=yes"]])
def test_a_global_option_with_the_wrong_number_of_values_is_a_usage_error(arguments: list[str]) -> None:
    with pytest.raises(Failure) as failure:
        split(arguments)
    assert failure.value.exit_code == 2


@given(st.lists(st.sampled_from(["ls", "x", "--limit", "3", "--project"]), max_size=5), st.integers(0, 5))
def test_other_arguments_keep_their_order_wherever_a_flag_is_put(rest: list[str], place: int) -> None:
    arguments = [*rest[:place], "--verbose", *rest[place:]]
    assert split(arguments) == ({"verbose": "true"}, rest)


def test_a_flag_wins_over_environment_project_file_and_user_file() -> None:
    files = ({"server": "nats://p"}, {"server": "nats://u", "utc": True})
    assert merge({"server": "nats://f"}, {"QD_SERVER": "nats://e"}, *files).server == "nats://f"
    assert merge({}, {"QD_SERVER": "nats://e"}, *files).server == "nats://e"
    assert merge({}, {}, *files).server == "nats://p"
    assert merge({}, {}, {}, files[1]).server == "nats://u"
    assert merge({}, {}, {}, files[1]).utc
    assert merge({}, {}, {}, {}) == Options()


@pytest.mark.parametrize("key", ["token_file", "creds", "principal", "yes", "nonsense"])
def test_a_file_of_the_current_folder_may_not_choose_what_secret_is_sent(key: str) -> None:
    with pytest.raises(Failure, match="cannot be set there"):
        merge({}, {}, {key: "x"}, {})


def test_no_color_wins_over_the_files_and_gives_way_to_the_flag() -> None:
    assert merge({}, {"NO_COLOR": "1"}, {}, {"color": "always"}).color == "never"
    assert merge({"color": "always"}, {"NO_COLOR": "1"}, {}, {}).color == "always"


@pytest.mark.parametrize(
    ("given_", "text"), [({"output": "xml"}, "allowed: table"), ({"timeout": "soon"}, "not a duration"), ({"server": ""}, "empty")]
)
def test_a_value_that_is_not_allowed_is_named_with_what_is(given_: dict[str, str], text: str) -> None:
    with pytest.raises(Failure, match=text) as failure:
        merge(given_, {}, {}, {})
    assert failure.value.exit_code == 2


def test_each_global_option_is_a_field_of_the_options_and_says_what_it_does() -> None:
    assert {"timeout_s" if option.name == "timeout" else option.name for option in GLOBAL_OPTIONS} == set(Options.__dataclass_fields__)
    assert all(option.help.endswith(".") for option in GLOBAL_OPTIONS)


@pytest.mark.parametrize(("output", "is_json"), [("table", False), ("json", True), ("ndjson", True), ("name", False), ("wide", False)])
def test_a_program_reads_json_and_lines_of_json(output: str, is_json: bool) -> None:
    assert Options(output=output).is_json is is_json

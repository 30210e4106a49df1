from tests.scorecard import PARTS, last_object


def test_the_last_object_that_a_command_prints_is_its_figures() -> None:
    assert last_object('progress {not json}\n{"a": 1}\nmore {"b": {"c": 2}}\n') == {"b": {"c": 2}}
    assert last_object('{\n "a": [\n  {"x": 1}\n ]\n}\n') == {"a": [{"x": 1}]}
    assert last_object("3 passed in 1 s") is None


def test_each_part_has_a_name_of_its_own() -> None:
    assert len({part.name for part in PARTS}) == len(PARTS)

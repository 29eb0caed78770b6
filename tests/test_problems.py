"""builder/problems.py: how a fault is told."""

import pytest

from builder.problems import ConfigError, Finding, Location, Place, Problem, UserError, known

HERE = Location("configs/hosts/pve1.yaml", 14, 13)


def test_a_problem_shows_its_line_with_a_caret() -> None:
    line = "    bridge: vmbr9   # the guests"
    problem = Problem(HERE, "bridge 'vmbr9' is not defined", "unknown-bridge", line)
    assert problem.render() == (
        "configs/hosts/pve1.yaml:14:13: bridge 'vmbr9' is not defined [unknown-bridge]\n"
        "        bridge: vmbr9   # the guests\n"
        "                ^"
    )


def test_the_caret_stands_right_behind_tabs() -> None:
    problem = Problem(Location("a", 1, 4), "m", "c", "\tab: c")
    assert problem.render().splitlines()[2] == "    \t  ^"


def test_a_terminal_is_sent_nothing_that_it_acts_on() -> None:
    problem = Problem(Location("a\x1b[31m", 1, 10), "m\x9b2J\n", "c", "\tx: \x1b[2J\0\x7f\u202e\r")
    assert problem.render() == (
        "a␛[31m:1:10: m\ufffd2J␊ [c]\n"
        "    \tx: ␛[2J␀␡\ufffd␍\n"
        "    \t        ^"
    )  # fmt: skip


def test_of_a_very_long_line_only_the_place_is_shown() -> None:
    line = "x" * 1000 + "HERE" + "y" * 1000
    shown, caret = Problem(Location("a", 1, 1001), "m", "c", line).render().splitlines()[1:]
    assert shown == "    …" + "x" * 60 + "HERE" + "y" * 56 + "…"
    assert caret.index("^") == shown.index("HERE")
    head = Problem(Location("a", 1, 3), "m", "c", line).render().splitlines()
    assert head[1:] == ["    " + "x" * 120 + "…", "      ^"]
    tail = Problem(Location("a", 1, 2005), "m", "c", line).render().splitlines()
    assert tail[1:] == ["    …" + "y" * 60, "    " + " " * 61 + "^"]
    whole = "z" * 120
    assert (
        Problem(Location("a", 1, 120), "m", "c", whole).render().splitlines()[1] == f"    {whole}"
    )


@pytest.mark.parametrize("line", ["", "   ", "\n"])
def test_without_a_line_there_is_no_caret(line: str) -> None:
    assert Problem(HERE, "m", "c", line).render() == "configs/hosts/pve1.yaml:14:13: m [c]"


def test_a_problem_as_json() -> None:
    assert Problem(HERE, "m", "c", "line").as_json() == {
        "file": "configs/hosts/pve1.yaml",
        "line": 14,
        "column": 13,
        "message": "m",
        "code": "c",
    }


def test_problems_are_sorted_by_place_and_told_once() -> None:
    def at(file: str, line: int, column: int) -> Problem:
        return Problem(Location(file, line, column), "m", "c")

    given = [at("b", 1, 1), at("a", 10, 1), at("a", 9, 2), at("a", 9, 1), at("a", 9, 1)]
    error = ConfigError(given)
    assert [str(p.location) for p in error.problems] == ["a:9:1", "a:9:2", "a:10:1", "b:1:1"]
    assert str(error).splitlines()[0] == "a:9:1: m [c]"


def test_an_error_without_a_problem_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="without a problem"):
        ConfigError([])


def test_a_place_leads_to_a_value_or_its_key() -> None:
    place = Place("hosts/pve1") / "guests" / "web" / 0
    assert place == Place("hosts/pve1", ("guests", "web", 0))
    assert place.named() == Place("hosts/pve1", ("guests", "web", 0), key=True)
    assert Finding(place, "m", "c").place.path == ("guests", "web", 0)


def test_a_user_error_shows_what_mends_it() -> None:
    assert str(UserError("no key", "./invoke key.init")) == "no key\n  ./invoke key.init"
    assert str(UserError("no key")) == "no key"


@pytest.mark.parametrize(
    ("given", "legal", "tail"),
    [
        ("vmbr9", ["vmbr0"], "did you mean 'vmbr0'?"),
        ("x", ["b", "a", "b"], "known: a, b"),
        ("x", [], "none is defined"),
        ("gatewy", ["mesh", "gateway"], "did you mean 'gateway'?"),
    ],
)
def test_an_unknown_name_gets_the_nearest_or_all(given: str, legal: list[str], tail: str) -> None:
    assert known(given, legal) == tail

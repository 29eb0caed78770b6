"""builder/inherit.py: `like`, and where its faults are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder import inherit
from tests.written import HOST, said, write, written


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return written(tmp_path)


def test_mappings_are_merged_and_all_else_is_replaced() -> None:
    documents: dict[str, inherit.Document] = {
        "a": {"host": "a", "x": {"k": 1, "l": [1, 2], "gone": 1}, "keep": True, "t": "text"},
        "b": {
            "host": "b",
            "like": "a",
            "x": {"l": [3], "gone": None, "m": {"n": 1}},
            "t": {"o": 2},
        },
    }
    assert inherit.whole("b", documents) == {
        "host": "b",
        "like": "a",
        "x": {"k": 1, "l": [3], "m": {"n": 1}},
        "keep": True,
        "t": {"o": 2},
    }
    assert documents["a"]["x"] == {"k": 1, "l": [1, 2], "gone": 1}, "a document is never changed"


def test_the_nearest_host_wins_and_a_name_is_never_taken_over() -> None:
    documents: dict[str, inherit.Document] = {
        "a": {"host": "a", "x": 1, "y": 1, "z": 1},
        "b": {"host": "b", "like": "a", "x": 2, "y": 2},
        "c": {"like": "b", "x": 3},
    }
    assert inherit.chain("c", documents) == ("b", "a")
    assert inherit.whole("c", documents) == {"like": "b", "x": 3, "y": 2, "z": 1}


def test_a_circle_that_one_only_leads_into_is_told_of_those_in_it(root: Path) -> None:
    for name, like in (("a", "b"), ("b", "c"), ("c", "b")):
        write(root, f"hosts/{name}.yaml", f"host: {name}\nlike: {like}\n")
    circles = [line for line in said(root) if "[like-cycle]" in line]
    assert [line.partition(":")[0] for line in circles] == [
        "configs/hosts/b.yaml",
        "configs/hosts/c.yaml",
    ]
    assert "b → c → b" in circles[0]


def test_what_a_base_does_wrong_is_told_once_and_there(root: Path) -> None:
    write(root, "hosts/base.yaml", HOST.replace("id: 111", "id: 103"))
    for i in range(20):
        write(root, f"hosts/h{i}.yaml", f"host: h{i}\nlike: base\nreach: h{i}\n")
    expected = "configs/hosts/base.yaml:11:12: id 103 is also that of 'app' [duplicate-id]"
    assert said(root) == [expected]


def test_what_a_value_is_wrong_with_names_the_host_that_sees_it(root: Path) -> None:
    other = "host: other\nlike: base\nreach: other\nguests: {app: {id: 103}}\n"
    write(root, "hosts/other.yaml", other)
    expected = "base.yaml:11:12: id 103 is also that of 'app' (host 'other') [duplicate-id]"
    assert [line.removeprefix("configs/hosts/") for line in said(root)] == [expected]

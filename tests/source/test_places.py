"""builder/source: where each value and key stands."""

from __future__ import annotations

import textwrap

import pytest

from builder.problems import Finding, Location, Place
from builder.source import Sources, nearest

TEXT = textwrap.dedent(
    """\
    # é
    host: pve1
    guests:
      web: {id: 101, nets: [a, {b: c}]}
      db:
        id: 102
    """
)


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(
    ("path", "value", "key"),
    [
        ((), (2, 1), (2, 1)),
        (("host",), (2, 7), (2, 1)),
        (("guests",), (4, 3), (3, 1)),
        (("guests", "web", "id"), (4, 13), (4, 9)),
        (("guests", "web", "nets", 1), (4, 28), (4, 28)),
        (("guests", "web", "nets", 1, "b"), (4, 32), (4, 29)),
        (("guests", "db"), (6, 5), (5, 3)),
        # Not there: the key of the nearest that is.
        (("guests", "db", "cores"), (5, 3), (5, 3)),
        (("guests", "db", "id", "x", 3), (6, 5), (6, 5)),
        (("guests", "nobody", "id"), (3, 1), (3, 1)),
        (("nothing",), (1, 1), (1, 1)),
    ],
)
def test_a_path_leads_to_its_value_and_key(
    path: tuple[str | int, ...], value: tuple[int, int], key: tuple[int, int]
) -> None:
    assert nearest("a.yaml", TEXT, path)[1] == Location("a.yaml", *value)
    assert nearest("a.yaml", TEXT.encode(), path, key=True)[1] == Location("a.yaml", *key)


def test_sources_look_into_the_document_that_holds_most_of_the_path() -> None:
    child = "like: pve1\nguests:\n  web: {cores: 4}\n"
    texts: dict[str, tuple[str, str | bytes]] = {
        "hosts/pve1": ("pve1.yaml", TEXT),
        "hosts/lab": ("lab.yaml", child.encode()),
    }
    sources = Sources(texts, {"hosts/lab": ("hosts/pve1",)})

    def at(*path: str | int, key: bool = False) -> str:
        finding = Finding(Place("hosts/lab", path, key), "m", "c")
        return str(sources.problem(finding).location)

    assert at("guests", "web", "cores") == "lab.yaml:3:16"
    assert at("guests", "web", "id") == "pve1.yaml:4:13"
    assert at("guests", "web", key=True) == "lab.yaml:3:3"
    assert at("guests", "web", "memory") == "lab.yaml:3:3"
    assert at("guests", "db", "id", key=True) == "pve1.yaml:6:5"
    assert at("nothing") == "lab.yaml:1:1"
    (problem,) = sources.problems([Finding(Place("hosts/lab", ("guests", "db")), "m", "c")])
    assert problem.render() == "pve1.yaml:6:5: m [c]\n        id: 102\n        ^"
    with pytest.raises(KeyError):
        sources.problem(Finding(Place("site"), "m", "c"))

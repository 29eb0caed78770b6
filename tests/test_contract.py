"""The release format: schema, dataclasses and the documents under contract/ agree."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder import codec, manifest, tree
from builder.manifest import GuestNode, LayerIndex, Release

ROOT = Path(__file__).parents[1]
CONTRACT = ROOT / "tests/contract"
SCHEMA: dict[str, Any] = json.loads((ROOT / "schema/manifest.schema.json").read_text())
GOOD = sorted(path.name for path in (CONTRACT / "good").iterdir())
REASONS: dict[str, dict[str, str]] = json.loads((CONTRACT / "bad/reasons.json").read_text())
BAD = sorted(REASONS)

PARSE: dict[str, Callable[[bytes], Any]] = {
    "release": manifest.parse,
    "guest": manifest.parse_guest,
    "index": manifest.parse_index,
}
DUMP: dict[str, Callable[[Any], bytes]] = {
    "release": manifest.dump,
    "guest": manifest.dump_guest,
    "index": manifest.dump_index,
}


def validates(kind: str, plain: object) -> bool:
    schema = SCHEMA | {"$ref": f"#/$defs/{kind}"}
    return jsonschema.Draft202012Validator(schema).is_valid(plain)


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_each_bad_document_has_its_reason():
    files = {path.name for path in (CONTRACT / "bad").iterdir()} - {"reasons.json"}
    assert files == set(BAD)
    assert {reason["refused_by"] for reason in REASONS.values()} == {"schema", "rules", "bytes"}


@pytest.mark.parametrize("name", GOOD)
def test_good(name: str):
    kind, data = name.partition("-")[0], (CONTRACT / "good" / name).read_bytes()
    value = PARSE[kind](data)
    assert DUMP[kind](value) == data
    assert validates(kind, json.loads(data))


@pytest.mark.parametrize("name", BAD)
def test_bad(name: str):
    kind, data = name.partition("-")[0], (CONTRACT / "bad" / name).read_bytes()
    reason = REASONS[name]
    with pytest.raises(codec.ManifestError) as caught:
        PARSE[kind](data)
    assert reason["message"] in str(caught.value)
    assert not set(str(caught.value)) & {"\0", "\x1b"}, "a raw control character in a message"
    if reason["refused_by"] == "bytes":
        return
    plain = json.loads(data)
    assert codec.canonical(plain) == data
    assert validates(kind, plain) is (reason["refused_by"] == "rules")


def test_too_long_a_document():
    with pytest.raises(codec.ManifestError, match="over 16 MiB"):
        manifest.parse_index(b" " * (codec.LONGEST + 1))


def test_a_newer_schema_names_what_helps():
    data = (CONTRACT / "bad/release-schema-newer.json").read_bytes()
    with pytest.raises(codec.ManifestError) as caught:
        manifest.parse(data)
    assert "knows only 1" in caught.value.message
    assert caught.value.hint


NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
WORDS = st.from_regex(r"[a-z][a-z0-9_-]{0,10}", fullmatch=True)
LINES = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=40)
SEGMENTS = st.from_regex(r"[A-Za-z0-9_.@+~:-]{1,12}", fullmatch=True).filter(
    lambda name: not name.startswith("..") and name != "."
)
PORTS = st.integers(1, 65535)
IDS = st.integers(100, 999_999_999)
MODES = st.sampled_from(sorted(tree.MODES))
OBJECTS = st.builds(
    manifest.Object,
    st.binary(max_size=4).map(tree.digest),
    st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._@+~-]{0,20}", fullmatch=True),
    st.integers(0, codec.LARGEST),
)
LAYERS = st.builds(manifest.Layer, NAMES, OBJECTS, OBJECTS)


def sets(items: Any, key: Callable[[Any], Any], **limits: int) -> Any:
    """Strategies of sorted tuples without two items of one key."""
    found = st.lists(items, unique_by=key, max_size=4, **limits)
    return found.map(lambda some: tuple(sorted(some, key=key)))


PATHS = st.lists(SEGMENTS, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
TARGETS = st.builds(
    manifest.Target,
    PATHS,
    WORDS,
    st.sampled_from(manifest.MERGES),
    MODES,
    st.just("root:root"),
    OBJECTS,
)
PLAIN = st.one_of(
    st.booleans(), st.integers(0, codec.LARGEST), LINES, st.lists(LINES, max_size=3).map(tuple)
)


@st.composite
def guests(draw: Any) -> GuestNode:
    ports = iter(draw(st.lists(PORTS, min_size=12, max_size=12, unique=True)))
    daemons = [
        manifest.Daemon(
            name,
            tuple(
                sorted(
                    (manifest.Listener(next(ports), next(ports), next(ports)) for _ in range(2)),
                    key=lambda one: one.port,
                )
            ),
        )
        for name in sorted(draw(st.sets(NAMES, max_size=2)))
    ]
    return GuestNode(
        draw(NAMES),
        draw(IDS),
        draw(WORDS),
        draw(st.sampled_from(manifest.RESTARTS)),
        draw(st.lists(LAYERS, unique_by=lambda one: one.name, max_size=3).map(tuple)),
        tuple(daemons),
        tuple(sorted(draw(st.dictionaries(WORDS, PLAIN, max_size=4)).items())),
    )


@st.composite
def releases(draw: Any) -> Release:
    names = draw(st.lists(NAMES, unique=True, max_size=3))
    ids = draw(st.lists(IDS, unique=True, min_size=3, max_size=3))
    targets = draw(sets(TARGETS, lambda one: one.path))
    if tree.below(target.path for target in targets) is not None:
        targets = targets[:1]
    secrets = st.builds(
        manifest.Secret,
        st.sampled_from(names) if names else st.nothing(),
        SEGMENTS,
        st.sampled_from([0o400, 0o440]),
        st.tuples(st.sampled_from(["file:", "env:", "command:"]), LINES).map("".join),
    )
    return Release(
        site=draw(NAMES),
        host=draw(NAMES),
        domain=draw(NAMES),
        platform=manifest.Platform(draw(st.sampled_from(manifest.PLATFORMS)), draw(st.just(8))),
        reach=manifest.Reach(draw(NAMES), draw(st.just("root"))),
        management=tuple(draw(st.lists(st.ip_addresses().map(str), max_size=2))),
        targets=targets,
        guests=tuple(
            manifest.GuestRef(name, number, draw(OBJECTS))
            for name, number in zip(names, ids, strict=False)
        ),
        kits=draw(sets(LAYERS, lambda one: one.name)),
        inputs=draw(
            sets(
                st.builds(manifest.Input, NAMES, NAMES, WORDS, st.just("ab" * 32)),
                lambda one: one.name,
            )
        ),
        secrets=draw(sets(secrets, lambda one: (one.guest, one.file))) if names else (),
        network=draw(OBJECTS),
        unready=draw(sets(LINES, lambda one: one)),
        program=draw(st.none() | OBJECTS),
    )


@given(releases())
def test_what_is_dumped_validates_and_reads_back(release: Release):
    data = manifest.dump(release)
    assert validates("release", json.loads(data))
    assert manifest.parse(data) == release


@given(guests())
def test_what_is_dumped_of_a_guest_validates_and_reads_back(guest: GuestNode):
    data = manifest.dump_guest(guest)
    assert validates("guest", json.loads(data))
    assert manifest.parse_guest(data) == guest


ENTRY_NAMES = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/\\"),
    min_size=1,
    max_size=10,
).filter(lambda name: name not in {".", ".."})


class Sink:
    def write(self, data: bytes) -> int:
        return len(data)


@given(st.dictionaries(ENTRY_NAMES, st.binary(max_size=1500) | ENTRY_NAMES, max_size=6))
def test_what_is_dumped_of_a_layer_validates_and_reads_back(contents: dict[str, Any]):
    entries = [
        tree.Link(f"folder/{name}", content)
        if isinstance(content, str)
        else tree.File(f"folder/{name}", content)
        for name, content in contents.items()
    ]
    index = LayerIndex(tree.pack(tree.Tree.of(entries), Sink()).index)  # type: ignore[arg-type]
    data = manifest.dump_index(index)
    assert validates("index", json.loads(data))
    assert manifest.parse_index(data) == index


def test_what_parse_would_refuse_is_never_dumped():
    guest = manifest.parse_guest((CONTRACT / "good/guest-gateway.json").read_bytes())
    wrong = GuestNode(
        "Not A Name", guest.id, guest.role, guest.restart, guest.layers, guest.daemons, ()
    )
    with pytest.raises(AssertionError, match="breaks its own format"):
        manifest.dump_guest(wrong)
    unsorted = GuestNode(
        *(guest.name, guest.id, guest.role, guest.restart, guest.layers, guest.daemons),
        creation=tuple(reversed(guest.creation)),
    )
    with pytest.raises(AssertionError, match="reads back otherwise"):
        manifest.dump_guest(unsorted)


GOOD_BYTES = st.sampled_from([(name, (CONTRACT / "good" / name).read_bytes()) for name in GOOD])


def taken(kind: str, data: bytes) -> bool:
    """Whether the document is taken; anything but ManifestError is a bug."""
    try:
        value = PARSE[kind](data)
    except codec.ManifestError:
        return False
    assert DUMP[kind](value) == data
    return True


@given(GOOD_BYTES, st.integers(0, 5000), st.integers(0, 3), st.binary(max_size=3))
def test_no_other_bytes_read_as_the_same(good: tuple[str, bytes], at: int, gone: int, new: bytes):
    name, data = good
    taken(name.partition("-")[0], data[:at] + new + data[at + gone :])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)


@given(GOOD_BYTES, st.data())
def test_parse_takes_nothing_that_the_schema_refuses(good: tuple[str, bytes], data: Any):
    name, kind = good[0], good[0].partition("-")[0]
    plain = json.loads(good[1])
    at: Any = plain
    while True:
        keys = sorted(at) if isinstance(at, dict) else list(range(len(at)))
        if not keys:
            return
        key = data.draw(st.sampled_from(keys))
        if not isinstance(at[key], dict | list) or data.draw(st.booleans()):
            break
        at = at[key]
    at[key] = data.draw(JSON)
    changed = codec.canonical(plain)
    if taken(kind, changed):
        assert validates(kind, json.loads(changed)), name

"""The host program takes and refuses what the builder does, document for document."""

import dataclasses
import json
from pathlib import Path

import pytest

from builder import manifest
from builder.host import release
from builder.host.schema import RefusedError, check

CONTRACT = Path(__file__).parents[1] / "contract"
GOOD = sorted(path.name for path in (CONTRACT / "good").iterdir())
REASONS = json.loads((CONTRACT / "bad/reasons.json").read_text())


@pytest.mark.parametrize("name", GOOD)
def test_good(name: str):
    kind, data = name.partition("-")[0], (CONTRACT / "good" / name).read_bytes()
    assert release.DOCUMENTS[kind](data) is not None


@pytest.mark.parametrize("name", sorted(REASONS))
def test_bad(name: str):
    kind, data = name.partition("-")[0], (CONTRACT / "bad" / name).read_bytes()
    with pytest.raises(RefusedError) as caught:
        release.DOCUMENTS[kind](data)
    assert not set(str(caught.value)) & {"\0", "\x1b", "\n"}, "a raw control character in a message"


@pytest.mark.parametrize("name", [name for name in GOOD if name.startswith("release")])
def test_the_builder_and_the_host_read_the_same(name: str):
    data = (CONTRACT / "good" / name).read_bytes()
    ours, theirs = release.release(data), manifest.parse(data)
    assert [target.path for target in ours.targets] == [target.path for target in theirs.targets]
    assert [target.mode for target in ours.targets] == [target.mode for target in theirs.targets]
    assert [each.id for each in ours.guests] == [each.id for each in theirs.guests]
    for secret, theirs_secret in zip(ours.secrets, theirs.secrets, strict=True):
        plain = dataclasses.asdict(theirs_secret)
        assert secret._asdict() == {key: plain[key] for key in secret._fields}


def test_a_keyword_that_is_not_known_is_refused():
    with pytest.raises(RefusedError, match="does not know"):
        check({"contains": {}}, [], {})


def test_too_long_a_document():
    with pytest.raises(RefusedError, match="over 16 MiB"):
        release.index(b" " * (release.LONGEST + 1))

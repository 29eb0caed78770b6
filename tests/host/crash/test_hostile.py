"""Hostile releases: refused before anything but what is on its way is written.

A file that a signed release names, and that has the digest it says, is in the store before anybody
reads it; so is a document that is refused then. Nothing refers to it, and `gc` deletes it.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from builder.host import commands, files, release, store
from builder.host.release import canonical, digest
from tests.host.crash import scene
from tests.host.crash.hostile import (
    Parcel,
    Plain,
    Signer,
    delivered,
    line,
    parcel,
    said,
    staged,
    stream,
)
from tests.host.crash.machine import Machine


class Desk:
    """A host with the first release and a signer, and the second one to send."""

    def __init__(self, place: Path) -> None:
        scene.furnish(place)
        self.place, self.machine = place, Machine(place / "bare")
        self.signer = Signer(place / "signer")
        self.trust(self.signer)
        self.parcel = parcel(place)
        self.before = self.tree()

    def trust(self, *signers: Signer) -> None:
        files.write(self.machine.paths.signers, "".join(s.allowed for s in signers).encode())

    def tree(self, *aside: str) -> dict[str, object]:
        """All that is there, on this host and beside it, but for what is on its way."""
        free = tuple(f"bare/{scene.HOME}/{each}" for each in ("incoming", "lock", *aside))
        return {
            name: os.readlink(each.path) if each.is_symlink() else
            scene.content(each.path) if each.is_file() else each.stat().st_mode
            for name, each in scene.below(str(self.place))
            if not name.startswith(free)
        }  # fmt: skip

    def send(self) -> list[Plain]:
        manifest = canonical(self.parcel.manifest)
        held = self.parcel.files | self.parcel.altered
        return delivered(self.machine, manifest, self.signer.sign(manifest), held)

    def forget(self) -> None:
        """Take away what has come."""
        paths = self.machine.paths
        for path in (*paths.incoming.iterdir(), *paths.store.iterdir()):
            if str(path.relative_to(self.place)) not in self.before:
                path.unlink()

    def refuses(self, answers: list[Plain], word: str, *aside: str) -> None:
        error = next((each["error"] for each in answers if "error" in each), "")
        assert error, answers
        assert word in error
        assert "not understood" not in error
        free = tuple(f"bare/{scene.HOME}/{each}" for each in aside)
        before = {k: v for k, v in self.before.items() if not (free and k.startswith(free))}
        assert self.tree(*aside) == before


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    # A machine puts its own programs there.
    monkeypatch.setattr(commands, "run", commands.run)
    monkeypatch.setattr(commands, "status", commands.status)
    # What one test lets through, none other has read already.
    store._index.cache_clear()
    with scene.workplace() as place:
        yield Desk(place)


def test_a_good_one_is_kept(desk: Desk) -> None:
    answers = desk.send()
    assert answers[-1] == {"ok": True, "generation": 2}


@pytest.mark.parametrize("part", ["manifest", "signature"])
def test_every_altered_region_of_what_is_signed(desk: Desk, part: str) -> None:
    manifest = canonical(desk.parcel.manifest)
    both = {"manifest": manifest, "signature": desk.signer.sign(manifest)}
    data = both[part]
    for at in range(0, len(data), max(len(data) // 24, 1)):
        # The armour's own lines may change their case and mean the same; its content may not.
        altered = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        sent = both | {part: altered}
        answers = said(desk.machine, staged(sent["manifest"], sent["signature"]))
        desk.refuses(answers, "")
        assert answers[-1]["kind"] == "refused"


def test_an_altered_byte_of_every_file(desk: Desk) -> None:
    for name, data in desk.parcel.files.items():
        for at in {0, len(data) // 2, len(data) - 1} if data else ():
            desk.parcel.altered = {name: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]}
            desk.refuses(desk.send(), "is not what came", "store")
            assert not (desk.machine.paths.store / name).exists()
            desk.forget()


def test_who_signed(desk: Desk) -> None:
    manifest = canonical(desk.parcel.manifest)
    other = Signer(desk.place / "other")
    mine, desk.before = desk.signer, desk.tree()
    elsewhere = (mine.sign(manifest, "file"), mine.sign(manifest + b"\n"), other.sign(manifest))
    for signature in (b"", b"-----BEGIN SSH SIGNATURE-----\n", *elsewhere):
        answers = said(desk.machine, staged(manifest, signature))
        desk.refuses(answers, "not signed")
    good = desk.signer.sign(manifest)
    assert said(desk.machine, staged(manifest, good))[-1]["ok"]
    desk.trust(other)
    desk.before = desk.tree()
    desk.refuses(said(desk.machine, staged(manifest, good)), "not signed")


def _entry(**values: object) -> Callable[[Parcel], None]:
    return lambda p: p.index(lambda index: index["entries"][0].update(values))


def _release(**values: object) -> Callable[[Parcel], None]:
    return lambda p: p.manifest.update(values)


def _target(**values: object) -> Callable[[Parcel], None]:
    return lambda p: p.manifest["targets"][0].update(values)


def _link(target: str) -> Callable[[Parcel], None]:
    def edit(index: Plain) -> None:
        index["entries"][0] = {"path": index["entries"][0]["path"], "target": target}

    return lambda p: p.index(edit)


def _twice(p: Parcel) -> None:
    p.index(lambda index: index["entries"].insert(0, index["entries"][0]))


def _below(p: Parcel) -> None:
    def edit(index: Plain) -> None:
        first, second = index["entries"][:2]
        second["path"] = f"{first['path']}/x"

    p.index(edit)


def _target_below(p: Parcel) -> None:
    first, second = p.manifest["targets"][:2]
    second["path"] = f"{first['path']}/x"


def _target_twice(p: Parcel) -> None:
    # Not quite the same, which the schema alone would find.
    p.manifest["targets"].insert(0, p.manifest["targets"][0] | {"mode": "0400"})


BAD: dict[str, tuple[Callable[[Parcel], None], str, tuple[str, ...]]] = {
    "another host": (_release(host="pve2"), "for pve2", ("generations.same_host",)),
    "another site": (_release(site="other"), "of other", ("generations.same_host",)),
    "a newer schema": (_release(schema=2), "schema 2", ("release._known",)),
    "an older schema": (_release(schema=0), "schema", ("release.check",)),
    "a target above": (_target(path="/etc/../../x"), "path", ("release.check",)),
    "a relative target": (_target(path="etc/x"), "path", ("release.check",)),
    "a target's owner": (_target(owner="me:me"), "owner", ("release.check",)),
    "a setuid target": (_target(mode="4755"), "mode", ("release.check",)),
    "a target twice": (_target_twice, "stands after", ("release._ascending",)),
    "a target below another": (_target_below, "lies below", ("release._apart",)),
    "a path above": (_entry(path="../x"), "path", ("release.check",)),
    "a path above, within": (_entry(path="a/../../x"), "path", ("release.check",)),
    "an absolute path": (_entry(path="/etc/passwd"), "path", ("release.check",)),
    "a setuid file": (_entry(mode="4755"), "mode", ("release.check",)),
    "a file's owner": (_entry(uid=0), "uid", ("release.check",)),
    "a device": (_entry(type="char", major=1, minor=3), "unknown key", ("release.check",)),
    "a hard link": (_entry(link="/etc/shadow"), "unknown key", ("release.check",)),
    "a link above": (_link("../../../etc/shadow"), "leads out", ("release._contained",)),
    "an absolute link": (_link("/../etc/shadow"), "leads out", ("release._contained",)),
    "an entry twice": (_twice, "stands after", ("release._ascending",)),
    "a path through a file": (_below, "lies below", ("release._apart",)),
    "a size that lies": (_entry(size=10**12), "begins inside", ("store._index",)),
}
"""What a signed release says, a word of its refusal, and the check that refuses it."""
_LETS: dict[str, Callable[..., object]] = {
    "generations.same_host": lambda *_: None,
    "release._known": lambda: 2,
    "release.check": lambda *_: None,
    "release._ascending": lambda *_: None,
    "release._apart": lambda *_: None,
    "release._contained": lambda *_: True,
    "store._index": lambda data: tuple(map(release._entry, json.loads(data)["entries"])),
    "signed.verify": lambda *_: "anybody",
    "store._digest": lambda path: path.name.split(".")[1],
}
"""Checks of the host program, and what lets everything through in their place."""


@pytest.mark.parametrize("name", BAD)
def test_what_is_signed_and_bad(desk: Desk, name: str) -> None:
    edit, word, _ = BAD[name]
    edit(desk.parcel)
    desk.refuses(desk.send(), word, "store")


@pytest.mark.parametrize("name", BAD)
def test_its_check_is_what_refuses(desk: Desk, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without that check, it is not refused for that."""
    edit, word, checks = BAD[name]
    edit(desk.parcel)
    for check in checks:
        monkeypatch.setattr(f"builder.host.{check}", _LETS[check])
    with pytest.raises(AssertionError):
        desk.refuses(desk.send(), word, "store")


@pytest.mark.parametrize("check", ["signed.verify", "store._digest"])
def test_without_it_what_is_altered_is_kept(
    desk: Desk, check: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = desk.parcel.manifest["targets"][0]["content"]["digest"]
    data = desk.parcel.files[name]
    if check == "signed.verify":
        desk.signer = Signer(desk.place / "other")
    else:
        desk.parcel.altered = {name: bytes([data[0] ^ 1]) + data[1:]}
    assert desk.send()[-1]["kind"] == "refused"
    monkeypatch.setattr(f"builder.host.{check}", _LETS[check])
    answers = desk.send()
    # What is in the store is compared once more.
    assert answers[-1].get("ok") or "was altered" in answers[-1]["error"]


def test_a_transfer_that_ends(desk: Desk) -> None:
    manifest = canonical(desk.parcel.manifest)
    begin = staged(manifest, desk.signer.sign(manifest))
    lacking = said(desk.machine, begin + line(do="lacking"))[-1]["lacking"]
    data = b"".join(desk.parcel.files[name] for name, _, _ in lacking)
    put = line(do="put", codec="gzip", objects=[[n, 0] for n, _, _ in lacking]) + stream(data)
    for length in range(0, len(put), max(len(put) // 16, 1)):
        answers = said(desk.machine, begin + put[:length])
        assert answers[-1].get("ok") is not True or len(answers) == 1
        assert desk.tree() == desk.before
    assert desk.send()[-1] == {"ok": True, "generation": 2}, "it goes on where it ended"


@pytest.mark.parametrize("codec", ["gzip", pytest.param("zstd", marks=pytest.mark.needs("zstd"))])
def test_a_bomb(desk: Desk, codec: str) -> None:
    manifest = canonical(desk.parcel.manifest)
    begin = staged(manifest, desk.signer.sign(manifest))
    name, size, _ = said(desk.machine, begin + line(do="lacking"))[-1]["lacking"][0]
    bomb = gzip.compress(bytes(200 << 20), 9) if codec == "gzip" else subprocess.run(
        ["zstd", "-q", "-c"], input=bytes(200 << 20), capture_output=True, check=True, timeout=60
    ).stdout  # fmt: skip
    put = line(do="put", codec=codec, objects=[[name, 0]]) + stream(bomb, raw=True)
    desk.refuses(said(desk.machine, begin + put), "more than was said")
    assert (desk.machine.paths.incoming / name).stat().st_size <= size
    assert said(desk.machine, line(do="stage", codec=codec, manifest=1 << 40, signature=1)
                + stream(bomb, raw=True))[-1]["kind"] == "refused"  # fmt: skip


def test_what_no_release_names(desk: Desk) -> None:
    manifest = canonical(desk.parcel.manifest)
    begin = staged(manifest, desk.signer.sign(manifest))
    for name in (digest(b"other"), "../../../etc/x"):
        put = line(do="put", codec="gzip", objects=[[name, 0]]) + stream(b"other")
        desk.refuses(said(desk.machine, begin + put), "nothing that the release lacks")
    desk.refuses(said(desk.machine, line(do="keep", who="x")), "no release is staged")

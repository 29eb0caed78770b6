"""Hostile releases: refused before anything but what is on its way is written.

A file that a signed release names, and that has the digest it says, is in the store before anybody
reads it; so is a document that is refused then. Nothing refers to it, and `gc` deletes it.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from builder.host import commands, files
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

    def tree(self, *aside: str) -> dict[str, bytes]:
        root = self.machine.root
        return {
            name: path.read_bytes() if path.is_file() else b""
            for path in sorted(root.rglob("*"))
            if not (name := str(path.relative_to(root))).startswith(
                tuple(f"{scene.HOME}/{each}" for each in ("incoming", "lock", *aside))
            )
        }

    def send(self) -> list[Plain]:
        manifest = canonical(self.parcel.manifest)
        held = self.parcel.files | self.parcel.altered
        return delivered(self.machine, manifest, self.signer.sign(manifest), held)

    def forget(self) -> None:
        """Take away what has come."""
        paths = self.machine.paths
        for path in (*paths.incoming.iterdir(), *paths.store.iterdir()):
            if str(path.relative_to(self.machine.root)) not in self.before:
                path.unlink()

    def refuses(self, answers: list[Plain], word: str, *aside: str) -> None:
        error = next((each["error"] for each in answers if "error" in each), "")
        assert error, answers
        assert word in error
        after = self.tree(*aside)
        assert after == {k: v for k, v in self.before.items() if k in after or not aside}
        assert "not understood" not in error
        assert not (self.machine.paths.generation(2)).exists()


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    # A machine puts its own programs there.
    monkeypatch.setattr(commands, "run", commands.run)
    monkeypatch.setattr(commands, "status", commands.status)
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
    mine = desk.signer
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


def _target_twice(p: Parcel) -> None:
    p.manifest["targets"].insert(0, p.manifest["targets"][0])


BAD: dict[str, tuple[Callable[[Parcel], None], str]] = {
    "another host": (_release(host="pve2"), "for pve2"),
    "another site": (_release(site="other"), "of other"),
    "a newer schema": (_release(schema=2), "schema 2"),
    "an older schema": (_release(schema=0), "schema"),
    "a target above": (_target(path="/etc/../../x"), "path"),
    "a relative target": (_target(path="etc/x"), "path"),
    "a target's owner": (_target(owner="me:me"), "owner"),
    "a setuid target": (_target(mode="4755"), "mode"),
    "a target twice": (_target_twice, "targets"),
    "a path above": (_entry(path="../x"), "path"),
    "a path above, within": (_entry(path="a/../../x"), "path"),
    "an absolute path": (_entry(path="/etc/passwd"), "path"),
    "a setuid file": (_entry(mode="4755"), "mode"),
    "a file's owner": (_entry(uid=0), "uid"),
    "a device": (_entry(type="char", major=1, minor=3), "unknown key"),
    "a hard link": (_entry(link="/etc/shadow"), "unknown key"),
    "a link above": (_link("../../../etc/shadow"), "leads out"),
    "an absolute link": (_link("/../etc/shadow"), ""),
    "an entry twice": (_twice, "entries"),
    "a size that lies": (_entry(size=10**12), ""),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_signed_and_bad(desk: Desk, name: str) -> None:
    edit, word = BAD[name]
    edit(desk.parcel)
    desk.refuses(desk.send(), word, "store")


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


def test_a_bomb(desk: Desk) -> None:
    manifest = canonical(desk.parcel.manifest)
    begin = staged(manifest, desk.signer.sign(manifest))
    name, size, _ = said(desk.machine, begin + line(do="lacking"))[-1]["lacking"][0]
    bomb = gzip.compress(bytes(200 << 20), 9)
    put = line(do="put", codec="gzip", objects=[[name, 0]]) + stream(bomb, raw=True)
    desk.refuses(said(desk.machine, begin + put), "")
    assert (desk.machine.paths.incoming / name).stat().st_size <= size
    assert said(desk.machine, line(do="stage", codec="gzip", manifest=1 << 40, signature=1)
                + stream(bomb, raw=True))[-1]["kind"] == "refused"  # fmt: skip


def test_what_no_release_names(desk: Desk) -> None:
    manifest = canonical(desk.parcel.manifest)
    begin = staged(manifest, desk.signer.sign(manifest))
    for name in (digest(b"other"), "../../../etc/x"):
        put = line(do="put", codec="gzip", objects=[[name, 0]]) + stream(b"other")
        desk.refuses(said(desk.machine, begin + put), "nothing that the release lacks")
    desk.refuses(said(desk.machine, line(do="keep", who="x")), "no release is staged")

"""What follows in a running guest from what its folder and its secrets hold."""

from __future__ import annotations

from collections.abc import Mapping

from builder.host.decide import GuestEffect, Overlay, Taken, effects
from builder.host.release import Entry, Object

CA, FRONT = "units/phoenix-step-ca.service", "units/phoenix-nginx@.service"


def _overlay(files: Mapping[str, str], **facts: object) -> Overlay:
    entries = {path: Entry(path, 0o644, Object(text, 1), "") for path, text in files.items()}
    return Overlay(entries)._replace(**facts)  # type: ignore[arg-type]


def _effect(before: Overlay, after: Overlay) -> GuestEffect | None:
    found = effects([], {}, {103: before}, {103: after}, [103], lambda *_: Taken())
    return found.guests[0] if found.guests else None


def test_nothing_follows_from_nothing():
    same = _overlay({CA: "1"}, secrets={CA: "x"}, folder="f")
    assert _effect(same, same) is None


def test_a_bundle_that_alone_changes_restarts_who_reads_it():
    before = _overlay({CA: "1", "units/phoenix-names.service": "1"}, secrets={CA: "x"})
    found = _effect(before, before._replace(secrets={CA: "x-2"}))
    assert found
    assert (found.what, found.units, found.daemons) == ("switch", (CA[6:],), ())


def test_a_slot_starts_anew_though_its_folder_is_the_same():
    before = _overlay({FRONT: "1"}, daemons=("nginx",), secrets={FRONT: "x"})
    found = _effect(before, before._replace(secrets={FRONT: "x-2"}))
    assert found
    assert (found.daemons, found.anew) == (("nginx",), True)
    other = _overlay({FRONT: "2"}, daemons=("nginx",), secrets={FRONT: "x-2"})
    changed = _effect(before, other)
    assert changed
    assert (changed.daemons, changed.anew) == (("nginx",), False)


def test_the_slots_of_a_dropped_daemon_go():
    before = _overlay({FRONT: "1", "bin/phoenix-slots": "1"}, daemons=("nginx",), folder="old")
    found = _effect(before, _overlay({"names/hosts": "1"}, folder="new"))
    assert found
    assert (found.dropped, found.daemons) == ("old", ())


def test_units_that_are_gone_are_stopped():
    timer, wants = "units/phoenix-acme.timer", "units/multi-user.target.wants/phoenix-acme.timer"
    before = _overlay({FRONT: "1", timer: "1", wants: "1"}, daemons=("nginx",))
    kept = {FRONT: "1", "units/phoenix-new.timer": "1"}
    found = _effect(before, _overlay(kept, daemons=("nginx",)))
    assert found
    assert (found.gone, found.units) == (("phoenix-acme.timer",), ("phoenix-new.timer",))

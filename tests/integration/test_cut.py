"""The link is cut in each phase of a deploy, in each way: what becomes of the host, what is told.

| phase, where the host program waits while it is cut | drop | sshd | deployer | master | loss |
|---|---|---|---|---|---|
| plan: before the host makes the plan | 2 old | 2 old | old | 4 old | any |
| transfer: 5 of a file's 16 MiB are there | 0 new | 0 new | old | 4 old | any |
| staging: while the guest's folder is unpacked | 4 old | 0 new | old | 4 old | any |
| guard: it is armed, nothing else is done | 4 old | 0 new | old | 4 old | any |
| swap: two of the files and links are changed | 4 old | 0 new | old | 4 old | any |
| reload: ifreload has ended, nothing was looked at | 4 old | 0 new | old | 4 old | any |
| waiting: the new connection is there, and unanswered | 4 old | 0 new | old | 0 new | any |
| asked: the confirmation has come, and is not taken | 4 old | 0 new | new | 0 new | any |
| taken: it was taken, and the answer is not on its way | 0 new | 0 new | new | 0 new | any |
| undo: two files are back, after a failed check | 4 old | 4 old | old | 4 old | any |

A cell is the deployer's exit code and the release that runs in the end; a deployer that is killed
has none. Ways: nftables drop every packet between deployer and host until the host has gone back
(in the first two and in `taken` until the deployer has noticed); all of sshd is killed, and systemd
starts it anew; the deployer is killed with its ssh; new connections are dropped while a control
master is held open, which would carry a confirmation that proves nothing; of the packets of both
directions 30 % are lost, from then on to the end, and either end is right if it is told so.
Beside these: a release that cuts the host off by itself, nothing being lifted then; a link that
never comes back (5); a host program that hangs; `rollback`; a master whose own link is dead.

Each time: the transaction is over by its deadline, the host is reached by a new connection where it
was, all that bears the release's word, in files and in what runs, bears the same one, no timer and
no journal are left, and exit code, words (as a person and as a program reads them, in turns) and
the host's events say what is there. Of a broken transfer, bytes that came are not sent again.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.integration.cut_deployer import CONFIRM, Deployer, Done, await_
from tests.integration.cuts import BLOB, LATE, SSH, Hold, Site, site
from tests.integration.holds import ARRIVED

pytestmark = [
    pytest.mark.long(0.3, shared=True),
    pytest.mark.needs("root", "ip", "zstd", "ssh-keygen"),
]

KILLED = -9
EARLY, MIDDLE = ("plan", "transfer"), ("staging", "guard", "swap", "reload")
PHASES = (*EARLY, *MIDDLE, "waiting", "asked", "taken", "undo")
OLD, NEW = (4, "old"), (0, "new")
EXPECTED: dict[str, Mapping[str, tuple[int, str] | None]] = {
    "drop": {"plan": (2, "old"), "transfer": NEW, "taken": NEW} | dict.fromkeys(
        (*MIDDLE, "waiting", "asked", "undo"), OLD),
    "sshd": {"plan": (2, "old"), "undo": OLD} | dict.fromkeys(
        ("transfer", *MIDDLE, "waiting", "asked", "taken"), NEW),
    "deployer": {"asked": (KILLED, "new"), "taken": (KILLED, "new")} | dict.fromkeys(
        (*EARLY, *MIDDLE, "waiting", "undo"), (KILLED, "old")),
    "master": dict.fromkeys((*EARLY, *MIDDLE, "undo"), OLD) | dict.fromkeys(
        ("waiting", "asked", "taken"), NEW),
    "loss": dict.fromkeys(PHASES),
}  # fmt: skip
QUICK = {
    "drop": ("plan", "transfer", "swap", "waiting", "asked", "taken", "undo"),
    "sshd": ("transfer", "guard", "asked"),
    "deployer": ("transfer", "reload", "taken"),
    "master": ("staging",),
    "loss": ("waiting",),
}
"""What of it is done without --deep."""
SLACK = 4 << 20
"""What of a file is on its way at most, and is lost with its connection: ssh's window and pipes."""
BRIEF, ENOUGH = 3, 10
"""Seconds for a confirmation that never comes, and for one that is cut: a busy machine comes to the
point of the cut within them. Then they have to pass."""
turns = itertools.count()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("cut")) as made:
        yield made
        late = max(made.late, default=0.0)
        print(f"{len(made.late)} transactions cut, the latest over {late:.1f} s after its deadline")


def _cells() -> Iterator[Any]:
    for way, row in EXPECTED.items():
        for phase in row:
            marks = () if phase in QUICK[way] else (pytest.mark.deep,)
            yield pytest.param(way, phase, marks=marks, id=f"{way}-{phase}")


class Cut:
    """One release on its way, and the link that is cut under it."""

    def __init__(self, host: Site, **release: Any) -> None:
        host.heal()
        self.host, self.old, self.before = host, host.word, host.number
        self.new = host.release(**release)
        self.since, self.bytes = host.told(), host.count()
        self.json = bool(next(turns) % 2)

    def told(self) -> list[str]:
        """The host's events of it, by name."""
        return [each["event"] for each in self.host.events(self.since)]

    def settled(self, done: Done, runs: str | None = None) -> None:
        """Whatever was done: the host is wholly one of both, and all that was told is true."""
        there = self.there()
        assert runs in (None, there), (runs, there, done)
        _events_true(self.told(), there)
        _deployer_true(done, there, self.host.generation())

    def there(self) -> str:
        """What runs on the host, wholly; it is reached again."""
        host = self.host
        assert host.reachable()
        found = host.facts()
        assert len(set(found.values())) == 1, (found, self.old, self.new)
        (word,) = set(found.values())
        assert word in (self.old, self.new), (word, self.old, self.new)
        host.ran(word)
        return "new" if word == self.new else "old"


def _events_true(told: list[str], there: str) -> None:
    if there == "new":
        assert {"changing", "effects", "health", "confirming", "confirmed"} <= {*told}, told
        assert not {"undone", "failed", "guard"} & {*told}, told
        return
    assert "confirmed" not in told, told
    assert "undone" in told or "changing" not in told, told
    assert not told or told[-1] in ("undone", "ended"), told
    assert "undone" not in told or {"guard", "failed"} & {*told}, told


def _deployer_true(done: Done, there: str, generation: int) -> None:
    assert "Traceback" not in done.said
    if done.code == KILLED:
        assert " runs" not in done.said, done
        return
    codes = {"done": 0, "undone": 4, "failed": 2, "unreachable": 5}
    assert codes[done.result] == done.code, done
    assert bool(done.why) == (done.code != 0), done
    if done.code == 5:
        # That the host goes back is only sure where no confirmation went out.
        assert done.generation is None, done
        assert there == "old" or "may have taken the confirmation" in done.why, done
        return
    assert {"done": "new", "undone": "old", "failed": "old"}[done.result] == there, done
    assert done.generation == (None if done.code == 2 else generation), done


def _make(cut: Cut, way: str, deployer: Deployer) -> None:
    if way == "sshd":
        cut.host.kill_sshd()
    elif way == "deployer":
        deployer.kill()
    else:
        cut.host.cut({"master": "new"}.get(way, way))


def _lift(cut: Cut, way: str, phase: str, hold: Hold, deployer: Deployer) -> None:
    """Let the host go on, and the link be there again when it is time."""
    if (way, phase) != ("drop", "asked"):
        hold.release()
    if way == "drop" and phase in (*EARLY, "taken"):
        deployer.says("going on" if phase == "transfer" else "no connection to")
    elif way == "loss":
        deployer.process.wait(timeout=300)
    elif way in ("drop", "master") or (way == "deployer" and phase not in EARLY):
        cut.host.closed(cut.since, late=LATE)
    cut.host.heal()


def _tried(host: Site, way: str, phase: str, **facts: Any) -> tuple[Cut, Done]:
    """Cut one deploy, and await its end; `facts` go to the deployer."""
    cut = Cut(host, blob=phase == "transfer")
    if EXPECTED[way][phase] in (OLD, (KILLED, "old")):
        facts = {"confirm": ENOUGH if phase in ("waiting", "asked") else BRIEF, **facts}
    with contextlib.ExitStack() as stack:
        stack.callback(host.heal)
        hold = stack.enter_context(host.held(phase))
        if phase == "undo":
            stack.enter_context(host.flagged("unwell"))
        if way == "master":
            facts["more"] = (*SSH, *stack.enter_context(host.master()))
        if way == "loss":
            facts["more"] = ()
        deployer = host.deployer(json=cut.json, **facts)
        hold.reached()
        _make(cut, way, deployer)
        _lift(cut, way, phase, hold, deployer)
        return cut, deployer.ended()


def _judged(cut: Cut, done: Done, expected: tuple[int, str] | None) -> None:
    code, runs = expected or (done.code, None)
    assert done.code == code, done
    cut.settled(done, runs)


def _resumed(cut: Cut, done: Done) -> None:
    """What had come was not sent again; where the deployer is gone, by the next one."""
    if done.code == KILLED:
        done = cut.host.deployer().ended()
        assert done.code == 0, done
        cut.host.ran(cut.new)
    rest = int(re.findall(r"sent \d+ files, (\d+) KiB", done.said)[-1]) << 10
    assert 0 < rest <= BLOB - ARRIVED + SLACK, rest
    sent = cut.host.count() - cut.bytes
    assert BLOB <= sent <= BLOB + SLACK, sent


@pytest.mark.parametrize(("way", "phase"), [*_cells()])
def test_the_link_is_cut(host: Site, way: str, phase: str) -> None:
    cut, done = _tried(host, way, phase)
    if way in ("deployer", "sshd", "loss") and phase not in EARLY:
        host.closed(cut.since)
    _judged(cut, done, EXPECTED[way][phase])
    if phase == "transfer" and way not in ("loss", "master"):
        _resumed(cut, done)


@pytest.mark.parametrize(
    "release",
    [{"rule": "tcp dport 22 drop"}, pytest.param({"last": 77}, marks=pytest.mark.deep)],
    ids=["rule", "address"],
)
def test_a_release_that_cuts_the_host_off(host: Site, release: dict[str, Any]) -> None:
    """Nobody lifts anything: it is the host that goes back."""
    cut = Cut(host, **release)
    deployer = host.deployer(json=cut.json, confirm=2)
    host.closed(cut.since)
    _judged(cut, deployer.ended(), OLD)


@pytest.mark.parametrize(
    ("phase", "runs"), [("taken", "new"), pytest.param("swap", "old", marks=pytest.mark.deep)]
)
def test_a_link_that_never_comes_back(host: Site, phase: str, runs: str) -> None:
    cut = Cut(host)
    with host.held(phase) as hold:
        deployer = host.deployer(json=cut.json, activate=20, confirm=ENOUGH, grace=0.0)
        hold.reached()
        host.cut("drop")
        hold.release()
        done = deployer.ended()
        host.closed(cut.since)
        host.heal()
    _judged(cut, done, (5, runs))


@pytest.mark.deep
def test_a_shared_connection_that_is_dead(host: Site) -> None:
    """Of that only its master hears, which has nothing to say."""
    cut = Cut(host)
    with host.master() as shared, host.held("swap") as hold:
        deployer = host.deployer(more=(*SSH, *shared), activate=4, confirm=2, grace=1.0)
        hold.reached()
        host.cut("drop")
        hold.release()
        done = deployer.ended()
        host.heal()
    _judged(cut, done, (5, "old"))


@pytest.mark.parametrize(
    "phase", ["guard", *(pytest.param(p, marks=pytest.mark.deep) for p in ("swap", "reload"))]
)
def test_the_host_program_hangs(host: Site, phase: str) -> None:
    """Until its time is over; at `guard` the timer ends before there is a journal to take back."""
    cut = Cut(host)
    with host.held(phase) as hold:
        deployer = host.deployer(json=cut.json, activate=2, confirm=2)
        hold.reached()
        if phase == "guard":
            host.rung()
            hold.release()
        host.closed(cut.since)
        done = deployer.ended()
    _judged(cut, done, OLD)


@pytest.mark.parametrize(
    "way", [pytest.param(w, marks=pytest.mark.deep) for w in ("sshd", "deployer")] + ["drop"]
)
def test_the_link_is_cut_in_a_rollback(host: Site, way: str) -> None:
    """It needs no confirmation, and goes on."""
    host.deploy()
    to = max(number for number in host.kept if number < host.number)
    since = host.told()
    with host.held("swap") as hold:
        deployer = host.deployer("rollback", to=to)
        hold.reached()
        if way == "drop":
            host.cut("drop")
        elif way == "sshd":
            host.kill_sshd()
        else:
            deployer.kill()
        hold.release()
        host.closed(since)
        host.heal()
        done = deployer.ended()
    assert host.reachable()
    host.ran(host.kept[to])
    assert host.number == to
    assert [e["event"] for e in host.events(since)] == ["changing", "effects", "health", "active"]
    assert (done.code, done.generation) == ((KILLED, None) if way == "deployer" else (0, to)), done
    assert "goes back" not in done.said, done


def test_a_session_that_outlives_its_link(host: Site) -> None:
    """What it still writes comes into no file that the next one sent."""
    cut = Cut(host, blob=True)
    with host.held("transfer") as hold:
        deployer = host.deployer()
        hold.reached()
        deployer.kill()
        deployer.ended()
        done = host.deployer(json=cut.json).ended()
        (session,) = (int(path.suffix[1:]) for path in host.holds.glob("transfer.[0-9]*"))
        hold.release()
        await_(lambda: not host.sh(f"ls -d /proc/{session} || true"), "it has ended")
    _judged(cut, done, NEW)
    assert host.deployer("verify").ended().code == 0


# ---- what the tests above are worth


def test_without_the_guard_s_timer(host: Site) -> None:
    cut = Cut(host)
    with host.flagged("no-timer"), host.held("waiting") as hold:
        deployer = host.deployer(confirm=2)
        hold.reached()
        deployer.kill()
        with pytest.raises(AssertionError, match="still open"):
            host.closed(cut.since, late=3)
        hold.release()
        host.sh("phoenix recover")
        deployer.ended()
    assert cut.there() == "old"


def test_a_deployer_that_takes_its_wish_for_the_host_s_word(host: Site) -> None:
    cut, done = _tried(host, "drop", "swap", lies="claims")
    with pytest.raises(AssertionError, match="result='done'"):
        _judged(cut, done, OLD)


def test_a_deployer_that_confirms_over_the_old_connection(host: Site) -> None:
    cut, done = _tried(host, "master", "swap", lies="shares", confirm=CONFIRM)
    with pytest.raises(AssertionError, match="result='done'"):
        _judged(cut, done, OLD)
    assert cut.there() == "new"


def test_a_host_that_forgets_what_has_come(host: Site) -> None:
    with host.flagged("forgets"):
        cut, done = _tried(host, "drop", "transfer")
    assert cut.there() == "new"
    with pytest.raises(AssertionError):
        _resumed(cut, done)

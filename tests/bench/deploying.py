"""The cases that deploy: to a real host in a lab of the bench's own, beside pyinfra, Ansible and
Nix doing the same. One host serves all of them."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench import copying, install, peers
from tests.bench.figure import Figure, ratio
from tests.bench.measure import Run, Series, alternately
from tests.bench.nix import Nix
from tests.bench.peers import Peers
from tests.bench.site import Site, deployed

_PEERS = 2
"""How often a peer goes over all files, which takes it minutes."""


_RULES = "/etc/phoenix/firewall.nft"
_BY_HAND = f"""\
set -e
put() {{ cp "$1" "$2.new"; sync "$2.new"; mv "$2.new" "$2"; sync "${{2%/*}}"; }}
put /root/journal /var/lib/by-hand
systemd-run --quiet --unit=by-hand --on-active=300 --collect true
put /root/rules-$1 {_RULES}
systemctl reload phoenix-firewall.service
rm /var/lib/by-hand
sync /var/lib
systemctl stop by-hand.timer
"""
"""What a rollback of that line has to do, with nothing asked, verified or looked at: note it, have
it taken back if this is cut off, put the file there, have it loaded, and forget that."""


class Deploying:
    """The cases, below `folder`; peers' programs are kept in `cache`."""

    def __init__(self, folder: Path, cache: Path, rounds: int, nix: bool) -> None:
        self.folder, self.cache, self.rounds, self.nix = folder, cache, rounds, nix
        self.numbers = itertools.count(1)

    def deploy(self) -> Iterator[Figure]:
        """A host, and all that is measured on it."""
        with deployed(self.folder / "site") as site:
            yield from self._moved(site)
            yield from self._rollback(site)
            yield from self._healthy(site)
            yield from self._peers(site)

    def install(self) -> Iterator[Figure]:
        """How often an install of many small files asks for the disk: by its system calls."""
        few, many = (install.syncs(self.folder / f"install-{n}", n) for n in install.SIZES)
        low, high = install.SIZES
        yield Figure("install", f"fsync calls of an install of {high} small files", many.one, "")
        yield Figure("install", f"syncfs calls of an install of {high} small files", many.all, "")
        more = (many.one - few.one) / (high - low)
        yield Figure("install", "fsync calls that each further small file takes", more, "", 0)

    def _ours(self, site: Site) -> Run:
        site.line(next(self.numbers))
        return site.deploy()

    def _peers(self, site: Site) -> Iterator[Figure]:
        programs = peers.installed(self.cache)
        held = Peers(self.folder / "peers", programs, site.dist, site.host, site.shared)
        held.prepare()
        rounds = min(_PEERS, self.rounds)

        def after(side: Callable[[str], Run], files: str) -> Callable[[], Run]:
            def measured() -> Run:
                # Each finds the same: one line of one file is another than on the host.
                self._ours(site)
                held.take()
                return side(files)

            return measured

        sides = [after(side, f) for f in ("all", "one") for side in (held.pyinfra, held.ansible)]
        found = alternately(rounds, lambda: self._ours(site), *sides)
        # Before, between and after the peers, so that neither side has the quieter time.
        ours = Series(found[0].runs + alternately(self.rounds, lambda: self._ours(site))[0].runs)
        what = "deploy of one line over an open connection ÷"
        names = ("pyinfra", "Ansible", "pyinfra, the changed file", "Ansible, the changed file")
        targets = (0.10, 0.04, None, None)
        for name, series, target in zip(names, found[1:], targets, strict=True):
            yield ratio("deploy", f"{what} {name}", ours, name, series, target)

    def _moved(self, site: Site) -> Iterator[Figure]:
        """What a line beside the largest program moves: the whole talk, confirmation and all."""
        nix = Nix(self.folder / "copy-nix", site.root / "dist") if self.nix else None
        if nix:
            nix.cold("linked")
            copying.copied(nix, self.folder / "nix-first")
        site.health("well")
        with site.counted(self.folder / "counted") as ssh:
            site.deploy(ssh)
        to, back = ((self.folder / "counted" / n).stat().st_size for n in ("to", "from"))
        largest = max(p.stat().st_size for p in site.dist.objects.iterdir()) / 1e6
        what = f"for one line beside a program of {largest:.0f} MB"
        yield Figure("bytes", f"sent to the host {what}", to / 1000, "kB", 6)
        yield Figure("bytes", f"sent by the host {what}", back / 1000, "kB")
        if nix:
            nix.take([site.host])
            theirs = copying.copied(nix, self.folder / "nix-then")
            nix.remove()
            what = "÷ Nix's copy of it, as gzip packs that"
            yield Figure("bytes", f"sent to the host {what}", to / theirs.to, "×", 0.4)
            both = (to + back) / (theirs.to + theirs.back)
            yield Figure("bytes", f"sent both ways {what}", both, "×")

    def _healthy(self, site: Site) -> Iterator[Figure]:
        """From the command to the host's word that all is well, hop by hop."""

        def healthy() -> Run:
            began = time.time()
            done = self._ours(site)
            told = [each["at"] for each in site.events() if each["event"] == "confirming"]
            return Run(told[-1] - began, done.mebibytes)

        series = Series(tuple(healthy() for _ in range(self.rounds)))
        what = "from `invoke deploy` of one line to healthy, over an open connection"
        yield Figure("healthy", what, series.seconds * 1000, "ms", None, {"ours": series})

    def _rollback(self, site: Site) -> Iterator[Figure]:
        """There and back between two generations that differ in one line."""
        for _ in range(2):
            self._ours(site)
        newest = site.events()[-1]["generation"]
        turns = itertools.cycle((newest - 1, newest))
        checked: list[float] = []

        def ours() -> Run:
            done = site.on_host(f"phoenix rollback {next(turns)}")
            checked.append(_health(site))
            return Run(done.seconds - checked[-1], done.mebibytes)

        site.said(f"cat >/root/by-hand <<'END'\n{_BY_HAND}END\necho >/root/journal")
        for number in (0, 1):
            site.said(f"phoenix rollback {next(turns)} && cp {_RULES} /root/rules-{number}")
        # What stands there already: ours is to find all as its record says.
        hands = itertools.cycle((1, 0))

        def by_hand() -> Run:
            return site.on_host(f"sh /root/by-hand {next(hands)}")

        rounds = 2 * self.rounds
        true, hand, back = alternately(rounds, lambda: site.on_host("true"), by_hand, ours)
        name = "ssh HOST true"
        what = "rollback of one line over a new connection, its health checks apart ÷"
        yield ratio("rollback", f"{what} {name}", back, name, true, 1.1)
        least = "a shell script that does only what such a rollback does ÷"
        yield ratio("rollback", f"{least} {name}", hand, name, true, None)
        seconds = statistics.median(checked)
        yield Figure("rollback", "health checks of seven guests", seconds * 1000, "ms")
        whole, true = alternately(
            rounds, lambda: site.rollback(next(turns)), lambda: site.on_host("true")
        )
        yield ratio("rollback", f"`invoke rollback`, all of it ÷ {name}", whole, name, true, None)


def _health(site: Site) -> float:
    """The seconds of the last transaction's health checks, from their event to the next."""
    told = site.events()
    at = max(number for number, each in enumerate(told) if each["event"] == "health")
    return float(told[at + 1]["at"] - told[at]["at"])

"""The figures as docs/benchmarks.md, as lines for a terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tests.bench.figure import Figure

_PAGE = """\
# Benchmarks

Written by `./invoke bench` (`--rounds N`, `--only CASE`, `--json`). The figures are ratios of two
sides of one run, median by median, with the spread of each side: sides that took turns, but for
{fleet} hosts cold, where Nix comes once between two halves of ours. What is measured is a whole
command, through `invoke`, from start to exit, with all checks of the configuration; the pinned
programs are in the cache, releases are unsigned, and no file but a changed one is younger than two
seconds (younger ones are compared by content too).

{machine}

## Promises

{promises}

## Each side

{sides}

## Where a cold build's time goes

The reference, in one process; importing comes first here and is not counted again below.

{phases}

## Nix doing the same

[tests/bench/default.nix](../tests/bench/default.nix) states both formulations:

- **linked**, what a user of Nix writes: a derivation for each artifact (a layer or a file of the
  host), made from a source folder, and one for each guest and each host that links these.
- **whole**, the least that Nix can do: one derivation a host that copies all of its files. It knows
  no artifacts: a changed line copies the host anew.

Nix is handed the finished files that our build works out, checks nothing, and finds the programs in
its store. It runs without sandbox, substitutes, build logs and evaluation of nixpkgs, with a job a
core, and each cold round begins with a store that holds the programs only. {fleet} hosts are built
cold by it once, since that takes long. The hosts are the reference with names and networks of their
own. The promises are held against **linked**: it has what ours has, a node for each artifact.

## Deploying

To a lab's host (docs/lab.md) with the reference network on it, seven guests that run. The line
that is changed is a machine's MAC address: of it follows one file of the host, and the reload of
one unit. The service of the reference's workstation is left out, since no lab has that machine.

- **ours** is `invoke deploy --yes` from start to exit: it builds what is stale, plans, and
  activates, with all health checks, over a connection that is open; and it confirms over a fresh
  one, which is counted in.
- **pyinfra** and **Ansible** ([tests/bench/peers.py](../tests/bench/peers.py)) get the finished
  files, a task each, without the programs; they write what differs, and reload the unit. Ansible
  has its connection open, pipelining, and no facts; pyinfra makes its own connection, since it
  takes no other. They check and confirm nothing, and take nothing back. "The changed file" is the
  same with that one task alone, as a person says who knows which file it is.
- What is **sent** is counted at ssh's two ends: every request, and what it carries. Nix's is what
  `nix-copy-closure` sends to a store that has what came before, packed by gzip. The line changes
  files of the guest with the largest program.
- **rollback** is `ssh HOST phoenix rollback N`, there and back over one line; the seconds of its
  health checks, which its events tell, are taken off.
- **install** counts system calls, by strace, of the host program on files of its own.

## Requests

In a lab with a service on it, over kept connections of HTTP/1.1, TLS on each hop; client, gateway,
mesh, front and program share the machine's cores. Each run sends the same number of requests.

- **by hand** ([tests/bench/stock.py](../tests/bench/stock.py)) is the same chain on the same host:
  nginx, Traefik and nginx, the same programs, with what their guides say and else their defaults.
  Of streams, p99 is how late tokens come: nginx by its defaults holds them back until it has a
  buffer full, and **at once** it is told not to. A token leaves when its time has come, whatever
  those before it took, so that streams end when their tokens do, whoever passes them on: in the
  same time, to a hundredth.
- **a bare nginx** stands in the gateway's own guest, before the same mesh, with the same TLS, the
  same kept connections to the mesh, and nothing else: no log, no ids, no limits, no slots.
- **first** is the time until a stream's first token through the chain, less what it is at the
  program itself.
"""


def page(figures: Sequence[Figure], machine: Mapping[str, str], fleet: int) -> str:
    """docs/benchmarks.md."""
    phases = [f for f in figures if f.case == "phases"]
    rest = [f for f in figures if f.case != "phases"]
    whole = sum(f.value for f in phases)
    return _PAGE.format(
        machine=_table(("", ""), machine.items()),
        promises=_table(("measured", "figure", "at most", ""), map(_promise, rest)),
        sides=_table(("measured", "side", "median (spread)", "memory"), _sides(rest)),
        phases=_table(
            ("phase", "ms", "%"),
            ((f.what, f"{f.value:.0f}", f"{100 * f.value / whole:.0f}") for f in phases),
        ),
        fleet=fleet,
    )


def line(figure: Figure) -> str:
    """One figure for a terminal."""
    what, value, target, verdict = _promise(figure)
    sides = "; ".join(f"{name} {series}" for name, series in figure.series.items())
    held = f"  (at most {target}: {verdict.strip('*')})" if target else ""
    return f"{what}: {value}{held}" + (f"\n    {sides}" if sides else "")


def _promise(figure: Figure) -> tuple[str, str, str, str]:
    if figure.target is None:
        return figure.what, _value(figure.value, figure.unit), "", ""
    verdict = "**MISSED**" if figure.missed else "kept"
    target = _value(figure.target, figure.unit)
    return figure.what, _value(figure.value, figure.unit), target, verdict


def _value(value: float, unit: str) -> str:
    digits = f"{value:.3f}" if 0 < value < 0.1 else f"{value:.{2 if value < 10 else 1}f}"
    return f"{digits} {unit}".strip()


def _sides(figures: Iterable[Figure]) -> Iterable[tuple[str, str, str, str]]:
    told = set[tuple[str, str]]()
    for figure in figures:
        for name, series in figure.series.items():
            if (figure.case, name) not in told:
                told.add((figure.case, name))
                yield figure.case, name, str(series), f"{series.mebibytes:.0f} MiB"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

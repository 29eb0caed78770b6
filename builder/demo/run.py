"""The demo's steps, in order, and what a person reads meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from builder import cli, commands
from builder.deploy import front, manage
from builder.deploy.deploy import Order
from builder.lab import up as labs
from builder.lab.shape import ROUTED, Lab
from builder.network import Exposed, Network
from builder.problems import UserError

from . import hops
from .load import Load
from .stage import HOST, ROOT, Stage, shell

_PATIENCE = 180
"""Seconds until the first certificates are there."""
_PICTURE = "  client ─HTTPS─▶ 101 gateway ─HTTPS─▶ 102 mesh ─HTTPS─▶ service     all ◀─▶ 103 CA"
_RATE, _BURST = "500/s", 1000
_WORDS = ("--silent", "--show-error", "--max-time", "20", "--cacert", ROOT)


def demo(keep: bool) -> int:
    """Build, bring up, deploy, use, change, roll back; takes the lab away unless `keep`."""
    lab = Lab.of(ROUTED)
    _told("1. the reference network, built")
    commands.build([], twice=False, json=False)
    _told("2. a lab: a host on this machine, as configs/hosts/lab.yaml declares it")
    up = labs.up(commands.ROOT, lab, cli.progress)
    cli.progress("")
    print(up.told())
    try:
        return _shown(Stage(up))
    finally:
        if keep:
            print(f"\nit stays up: ./invoke status --host {HOST}; ./invoke lab.down takes it away")
        else:
            _told("the lab is taken away")
            labs.down(lab, cli.progress)
            cli.progress("")


def _shown(stage: Stage) -> int:
    stage.tailor()
    stage.trust()
    network = stage.network()
    _told("3. deployed onto it: created, certificates ordered, checked, confirmed")
    _done(_deploy)
    stage.programs(network)
    _told("4. used, by a client outside that trusts the site's root and nothing else")
    _await_answers(stage, network)
    _requests(stage, network)
    _picture(stage, network)
    first = network.exposed[0].service.name
    _told(f"5. one line of {first} changed, deployed again, under load")
    stage.limit(first, _RATE, _BURST)
    with _loaded(stage, network):
        _done(_deploy)
    _told("6. rolled back, under load")
    with _loaded(stage, network):
        _done(lambda: commands.change([HOST], manage.rollback(None), "", yes=True, json=False))
    _requests(stage, network)
    _done(lambda: commands.look([HOST], "status", "", json=False))
    return cli.DONE


def _deploy() -> int:
    return front.put(commands.ground, [HOST], Order(), yes=True, json=False)


def _done(step: Callable[[], int]) -> None:
    began = time.monotonic()
    code = step()
    if code != cli.DONE:
        raise UserError(f"the demo ends here: exit code {code}", "./invoke status --host lab")
    print(f"  took {time.monotonic() - began:.0f} s")


def _told(text: str) -> None:
    cli.progress("")
    print(f"\n{cli.style(text, cli.BOLD)}", flush=True)


def _asked(stage: Stage, exposed: Exposed) -> list[str]:
    """A request for an exposed name, as one types it."""
    place = f"{exposed.name}:443:{stage.up.lab.address}"
    return ["curl", *_WORDS, "--resolve", place, f"https://{exposed.name}{exposed.path or '/'}"]


def _answered(network: Network) -> Iterator[Exposed]:
    """Exposed names whose service runs in a guest here."""
    guests = {member.guest.name for member in network.members}
    for exposed in network.exposed:
        routed = next(r for r in network.services if r.service.name == exposed.service.name)
        if any(backend.name in guests for backend in routed.backends):
            yield exposed


def _code(stage: Stage, exposed: Exposed) -> str:
    words = [*_asked(stage, exposed), "--output", "/dev/null", "--write-out", "%{http_code}"]
    return stage.client(*words)[1]


def _await_answers(stage: Stage, network: Network) -> None:
    end = time.monotonic() + _PATIENCE
    for exposed in _answered(network):
        while (code := _code(stage, exposed)) != "200":
            cli.progress(f"{exposed.name} answers {code or 'nothing'}, and is awaited")
            if time.monotonic() > end:
                raise UserError(f"{exposed.name} still answers {code or 'nothing'}",
                                "./invoke status --host lab")  # fmt: skip
            time.sleep(1)
    cli.progress("")


@dataclass(frozen=True, slots=True)
class _Try:
    what: str
    words: list[str]


def _tries(stage: Stage, exposed: Exposed) -> Iterator[_Try]:
    asked = _asked(stage, exposed)
    yield _Try("an answer", asked)
    tokens = f"{asked[-1].rstrip('/')}/tokens"
    yield _Try("tokens as they come", [*asked[:-1], tokens, "--no-buffer"])
    plain = ["curl", *_WORDS, "--resolve", f"{exposed.name}:80:{stage.up.lab.address}", "--output",
             "/dev/null", "--write-out", "%{http_code} to %{redirect_url}",
             f"http://{exposed.name}/"]  # fmt: skip
    yield _Try("in plain text, only a way to HTTPS", plain)


def _requests(stage: Stage, network: Network) -> None:
    for exposed in _answered(network):
        for each in _tries(stage, exposed):
            code, out, err = stage.client(*each.words)
            said = " ".join((out or err).split())
            print(f"  {'✓' if code == 0 else '✗'} {exposed.name}, {each.what}: {said}")
            if code:
                raise UserError(f"{exposed.name}: {said}", shell(each.words))


def _picture(stage: Stage, network: Network) -> None:
    found = [hop for exposed in _answered(network) for hop in hops.way(stage, network, exposed)]
    found += hops.authority(stage, network)
    _told("every hop, as who makes it verifies it")
    print(
        "  client ──HTTPS──▶ 101 gateway ──HTTPS──▶ 102 mesh ──HTTPS──▶ service    all ◀──▶ 103 CA"
    )
    for line in dict.fromkeys(map(str, found)):
        print(line)
    print("  try it: " + shell(_asked(stage, network.exposed[0])))
    if wrong := [hop for hop in found if hop.why]:
        raise UserError(f"{len(wrong)} hops are not as they should be: {wrong[0]}")


@contextmanager
def _loaded(stage: Stage, network: Network) -> Iterator[None]:
    exposed = next(_answered(network))
    with Load(stage, _asked(stage, exposed)) as load:
        yield
    good, bad = load.counted()
    print(f"  {'✗' if bad else '✓'} meanwhile {good + bad} requests, {bad} failed")

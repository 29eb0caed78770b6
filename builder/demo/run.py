"""The demo's steps, in order, and what a person reads meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from builder import cli, commands
from builder.deploy import front, manage
from builder.deploy.deploy import Order
from builder.deploy.manage import Act
from builder.lab import up as labs
from builder.lab.shape import ROUTED, Lab
from builder.network import Exposed, Network
from builder.problems import UserError

from . import hops
from .load import Load
from .stage import ROOT, Stage, shell

_PATIENCE = 180
"""Seconds until the first certificates are there."""
_PICTURE = (
    "  client ─HTTPS─▶ 101 gateway ─HTTPS─▶ 102 mesh ─HTTPS─▶ service     all ◀─HTTPS─▶ 103 CA"
)
_RATE, _BURST = "500/s", 1000
_WORDS = ("--silent", "--show-error", "--fail-with-body", "--max-time", "20", "--cacert", ROOT)


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
        return shown(Stage(up, commands.ground(lab.called)))
    finally:
        if keep:
            called = lab.called
            print(
                f"\nit stays up: ./invoke status --host {called}; ./invoke lab.down takes it away"
            )
        else:
            _told("the lab is taken away")
            labs.down(lab, cli.progress)
            cli.progress("")


def shown(stage: Stage) -> int:
    """The steps from the first deploy on, on a lab that is up; the exit code. UserError where one
    of them does not go as it should."""
    stage.tailor()
    stage.trust()
    network = stage.network()
    _told("3. deployed onto it: created, certificates ordered, checked, confirmed")
    _deploy(stage)
    stage.programs(network)
    _told("4. used, by a client outside that trusts the site's root and nothing else")
    _await_answers(stage, network)
    requests(stage, network)
    picture(stage, network)
    first = network.exposed[0].service.name
    _told(f"5. one line of {first} changed, deployed again, under load")
    stage.limit(first, _RATE, _BURST)
    with loaded(stage, network):
        _deploy(stage)
    _told("6. rolled back, under load")
    with loaded(stage, network):
        _managed(stage, manage.rollback(None))
    requests(stage, network)
    _managed(stage, front.LOOKS["status"])
    return cli.DONE


def _deploy(stage: Stage) -> None:
    _done(stage, lambda: front.put(lambda _: stage.ground, [stage.host], Order(), True, False))


def _managed(stage: Stage, act: Act) -> None:
    def step() -> int:
        return front.manage_each(lambda _: stage.ground, [stage.host], act, "", True, False)

    _done(stage, step)


def _done(stage: Stage, step: Callable[[], int]) -> None:
    began = time.monotonic()
    code = step()
    if code != cli.DONE:
        raise UserError(f"the demo ends here: exit code {code}", _status(stage))
    print(f"  took {time.monotonic() - began:.0f} s")


def _status(stage: Stage) -> str:
    return f"./invoke status --host {stage.host}"


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
                                _status(stage))  # fmt: skip
            time.sleep(1)
    cli.progress("")


@dataclass(frozen=True, slots=True)
class _Try:
    what: str
    words: list[str]
    begins: str
    """What is printed begins with this."""


def _tries(stage: Stage, exposed: Exposed) -> Iterator[_Try]:
    asked = _asked(stage, exposed)
    yield _Try("an answer", asked, f'{{"service": "{exposed.service.name}"')
    tokens = f"{asked[-1].rstrip('/')}/tokens"
    yield _Try("tokens as they come", [*asked[:-1], tokens, "--no-buffer"], "data: one")
    plain = ["curl", *_WORDS, "--resolve", f"{exposed.name}:80:{stage.up.lab.address}", "--output",
             "/dev/null", "--write-out", "%{http_code} to %{redirect_url}",
             f"http://{exposed.name}/"]  # fmt: skip
    yield _Try("in plain text, only a way to HTTPS", plain, f"308 to https://{exposed.name}")


def requests(stage: Stage, network: Network) -> None:
    """Use each exposed name, and print what comes of it; UserError at the first that fails."""
    for exposed in _answered(network):
        for each in _tries(stage, exposed):
            code, out, err = stage.client(*each.words)
            said = " ".join((err or out if code else out or err).split())
            fine = code == 0 and out.startswith(each.begins)
            print(f"  {'✓' if fine else '✗'} {exposed.name}, {each.what}: {said}")
            if not fine:
                raise UserError(f"{exposed.name}: {said}", shell(each.words))


def picture(stage: Stage, network: Network) -> None:
    """Print each hop; UserError where one is not encrypted and verified."""
    found = [hop for exposed in _answered(network) for hop in hops.way(stage, network, exposed)]
    found += hops.authority(stage, network)
    _told("every hop, as who makes it verifies it")
    print(_PICTURE)
    for line in dict.fromkeys(map(str, found)):
        print(line)
    print("  try it: " + shell(_asked(stage, network.exposed[0])))
    if wrong := [hop for hop in found if hop.why]:
        count, first = f"{len(wrong)} of {len(found)}", str(wrong[0]).strip()
        raise UserError(f"{count} hops are not as they should be: {first}", _status(stage))


@contextmanager
def loaded(stage: Stage, network: Network) -> Iterator[None]:
    """Requests meanwhile, printed by their number; UserError where one fails, or none is made."""
    request = _asked(stage, next(_answered(network)))
    with Load(stage, request) as load:
        yield
    good, bad = load.counted()
    fine = good and not bad
    print(f"  {'✓' if fine else '✗'} meanwhile {good + len(bad)} requests, {len(bad)} failed")
    if not fine:
        kinds = ", ".join(dict.fromkeys(bad))
        why = f"{len(bad)} of {good + len(bad)} requests failed: {kinds}"
        raise UserError(why if bad else "no request was made meanwhile", shell(request))

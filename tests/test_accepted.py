"""The real programs take what is made of the reference, of every case, and of random valid
configurations; `--deep` draws ten times as many."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder import checks, declare, schema
from builder.derive import derive
from builder.network import Network
from tests.accepted import Judged, trust
from tests.judges.refusal import Refused
from tests.rendered import networks
from tests.strategies import PROFILES, PROTOCOLS, examples

ROOT = Path(__file__).parents[1]
CASES = sorted(p for p in (ROOT / "tests/cases").iterdir() if p.is_dir())
pytestmark = [pytest.mark.judge, pytest.mark.needs("root", "mmdebstrap", "unshare")]

# 50 lists of 4: small, so that two workers end at the same time.
LISTS, EACH = 50, 4
DEEP = 10


def _network(data: Mapping[str, Any]) -> Network:
    return derive(declare.site(data["site"]), declare.host(data["host"]), trust())


def _problems(data: Mapping[str, Any]) -> list[Any]:
    found = schema.findings("site", data["site"], schema.shipped("site"))
    found += schema.findings("hosts/node", data["host"], schema.shipped("host"))
    if found:
        return list(found)
    site, host = declare.site(data["site"]), declare.host(data["host"])
    return list(checks.findings(site, (host,), data["site"], {host.name: data["host"]}))


def _judge_list(number: int, count: int) -> None:
    for data in examples(number, count):
        assert _problems(data) == [], json.dumps(data)
        try:
            Judged(_network(data)).by_all()
        except (Refused, AssertionError) as error:
            raise AssertionError(f"{error}\n--- of\n{json.dumps(data)}") from error


@pytest.mark.parametrize("root", [ROOT, *CASES], ids=lambda p: p.name)
def test_reference_and_cases(root: Path) -> None:
    for network in networks(root).values():
        Judged(_with_trust(network)).by_all()


def _with_trust(network: Network) -> Network:
    return derive(network.site, network.host, trust())


@pytest.mark.parametrize("number", range(LISTS))
def test_random_configurations(number: int) -> None:
    _judge_list(number, EACH)


@pytest.mark.deep
@pytest.mark.parametrize("number", range(LISTS, LISTS * (DEEP + 1)))
def test_more_random_configurations(number: int) -> None:
    _judge_list(number, EACH)


def test_everything_occurs() -> None:
    """Every property of the schemas, every enum's value, every pair of protocol and profile; in
    configurations of which no two are the same."""
    drawn = [data for number in range(LISTS) for data in examples(number, EACH)]
    assert len({json.dumps(data, sort_keys=True) for data in drawn}) >= 200
    seen: Counter[str] = Counter()
    large = 0
    for data in drawn:
        for name in ("site", "host"):
            shape = json.loads((ROOT / f"schema/{name}.schema.json").read_bytes())
            seen.update(_met(name, shape, data[name]))
        services = data["site"]["services"].values()
        large += len(services) >= 5
        seen.update(f"{s.get('protocol', 'http')} × {s.get('profile', 'web')}" for s in services)
    wanted = {f"{protocol} × {profile}" for protocol in PROTOCOLS for profile in PROFILES}
    for name in ("site", "host"):
        shape = json.loads((ROOT / f"schema/{name}.schema.json").read_bytes())
        wanted |= set(_possible(name, shape))
    # A host of `examples` stands alone, so it takes over from no other.
    assert wanted - set(seen) == {"host.like"}
    assert large * 2 >= len(drawn)


def _possible(path: str, shape: Mapping[str, Any]) -> Iterator[str]:
    for key, value in shape.get("properties", {}).items():
        yield f"{path}.{key}"
        yield from _possible(f"{path}.{key}", value)
    yield from (f"{path}={value}" for value in shape.get("enum", ()))
    for branch in shape.get("anyOf", ()):
        yield from _possible(path, branch)
    if isinstance(shape.get("additionalProperties"), dict):
        yield from _possible(f"{path}.*", shape["additionalProperties"])
    if "items" in shape:
        yield from _possible(f"{path}[]", shape["items"])


def _met(path: str, shape: Mapping[str, Any], data: object) -> Iterator[str]:
    """Which of `_possible` a document holds."""
    if data in shape.get("enum", ()):
        yield f"{path}={data}"
    for branch in shape.get("anyOf", ()):
        yield from _met(path, branch, data)
    if isinstance(data, dict):
        for key, value in data.items():
            if key in shape.get("properties", {}):
                yield f"{path}.{key}"
                yield from _met(f"{path}.{key}", shape["properties"][key], value)
            elif isinstance(shape.get("additionalProperties"), dict):
                yield from _met(f"{path}.*", shape["additionalProperties"], value)
    if isinstance(data, list) and "items" in shape:
        for item in data:
            yield from _met(f"{path}[]", shape["items"], item)


def test_judges_see_another_network() -> None:
    """The twin: artifacts of one network are not what another one declares."""
    (network,) = (n for name, n in networks(ROOT).items() if name == "lab")
    judged = Judged(_with_trust(network))
    judged.network = replace(judged.network, exposed=())
    with pytest.raises(AssertionError):
        judged.by_nginx()
    first, *others = judged.network.services
    heavier = tuple(replace(b, weight=b.weight + 1) for b in first.backends)
    judged.network = replace(judged.network, services=(replace(first, backends=heavier), *others))
    with pytest.raises(AssertionError, match=first.service.name):
        judged.by_traefik()

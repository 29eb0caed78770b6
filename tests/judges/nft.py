"""nft and the kernel as judges of a ruleset: loaded twice, and read back."""

from __future__ import annotations

import functools
import json
from typing import Any, cast

from tests.judges.namespace import Space
from tests.judges.refusal import Refused


def check(ruleset: str, *, before: str = "") -> list[dict[str, Any]]:
    """What the kernel holds after `ruleset` was loaded: nft's JSON objects without handles.

    `before` is loaded first, as what is foreign and stands there already. The ruleset is loaded
    twice, as a reload does, and must make no difference then. Raises Refused where nft complains.
    """
    return cast("list[dict[str, Any]]", json.loads(_loaded(ruleset, before)))


@functools.lru_cache(maxsize=1024)  # many guests have the same rules
def _loaded(ruleset: str, before: str) -> str:
    with Space() as space:
        if before:
            _nft(space, ["-f", "-"], before)
        _nft(space, ["-f", "-"], ruleset)
        once = _listed(space)
        _nft(space, ["-f", "-"], ruleset)
        twice = _listed(space)
    if once != twice:
        grown = [each for each in twice if twice.count(each) > once.count(each)]
        raise Refused("nft", f"loaded a second time it adds {json.dumps(grown)}")
    return json.dumps(once)


def tables(loaded: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """Family and name of each table."""
    found = (each["table"] for each in loaded if "table" in each)
    return {(table["family"], table["name"]) for table in found}


def rules(loaded: list[dict[str, Any]], chain: str) -> list[list[Any]]:
    """The expressions of each rule of the chains named `chain`, in order."""
    found = (each["rule"] for each in loaded if "rule" in each)
    return [rule["expr"] for rule in found if rule["chain"] == chain]


def _nft(space: Space, arguments: list[str], given: str = "") -> str:
    result = space.run(["nft", *arguments], given=given)
    if result.code != 0 or result.err:
        raise Refused("nft", result.err)
    return result.out


def _listed(space: Space) -> list[dict[str, Any]]:
    listed = json.loads(_nft(space, ["-j", "list", "ruleset"]))["nftables"]
    return [_plain(each) for each in listed if "metainfo" not in each]


def _plain(each: dict[str, Any]) -> dict[str, Any]:
    [(kind, value)] = each.items()
    return {kind: {key: part for key, part in value.items() if key != "handle"}}

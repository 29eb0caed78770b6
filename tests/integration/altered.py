"""A build whose files say something else: of what `check` and every program take, and is wrong.

`ALTERED` in the environment of `tests.integration.invoked` is a list of: whose file (a guest's
name, or "host"), a pattern of its path, words in it, and what stands there instead.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import json
from typing import Any

from builder import build, memo, plan
from builder.kinds import KINDS
from builder.kinds.artifact import Artifact, GuestFiles, HostFile, Kind
from builder.network import Network
from builder.tree import File, Tree

ALTERED = "PHOENIX_TEST_ALTERED"
Change = tuple[str, str, str, str]


class _Alters:
    """Makes the changes, and knows which of them found their words."""

    def __init__(self, changes: list[Change]) -> None:
        self.changes, self.found = changes, set[Change]()

    def data(self, owner: str, path: str, data: bytes) -> bytes:
        for change in self.changes:
            whose, pattern, old, new = change
            if whose == owner and fnmatch.fnmatch(path, pattern) and old.encode() in data:
                self.found.add(change)
                data = data.replace(old.encode(), new.encode())
        return data

    def artifact(self, each: Artifact) -> Artifact:
        if isinstance(each, HostFile):
            return dataclasses.replace(each, data=self.data("host", each.path, each.data))
        if isinstance(each, GuestFiles):
            entries = (
                dataclasses.replace(e, data=self.data(each.guest, e.path, e.data))
                if isinstance(e, File)
                else e
                for e in each.tree.entries
            )
            return dataclasses.replace(each, tree=Tree.of(entries))
        return each


@dataclasses.dataclass(frozen=True)
class _Kind:
    kind: Kind
    alters: _Alters

    def artifacts(self, network: Network) -> tuple[Artifact, ...]:
        return tuple(self.alters.artifact(each) for each in self.kind.artifacts(network))


def alter(text: str) -> None:
    """Have all that this process builds be altered; raises AssertionError there where a file does
    not say any more what is to be altered."""
    alters = _Alters([(a, b, c, d) for a, b, c, d in json.loads(text)])
    vars(plan)["KINDS"] = {name: _Kind(kind, alters) for name, kind in KINDS.items()}
    planned, coded = plan.plan, memo.code

    def whole(network: Network, programs: Any, host_program: bytes) -> plan.Plan:
        made = planned(network, programs, host_program)
        assert alters.found == {*alters.changes}, {*alters.changes} - alters.found
        return made

    vars(build)["plan"] = whole
    # What is made so is not what these sources make.
    vars(memo)["code"] = lambda root: f"{coded(root)} {text}"

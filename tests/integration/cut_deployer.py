"""The deployer of a test as a process of its own, that can be killed, and what it tells.

python -m tests.integration.cut_deployer '{…}'
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder import cli
from builder.deploy import following, front, manage, ssh
from builder.deploy.deploy import Order
from builder.deploy.following import Follower
from builder.deploy.story import Verdict
from tests.deploy.making import HOST
from tests.integration.machine import spawned, until

FOREIGN = (901, 902, 903)
CONFIRM, LIMIT = 30, 90.0
"""Seconds: for the confirmation; that a test waits for anything."""


@dataclass(frozen=True, slots=True)
class Done:
    """What the deployer came to: exit code, result and generation as it told them, why, and all
    that it said."""

    code: int
    result: str
    generation: int | None
    why: str
    said: str


@dataclass
class Deployer:
    """The deployer as it runs, in a process group of its own."""

    process: subprocess.Popen[str]
    json: bool
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def _listen(self) -> None:
        assert self.process.stderr
        self.lines.extend(iter(self.process.stderr.readline, ""))

    def says(self, word: str) -> None:
        """Await that it has said that, or has ended."""
        ended = self.process.poll
        await_(lambda: any(word in line for line in self.lines) or ended() is not None, word)

    def kill(self) -> None:
        """End it and its ssh, as a machine's end does."""
        os.killpg(self.process.pid, 9)

    def ended(self) -> Done:
        """Await its end."""
        assert self.process.stdout
        code = self.process.wait(timeout=LIMIT)
        out = self.process.stdout.read()
        self.listener.join(5)
        said = "".join(self.lines)
        if code < 0:
            assert not out, out
            return Done(code, "", None, "", said)
        if self.json:
            found = json.loads(out)["hosts"][HOST]
            return Done(code, found["result"], found["generation"], found["why"], said + out)
        (last,) = [line for line in (said + out).splitlines() if line.startswith(f"{HOST}: ")][-1:]
        return Done(code, *_read(last.removeprefix(f"{HOST}: ")), said + out)


def _read(sentence: str) -> tuple[str, int | None, str]:
    """Result, generation and reason of the sentence that a person reads."""
    number = re.search(r"generation (\d+) runs", sentence)
    words = {"rolled back": "undone", "generation": "done", "refused, somebody": "busy"}
    result = next((w for start, w in words.items() if sentence.startswith(start)), "")
    result = result or re.split("[:,]", sentence)[0]
    return result, int(number[1]) if number else None, sentence.partition(": ")[2]


def start(json_told: bool, **order: Any) -> Deployer:
    """Start a deployer; see `main` for its order."""
    order = {"json": json_told, **order}
    return Deployer(spawned("tests.integration.cut_deployer", json.dumps(order)), json_told)


def await_(condition: Callable[[], object], what: str) -> None:
    """Await a condition."""
    until(condition, what, LIMIT, 0.02)


def main(text: str) -> int:
    """The deployer: one order. `lies` names a fault that it has, for the tests' own proof."""
    given = json.loads(text)
    following._GRACE = given.get("grace", 20.0)
    _lies(given.get("lies", ""))
    ground = front.Ground(Path(given["root"]), Path(given["state"]), tuple(given["ssh"]), int)
    if given["do"] == "deploy":
        order = Order(
            affects=frozenset(FOREIGN),
            activate=given.get("activate", 60),
            confirm=given.get("confirm", CONFIRM),
        )
        return front.put(lambda _: ground, [HOST], order, True, given["json"])
    act = front.LOOKS["verify"] if given["do"] == "verify" else manage.rollback(given["to"])
    return front.manage_each(lambda _: ground, [HOST], act, "", True, given["json"])


def _claims(_: Follower, number: int, *_rest: object) -> Verdict:
    return Verdict("done", number)


def _lies(fault: str) -> None:
    if fault == "claims":
        Follower._settle = _claims  # type: ignore[assignment]
    elif fault == "shares":
        ssh._ALONE = ()  # type: ignore[assignment]


if __name__ == "__main__":
    cli.run(lambda: main(sys.argv[1]), json=json.loads(sys.argv[1])["json"])

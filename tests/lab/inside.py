"""Commands in a container, one after the other, through one `docker exec`: to begin one takes a
machine more than most commands do."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Sequence

from builder.lab.engine import Engine

# It says that a command begins, and then what became of it. Into files, since what a command leaves
# running may hold its pipes.
_AGENT = r"""
import json, subprocess, sys, tempfile
for line in sys.stdin:
    words, limit, merged = json.loads(line)
    print("begins", flush=True)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        into = subprocess.STDOUT if merged else err
        try:
            code = subprocess.run(
                words, stdin=subprocess.DEVNULL, stdout=out, stderr=into, timeout=limit
            ).returncode
        except (OSError, subprocess.TimeoutExpired) as error:
            code = 127
            err.write(str(error).encode())
        found = []
        for each in (out, err):
            each.seek(0)
            found.append(each.read().decode(errors="replace"))
    print(json.dumps([code if code >= 0 else 128 - code, *found]), flush=True)
"""


class Inside:
    """A container's commands; each thread has its own way in."""

    def __init__(self, engine: Engine, container: str) -> None:
        self._engine, self._container = engine, container
        self._own = threading.local()
        self._every: list[subprocess.Popen[str]] = []

    def run(
        self, *command: str, limit: float | None = None, merged: bool = False
    ) -> tuple[int, str, str]:
        """A command's exit code, output and error output (`merged`: as one, in their order); 127
        where it does not begin, or is not done after `limit` seconds.

        Where the container is not there it is as `docker exec` has it.
        """
        for _ in range(2):
            agent = self._agent()
            if self._begun(agent, json.dumps([command, limit, merged])):
                assert agent.stdout
                said = agent.stdout.readline()
                code, out, err = json.loads(said) if said else (137, "", "its container ended")
                return code, out, err
            # One of before the container ended; or nobody lets us in.
            self._ended(agent)
        assert agent.stderr
        return agent.returncode or 1, "", agent.stderr.read()

    def close(self) -> None:
        """End all ways in."""
        for agent in tuple(self._every):
            self._ended(agent)
            for stream in (agent.stdin, agent.stdout, agent.stderr):
                if stream:
                    stream.close()
        self._every.clear()
        self._own = threading.local()

    def _agent(self) -> subprocess.Popen[str]:
        found: subprocess.Popen[str] | None = getattr(self._own, "agent", None)
        if found is None or found.poll() is not None:
            words = ("exec", "--interactive", self._container, "python3", "-I", "-c", _AGENT)
            found = _started(self._engine, self._engine.command(*words))
            self._own.agent = found
            self._every.append(found)
        return found

    def _begun(self, agent: subprocess.Popen[str], asked: str) -> bool:
        assert agent.stdin
        assert agent.stdout
        try:
            agent.stdin.write(f"{asked}\n")
            agent.stdin.flush()
        except BrokenPipeError:
            return False
        return agent.stdout.readline() == "begins\n"

    def _ended(self, agent: subprocess.Popen[str]) -> None:
        if agent.poll() is None:
            agent.kill()
        agent.wait()


def _started(engine: Engine, words: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=engine.environment,
        # A ^C in this terminal is for who asks.
        start_new_session=True,
    )

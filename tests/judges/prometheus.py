"""promtool as the judge of a scrape file and of queries, and what a scrape says, read."""

from __future__ import annotations

import re
from collections.abc import Mapping

from builder import emit
from tests.judges import programs
from tests.judges.namespace import Entry, Space
from tests.judges.refusal import Refused

_AT = "/opt/prometheus"
_PROMTOOL = f"{_AT}/usr/bin/promtool"
_SAMPLE = re.compile(r'(\w+)(?:\{((?:\w+="(?:[^"\\]|\\.)*",?)*)\})? (\S+)')
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def check(config: bytes, files: Mapping[str, bytes]) -> None:
    """Refused unless promtool takes the configuration, on a machine that has these files."""
    _judged("config", config, files)


def queries(exprs: list[str]) -> None:
    """Refused unless each is a query; Grafana's spans are put in as it would."""
    rules = [
        {"record": f"q{i}", "expr": expr.replace("$__rate_interval", "1m")}
        for i, expr in enumerate(exprs)
    ]
    _judged("rules", emit.yaml_text({"groups": [{"name": "q", "rules": rules}]}), {})


def _judged(what: str, data: bytes, files: Mapping[str, bytes]) -> None:
    with Space(binds={_AT: programs.folder("prometheus")}) as space:
        space.write([Entry("/tmp/judged.yml", data), *(Entry(p, d) for p, d in files.items())])
        done = space.run([_PROMTOOL, "check", what, "/tmp/judged.yml"])
    if done.code != 0:
        raise Refused("promtool", done.out + done.err)


def samples(text: str) -> list[tuple[str, dict[str, str], float]]:
    """Each sample of a scrape: metric, labels, value."""
    found = []
    for line in text.splitlines():
        if line and not line.startswith("#"):
            match = _SAMPLE.fullmatch(line)
            assert match, line
            found.append((match[1], dict(_LABEL.findall(match[2] or "")), float(match[3])))
    return found


def metrics(expr: str) -> set[str]:
    """The metrics that a query of ours asks for: all words before a selector."""
    return set(re.findall(r"(\w+)\{", expr))

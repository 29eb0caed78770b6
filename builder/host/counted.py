"""How requests ended of late, counted in a guest by nginx' own log."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MINUTES = 10
"""How far back requests are counted: as far, or as the last `_BYTES` of each log file go."""
_BYTES = 4 << 20
_MOST = 500
# The parts of a line between quotes. Before that of the host a client has a say in none; in that
# one, what stands before a quote of its own is read. Times are local ones on both sides. What
# we ask ourselves (asking.py), also of programs that are not there yet, is no client's request.
_AWK = r"""
BEGIN { FS = "\"" }
substr($0, 1, 9) == "{\"time\":\"" && substr($0, length($0)) == "}" && $4 >= since && $16 != "" \
        && substr($0, length($0) - 17) != "\"agent\":\"phoenix\"}" {
    key = $16 " " $30
    if (!(key in asked) && ++keys > most) key = $16 " *"
    asked[key]++
    code = substr($0, index($0, "\"status\":\"") + 10, 3)
    if (code >= "500" && code <= "599") failed[key]++
}
END { for (key in asked) print "asked", key, asked[key], failed[key] + 0 }
"""
_SH = """
log=/var/log/phoenix-nginx/access.json
if [ -r "$log" ] && since=$(date -d "-MINUTES minutes" +%Y-%m-%dT%H:%M:%S 2>/dev/null); then
    for each in "$log.1" "$log"; do tail -c BYTES "$each" 2>/dev/null; done |
        LC_ALL=C awk -v since="$since" -v most=MOST 'AWK' 2>/dev/null
fi
"""
SCRIPT = (
    _SH.replace("MINUTES", str(MINUTES))
    .replace("BYTES", str(_BYTES))
    .replace("MOST", str(_MOST))
    .replace("AWK", _AWK)
)
"""What is run in a guest; without a log, or a tool for it, it tells nothing."""
_ASKED = re.compile(r"asked (\S+) (\S*) (\d+) (\d+)")


@dataclass(frozen=True, slots=True)
class Rate:
    """How many requests for a service, by a host's name, a guest's nginx answered of late, and how
    many of them with an error (5xx). Of very many names, those beyond some are counted as "*"."""

    guest: int
    service: str
    host: str
    asked: int
    failed: int


def rates(guest: int, said: Sequence[str]) -> Iterator[Rate]:
    """What the script said, sorted."""
    for found in filter(None, map(_ASKED.fullmatch, sorted(said))):
        service, host, asked, failed = found.groups()
        yield Rate(guest, service, host, int(asked), int(failed))

"""bin/phoenix-logs run for real, as a timer does; nginx is played by who notes that it was told."""

from __future__ import annotations

import pytest

from builder.emit.fixed import fixed
from tests.judges.namespace import Entry, Space

pytestmark = [pytest.mark.judge, pytest.mark.needs("root", "unshare")]

SCRIPT, LOG = "/tmp/phoenix-logs", "/var/log/phoenix-nginx/access.json"
NGINX = """trap 'echo told >/tmp/told' USR1; echo $$ >/run/phoenix-nginx-b/nginx.pid
while [ ! -e /tmp/told ]; do sleep 0.05; done"""


@pytest.mark.parametrize("other", ["1000000000\n", "", None], ids=["ended", "torn", "none"])
def test_a_slot_is_told_whatever_the_other_one_left(other: str | None) -> None:
    with Space() as space:
        space.folders(["/run/phoenix-nginx-a", "/run/phoenix-nginx-b"])
        entries = [
            Entry(SCRIPT, fixed("common/bin/phoenix-logs"), 0o755),
            Entry(LOG, b"new"), Entry(f"{LOG}.1", b"old"), Entry(f"{LOG}.4", b"oldest"),
        ]  # fmt: skip
        if other is not None:
            entries.append(Entry("/run/phoenix-nginx-a/nginx.pid", other.encode()))
        space.write(entries)
        nginx = space.start(["sh", "-c", NGINX])
        space.must(["sh", "-c", "until [ -s /run/phoenix-nginx-b/nginx.pid ]; do sleep 0.05; done"])
        space.must([SCRIPT, "3"])
        assert space.wait(nginx) == 0
        kept = [space.read(LOG), *(space.read(f"{LOG}.{number}") for number in (1, 2, 4))]
        assert kept == [None, b"new", b"old", b"oldest"]
        # What is smaller stays.
        space.write([Entry(LOG, b"newer")])
        space.must([SCRIPT, "6"])
        assert space.read(LOG) == b"newer"

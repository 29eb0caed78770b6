"""The ACME client killed at any step, and overtaken by a flip: what is installed is whole."""

from __future__ import annotations

import pytest

from tests.judges.guest import CURRENT, STATE
from tests.judges.namespace import Entry
from tests.kinds.acme.ordering import good, lines, names, whole, write
from tests.kinds.step_ca.running import AS_LEGO, CLIENT, Site
from tests.kinds.traefik.running import until
from tests.kinds.units import dying
from tests.kinds.units.dying import STEPS

pytestmark = [pytest.mark.judge, pytest.mark.needs("root", "unshare")]


def steps(running: Site, **programs: str) -> dict[str, str]:
    """An environment in which these programs are found before the guest's own."""
    for name, text in programs.items():
        running.space.write([Entry(f"{STEPS}/{name}", text.encode(), 0o755)])
    return {"PATH": f"{STEPS}:/usr/sbin:/usr/bin:/sbin:/bin"}


def test_a_flip_during_a_run_is_followed_by_that_run(running: Site) -> None:
    """systemd does not tell of what happens while the service runs."""
    (fields,) = lines(running.net, running.holder)
    write(running, fields, names=fields[0])
    copy = "cp -a acme bin trust ../2; ln -s ../1/programs ../2/programs"
    running.space.must(["sh", "-ec", f"cd /opt/phoenix/1; mkdir ../2; {copy}"])
    text = " ".join(fields) + "\n"
    running.space.write([Entry("/opt/phoenix/2/acme/certificates", text.encode())])
    waiting = "#!/bin/sh\ntouch /tmp/there\nuntil [ -e /tmp/go ]; do sleep 0.05; done\n"
    environment = steps(running, sync=waiting + 'exec /usr/bin/sync "$@"\n')
    run = running.space.start([*AS_LEGO, CLIENT], environment=environment)
    until(lambda: running.space.read("/tmp/there") is not None)
    running.space.must(["ln", "-sfn", "2", CURRENT])
    running.space.must(["touch", "/tmp/go"])
    assert running.space.wait(run) == 0
    assert names(whole(running.installed(fields[0]))) == set(fields[9:])


def test_killed_between_key_and_certificate_it_orders_anew(running: Site) -> None:
    """By an order that nothing else would repeat: all that was wrong is mended by then."""
    (fields,) = lines(running.net, running.holder)
    good(running)
    running.space.must(["rm", "-r", f"{STATE}/acme/site/accounts"])
    torn = '#!/bin/sh\n/usr/bin/mv -f "$2" "$4"\nkill -KILL "$PPID"\n'
    assert running.order(steps(running, mv=torn)).code == -9
    good(running)
    whole(running.installed(fields[0]))


def test_killed_at_any_step_it_leaves_a_whole_pair(running: Site) -> None:
    (fields,) = lines(running.net, running.holder)
    good(running)
    called = ("cp", "mv", "rm", "mkdir", "chmod", "sync", "cmp", "timeout")
    environment = steps(running, **dict.fromkeys(called, dying.PROGRAM))
    killed = 0
    for fatal in range(1, 60):
        # Other names at each time: the order that changes the key.
        wanted = fields[9 : 10 + fatal % 4]
        write(running, fields, names=" ".join(wanted))
        before = running.installed(fields[0])
        script = "echo $$ >/tmp/script; exec " + CLIENT
        running.space.write(
            [
                Entry("/tmp/count", b"0\n", 0o666),
                Entry("/tmp/fatal", f"{fatal}\n".encode()),
                Entry("/tmp/how", b"before\n"),
                Entry("/tmp/script", b"", 0o666),
            ]
        )
        done = running.space.run(
            [*AS_LEGO, "sh", "-c", script],
            environment=environment,
        )
        now = running.installed(fields[0])
        if done.code == 0:
            break
        assert done.code == -9
        killed += 1
        # Nothing is mended between two kills: each run starts from what the one before left.
        assert now == before or names(whole(now)) == set(wanted)
    assert killed >= 12
    good(running)
    assert names(whole(running.installed(fields[0]))) == set(wanted)

"""The commands of `./invoke`: each parses, calls one function and hands its result to `cli`.

Nothing but invoke and the standard library is imported until a task's body runs: listing and
completing commands stays as fast as invoke itself.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import task

ROOT = os.path.dirname(os.path.abspath(__file__))
JSON = "Print one JSON object on standard output."
HOST = "This host; repeatable, or names with commas."
AT = "Reach it at [USER@]ADDRESS this time."
YES = "Do not ask: for CI."


def command(**options: Any) -> Callable[[Callable[..., int | None]], Any]:
    """A task whose body runs under `cli.run`; its return value is the exit code."""

    def decorate(body: Callable[..., int | None]) -> Any:
        @functools.wraps(body)
        def guarded(context: Context, **arguments: Any) -> None:
            # invoke switches Python's cache of compiled modules off; the builder's are worth it.
            sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)
            os.chdir(ROOT)
            from builder import cli

            cli.run(lambda: body(context, **arguments), json=arguments.get("json", False))

        return task(guarded, auto_shortflags=False, **options)

    return decorate


def names(given: list[str]) -> list[str]:
    """The names in a repeatable option: `--host a --host b` or `--host a,b`."""
    return [name for part in given for name in part.split(",") if name]


def numbers(given: list[str]) -> list[int]:
    """The numbers in a repeatable option."""
    found = names(given)
    if wrong := next((text for text in found if not text.isdecimal()), None):
        from builder.problems import UserError

        raise UserError(f"'{wrong}' is no number")
    return [int(text) for text in found]


@command(help={"json": JSON})
def check(_: Context, json: bool = False) -> int | None:
    """Say what is wrong with configs/; write nothing."""
    from builder import commands

    return commands.check(json)


@command(
    iterable=["host"],
    help={
        "host": "Only this host; repeatable, or names with commas. All where not given.",
        "check": "Build twice under different conditions and compare.",
        "json": JSON,
    },
)
def build(_: Context, host: list[str], check: bool = False, json: bool = False) -> int | None:
    """Build each host's release from configs/ into dist/."""
    from builder import commands

    return commands.build(names(host), check, json)


@command(
    help={
        "a": "A release: a host's name, an id, or a path.",
        "b": "The release to compare it with.",
        "text": "Show the files' lines too.",
        "json": JSON,
    },
)
def diff(_: Context, a: str, b: str, text: bool = False, json: bool = False) -> int | None:
    """Show how two releases differ, by meaning."""
    from builder import commands

    return commands.diff(a, b, text, json)


@command(
    help={
        "host": "Only this host's intermediate.",
        "out": "Folder of the root's key, outside of the project; ~/.local/share/phoenix/SITE.",
        "password-file": "Read the root key's passphrase from this file instead of asking.",
    },
)
def ca_init(_: Context, host: str = "", out: str = "", password_file: str = "") -> int | None:
    """Make the site's root and each host's intermediate certificate authority."""
    from builder import commands

    return commands.ca_init(host, out, password_file)


@command(help={"no-passphrase": "Do not protect the key: for CI, on a machine that is safe."})
def key_init(_: Context, no_passphrase: bool = False) -> int | None:
    """Make the operator's key that releases are signed with."""
    from builder import commands

    return commands.key_init(no_passphrase)


@command(
    iterable=["name"],
    help={"name": "Only this input; repeatable, or names with commas. All where not given."},
)
def inputs_update(_: Context, name: list[str]) -> int | None:
    """Move the pins of configs/inputs.lock and show what changed."""
    from builder import commands

    return commands.inputs_update(names(name))


@command(
    iterable=["host", "affects"],
    help={
        "host": HOST,
        "at": AT,
        "yes": YES,
        "affects": "Ids of guests that are not ours and may be cut off for a while.",
        "activate-timeout": "Seconds until a host goes back by itself; follows from the plan.",
        "confirm-timeout": "Seconds that a host then waits for the confirmation.",
        "new-secrets": "Send the secrets that the host has already, too.",
        "json": JSON,
    },
)
def deploy(
    _: Context,
    host: list[str],
    affects: list[str],
    at: str = "",
    yes: bool = False,
    activate_timeout: int = 0,
    confirm_timeout: int = 60,
    new_secrets: bool = False,
    json: bool = False,
) -> int | None:
    """Put the release on its host, as one transaction; it goes back unless it is confirmed."""
    from builder import commands
    from builder.deploy.deploy import Order

    order = Order(
        at=at,
        affects=frozenset(numbers(affects)),
        activate=activate_timeout or None,
        confirm=confirm_timeout,
        anew=new_secrets,
    )
    return commands.deploy(names(host), order, yes, json)


@command(
    iterable=["host", "affects"],
    help={
        "host": f"{HOST} All where not given.",
        "at": AT,
        "affects": "Ids of guests that are not ours and may be cut off for a while.",
        "text": "Show the files' lines too.",
        "json": JSON,
    },
)
def plan(
    _: Context,
    host: list[str],
    affects: list[str],
    at: str = "",
    text: bool = False,
    json: bool = False,
) -> int | None:
    """Tell what a deploy would change on the host, and change nothing."""
    from builder import commands
    from builder.deploy.deploy import Order

    order = Order(at=at, affects=frozenset(numbers(affects)), text=text, only_plan=True)
    return commands.deploy(names(host), order, True, json)


@command(
    iterable=["host"],
    help={
        "host": HOST,
        "to": "A kept generation; 0 is the host as it was found. The one before where not given.",
        "at": AT,
        "yes": YES,
        "json": JSON,
    },
)
def rollback(
    _: Context, host: list[str], to: str = "", at: str = "", yes: bool = False, json: bool = False
) -> int | None:
    """Have the host run the generation before, or any kept one."""
    from builder import commands
    from builder.deploy import manage

    wanted = next(iter(numbers([to])), None)
    return commands.change(names(host), manage.rollback(wanted), at, yes, json)


@command(
    iterable=["host", "pin", "unpin"],
    help={
        "host": f"{HOST} All where not given.",
        "pin": "Have a generation's number stay, whatever gc deletes; repeatable.",
        "unpin": "Let it go again.",
        "at": AT,
        "json": JSON,
    },
)
def generations(
    _: Context,
    host: list[str],
    pin: list[str],
    unpin: list[str],
    at: str = "",
    json: bool = False,
) -> int | None:
    """List what the host keeps, and what it runs."""
    from builder import commands

    if not (pin or unpin):
        return commands.look(names(host), "generations", at, json)
    from builder.deploy import manage

    pins = {**dict.fromkeys(numbers(pin), True), **dict.fromkeys(numbers(unpin), False)}
    return commands.change(names(host), manage.pinned(pins), at, True, json)


@command(iterable=["host"], help={"host": f"{HOST} All where not given.", "at": AT, "json": JSON})
def status(_: Context, host: list[str], at: str = "", json: bool = False) -> int | None:
    """Tell what the host runs, and where it differs from what is declared."""
    from builder import commands

    return commands.look(names(host), "status", at, json)


@command(iterable=["host"], help={"host": f"{HOST} All where not given.", "at": AT, "json": JSON})
def verify(_: Context, host: list[str], at: str = "", json: bool = False) -> int | None:
    """Compare every byte that the host keeps, and every signature."""
    from builder import commands

    return commands.look(names(host), "verify", at, json)


@command(iterable=["host"], help={"host": HOST, "at": AT, "json": JSON})
def repair(_: Context, host: list[str], at: str = "", json: bool = False) -> int | None:
    """Have what was changed by hand be as the running generation says."""
    from builder import commands
    from builder.deploy import manage

    return commands.change(names(host), manage.repair, at, True, json)


@command(
    iterable=["host"],
    help={"host": HOST, "keep": "How many generations stay, at least.", "at": AT, "json": JSON},
)
def gc(_: Context, host: list[str], keep: int = 10, at: str = "", json: bool = False) -> int | None:
    """Delete on the host what nothing needs."""
    from builder import commands
    from builder.deploy import manage

    return commands.change(names(host), manage.gc(keep), at, True, json)


@command(iterable=["host"], help={"host": HOST, "at": AT, "yes": YES, "json": JSON})
def remove(
    _: Context, host: list[str], at: str = "", yes: bool = False, json: bool = False
) -> int | None:
    """Have the host be as it was found; only guests that we made stay, stopped."""
    from builder import commands
    from builder.deploy import manage

    return commands.change(names(host), manage.remove, at, yes, json)


@command(
    help={
        "deep": "Also what takes long.",
        "k": "Only tests that match this expression. More of pytest's options go after --",
    },
)
def test(context: Context, deep: bool = False, k: str = "") -> int | None:
    """Install what the tests need (as root on Debian), then run them all, lint included."""
    from tests import run

    return run.test(deep, k, context.remainder)


@command()
def lint(_: Context) -> int | None:
    """Run ruff and mypy."""
    from tests import run

    return run.lint()


@command()
def docs(_: Context) -> int | None:
    """Write docs/reference.md and docs/errors.md anew."""
    from builder import commands

    return commands.docs()


@command(
    help={
        "rounds": "How often each side is measured.",
        "only": "Only the case of this name; the page is then not written.",
        "json": JSON,
    },
)
def bench(_: Context, rounds: int = 5, only: str = "", json: bool = False) -> int | None:
    """Measure the speed promises and write docs/benchmarks.md."""
    from tests import bench

    return bench.run(rounds, only, json)


SHAPE = {
    "shape": "lab: routed, as configs/hosts/lab.yaml; or lab-bridged: management on vmbr0.",
    "json": JSON,
}


@command(help=SHAPE)
def lab_up(_: Context, shape: str = "lab", json: bool = False) -> int | None:
    """Make a host on this machine to deploy to, in containers (as root; Debian)."""
    from builder.lab import commands

    return commands.up(shape, json)


@command(help=SHAPE)
def lab_down(_: Context, shape: str = "lab", json: bool = False) -> int | None:
    """Take away what lab.up made, however far it came."""
    from builder.lab import commands

    return commands.down(shape, json)


@command(help={"keep": "Leave the lab up."})
def demo(_: Context, keep: bool = False) -> int | None:
    """Build, deploy onto a lab, use, change and roll back (as root; Debian)."""
    from builder.demo import run

    return run.demo(keep)


namespace = Collection(
    *(check, build, diff, plan, deploy, rollback, generations, status, verify, repair, gc, remove),
    *(test, lint, docs, bench, demo),
)
namespace.add_collection(Collection("ca", init=ca_init))
namespace.add_collection(Collection("key", init=key_init))
namespace.add_collection(Collection("inputs", update=inputs_update))
namespace.add_collection(Collection("lab", up=lab_up, down=lab_down))

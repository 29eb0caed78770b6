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


namespace = Collection(check, build, diff, test, lint, docs, bench)
namespace.add_collection(Collection("ca", init=ca_init))
namespace.add_collection(Collection("key", init=key_init))
namespace.add_collection(Collection("inputs", update=inputs_update))

"""phoenix: puts releases on this host as one transaction each, and takes them back.

    phoenix status                     what runs, and what differs from what is declared
    phoenix generations                the kept generations
    phoenix rollback [N]               the generation before, or any kept one; 0 is as found
    phoenix repair                     have the running generation be so again
    phoenix recover                    take an unconfirmed transaction back
    phoenix verify                     compare every byte and signature
    phoenix gc [--keep K]              delete what nothing needs
    phoenix remove                     generation 0, and nothing of ours left behind

Started by the deployer, the guard and units of ours: serve, version, activate, guard, settle,
recover --early.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any

from . import actions
from .commands import FailedError
from .files import BusyError
from .host import DegradedError, UndoneError
from .schema import RefusedError

DONE, USAGE, REFUSED, BUG, UNDONE, DEGRADED = 0, 1, 2, 3, 4, 6
_ENDS: tuple[tuple[type[Exception], int, str], ...] = (
    (RefusedError, REFUSED, "refused"),
    (BusyError, REFUSED, "busy"),
    (FailedError, REFUSED, "failed"),
    (OSError, REFUSED, "failed"),
    (UndoneError, UNDONE, "taken back"),
    (DegradedError, DEGRADED, "degraded"),
)


def main(arguments: list[str]) -> int:
    """Run one command; its exit code."""
    os.umask(0o022)
    try:
        given = _parser().parse_args(arguments)
    except SystemExit as end:
        return USAGE if end.code else DONE
    try:
        run: Callable[[argparse.Namespace], None] = given.run
        run(given)
    except tuple(kind for kind, _, _ in _ENDS) as error:
        code, word = next((code, word) for kind, code, word in _ENDS if isinstance(error, kind))
        print(f"phoenix: {word}: {error}", file=sys.stderr)
        return code
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="phoenix", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")

    def verb(name: str, run: Callable[[argparse.Namespace], None]) -> Any:
        made = verbs.add_parser(name)
        made.set_defaults(run=run)
        return made

    verb("status", actions.status)
    verb("generations", actions.listed)
    verb("pin", actions.pin).add_argument("generation", type=int)
    verb("unpin", actions.unpin).add_argument("generation", type=int)
    verb("rollback", actions.rollback).add_argument("to", nargs="?", type=int)
    verb("repair", actions.repair)
    verb("recover", actions.recover).add_argument("--early", action="store_true")
    verb("verify", actions.verify)
    verb("gc", actions.collect).add_argument("--keep", type=int, default=10)
    verb("remove", actions.remove)
    verb("serve", actions.serve)
    verb("version", actions.version)
    verb("settle", actions.settle)
    guard = verb("guard", actions.guarded)
    guard.add_argument("generation", type=int)
    guard.add_argument("stage")
    activate = verb("activate", actions.activate)
    activate.add_argument("generation", type=int)
    activate.add_argument("--who", default="")
    activate.add_argument("--seal", default="")
    activate.add_argument("--activate", type=int, default=300)
    activate.add_argument("--confirm", type=int)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

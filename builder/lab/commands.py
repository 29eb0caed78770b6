"""What `lab.up` and `lab.down` do once their arguments are parsed, and what they print."""

from __future__ import annotations

from pathlib import Path

from builder import cli
from builder.lab import up as labs
from builder.lab.shape import NETWORKS, Lab
from builder.problems import UserError, known

ROOT = Path(__file__).resolve().parent.parent.parent


def up(shape: str, json: bool) -> int:
    """Bring the lab of a shape up, or find it up, and say how to reach it."""
    made = labs.up(ROOT, _lab(shape), cli.progress)
    cli.progress("")
    if json:
        cli.emit({**made.as_json(), "made": made.made})
    else:
        print(made.told())
    return cli.DONE


def down(shape: str, json: bool) -> int:
    """Take the lab of a shape away, whatever of it is there."""
    lab = _lab(shape)
    there = labs.down(lab, cli.progress)
    cli.progress("")
    if json:
        cli.emit({"name": lab.name, "removed": there})
    else:
        print(f"lab {lab.name}: {'taken away' if there else 'was not there'}")
    return cli.DONE


def _lab(shape: str) -> Lab:
    if shape not in NETWORKS:
        raise UserError(f"a lab has no shape {shape!r}; {known(shape, NETWORKS)}")
    return Lab.of(shape)

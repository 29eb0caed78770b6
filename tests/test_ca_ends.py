"""`ca.init` whatever ends it: nothing is half there, and the next run takes up what is."""

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from builder import authority, ca
from builder.problems import UserError
from tests.test_ca import NOW, WORD, ask, both, certificate, plan, tree
from tests.test_store_ends import exit_code

__all__ = ["plan"]  # the fixture

CALLS = ("open", "mkdir", "rename", "chmod", "fsync", "unlink")


def meddled(monkeypatch: pytest.MonkeyPatch, last: int, end: Callable[[], Any]) -> list[int]:
    """Call `end` before the call with the number `last`."""
    count = [0]

    def wrap(real: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*args: Any, **kwargs: Any) -> Any:
            count[0] += 1
            if count[0] == last:
                end()
            return real(*args, **kwargs)

        return inner

    # Dozens of runs in a row: let none wait for the disk.
    monkeypatch.setattr(os, "fsync", lambda _: None)
    for name in CALLS:
        monkeypatch.setattr(os, name, wrap(getattr(os, name)))
    return count


def assert_whole(plan: ca.Plan) -> None:
    for host in plan.hosts:
        assert not authority.check(*both(plan, host), host)
        folder = plan.data / "phoenix" / host
        held = tree(folder)
        assert held["intermediate.crt"] == both(plan, host)[1]
        issuer = authority.Issuer(held["intermediate.crt"], held["intermediate.key"])
        authority.opened(issuer, held["intermediate.password"])
    key = (plan.data / "phoenix/root.key").read_bytes()
    authority.opened(authority.Issuer(both(plan, "lab")[0], key), WORD)
    names = [path.name for path in (*plan.data.rglob("*"), *plan.configs.rglob("*"))]
    assert not [name for name in names if name.startswith(".phoenix-new-")]


def cut_off(plan: ca.Plan, last: int, how: str) -> None:
    """Make a CA, and end with 9 where that ends at the call with the number `last`."""
    try:
        with pytest.MonkeyPatch.context() as patch:
            meddled(patch, last, {"killed": die, "interrupted": stop, "full": full}[how])
            ca.init(plan, ask, NOW)
    except KeyboardInterrupt:
        die()
    except UserError as error:
        if "no space left" not in str(error):
            raise
        die()


@pytest.mark.parametrize("how", ["killed", "interrupted", "full"])
def test_the_next_run_takes_up_what_one_left(tmp_path: Path, plan: ca.Plan, how: str):
    last, code = 0, 9
    while code == 9:
        last += 1
        root = tmp_path / f"run{last}"
        (root / "configs").mkdir(parents=True)
        mine = replace(plan, configs=root / "configs", data=root / "data/phoenix")
        code = exit_code(partial(cut_off, mine, last, how))
        for name, data in tree(root / "configs").items():
            if ".phoenix-new-" not in name:
                # What is published is whole, and its key is there.
                assert certificate(data)
        missing = [one for host in mine.hosts for one in ca.certificates(mine.configs, host)]
        if None in missing:
            ca.init(mine, ask, NOW)
        assert_whole(mine)
    assert code == 0
    assert last > 25


def die() -> None:
    os._exit(9)


def stop() -> None:
    raise KeyboardInterrupt


def full() -> None:
    raise OSError(28, "No space left on device")


def test_an_interrupt_right_after_the_rename_is_an_interrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def then_stop(*args: Any) -> None:
        rename(*args)
        stop()

    monkeypatch.setattr(os, "rename", then_stop)
    with pytest.raises(KeyboardInterrupt):
        ca._save(tmp_path / "key", b"whole")
    assert (tmp_path / "key").read_bytes() == b"whole"
    assert os.listdir(tmp_path) == ["key"]

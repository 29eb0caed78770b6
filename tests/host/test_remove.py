"""`phoenix remove`: all of ours goes, and it is told only then."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from builder.host import actions, guard, transaction
from builder.host.commands import FailedError
from builder.host.schema import RefusedError
from builder.host.transaction import Limits
from tests.host.making import Stage, released


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A host with a release that runs."""
    made = Stage(tmp_path)
    transaction.activate(made.host(), made.keep(released(made.store)), "test", Limits())
    made.events.clear()
    monkeypatch.setattr(actions, "_host", made.host)
    monkeypatch.setattr(guard, "uninstall", lambda _: None)
    return made


@pytest.mark.parametrize("templates", [False, True])
def test_nothing_of_ours_is_left(stage: Stage, templates: bool):
    if templates:
        (stage.paths.home / "templates").mkdir()
    stage.paths.events.write_text("{}\n")
    actions.remove(Namespace())
    assert stage.events[-1] == "active"
    left = [path.name for path in stage.paths.home.iterdir()] if templates else []
    assert left == ["templates"] * templates
    assert stage.paths.home.exists() == templates


def test_a_faster_deploy_stays(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    second, real = stage.keep(released(stage.store, sysctl="b = 2\n")), transaction.activate

    def activate(*words: object, **rest: object) -> bool:
        real(*words, **rest)  # type: ignore[arg-type]
        return real(stage.host(), second, "another", Limits())

    monkeypatch.setattr(transaction, "activate", activate)
    with pytest.raises(RefusedError, match="another deploy has begun"):
        actions.remove(Namespace())
    assert stage.files()["etc/sysctl.d/90-phoenix.conf"] == b"b = 2\n"
    assert (stage.events[-1], "active" in stage.events) == ("ended", False)


def test_what_fails_is_told(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    def fails(_: object) -> None:
        raise FailedError("systemctl daemon-reload: exit 1")

    monkeypatch.setattr(guard, "uninstall", fails)
    with pytest.raises(FailedError):
        actions.remove(Namespace())
    assert (stage.events[-1], "active" in stage.events) == ("ended", False)

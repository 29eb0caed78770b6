"""`lab.up` and `lab.down`: the steps in order.

Whatever a lab.up that was cut off has left, the next one takes away first, and lab.down as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.inputs.cache import Progress
from builder.lab import daemon, host, image, packages
from builder.lab.engine import Engine
from builder.lab.network import refuse, routes
from builder.lab.shape import ECHO, Lab
from builder.lab.state import State


@dataclass(frozen=True, slots=True)
class Up:
    """A lab that is up; `made` is false where it was before."""

    lab: Lab
    state: State
    engine: Engine
    made: bool

    def as_json(self) -> dict[str, Any]:
        """What a program needs to reach it."""
        lab, state = self.lab, self.state
        return {
            "name": lab.name,
            "shape": lab.shape,
            "network": str(lab.network),
            "address": str(lab.address),
            "router": str(lab.router),
            "machine": str(lab.machine),
            "ssh_config": str(state.ssh_config),
            "signing_key": str(state.signing_key),
            "project": str(state.project),
            "containers": {"host": lab.host, "lan": lab.lan},
            "docker_host": f"unix://{self.engine.socket}" if self.engine.socket else "",
            "foreign": [
                {"id": each.number, "address": str(each.address), "port": ECHO}
                for each in lab.foreign()
            ],
        }

    def told(self) -> str:
        """What to tell a person."""
        lab = self.lab
        named = f"DOCKER_HOST=unix://{self.engine.socket} " if self.engine.socket else ""
        foreign = " ".join(str(each.address) for each in lab.foreign())
        how = "is up" if self.made else "is up already"
        return "\n".join(
            [
                f"lab {lab.name} {how}: {lab.address} in {lab.network}",
                f"  host    ssh -F {self.state.ssh_config} {lab.name}",
                f"  client  {named}docker exec -it {lab.lan} bash    ({lab.router})",
                f"  foreign guests, which echo on port {ECHO}: {foreign}",
                f"  key, CA and configs: {self.state.folder}",
            ]
        )


def up(root: Path, lab: Lab, progress: Progress) -> Up:
    """Bring a lab up, or find it up. `root` is the project, whose configs/ it takes.

    Raises UserError where this machine can't have it.
    """
    packages.ensure(progress)
    state = State.of(lab)
    with state.held(progress):
        with daemon.locked(progress):
            engine = daemon.find(progress)
            if engine is not None and _whole(engine, lab, state):
                return Up(lab, state, engine, made=False)
            if engine is None:
                refuse(lab.network, routes())
                engine = daemon.start(progress)
            using = daemon.use()
        try:
            with using:
                return _anew(root, lab, state, engine, progress)
        except BaseException:
            with daemon.locked(progress):
                daemon.stop(progress)
            raise


def _anew(root: Path, lab: Lab, state: State, engine: Engine, progress: Progress) -> Up:
    _clear(engine, lab, state, progress)
    try:
        with daemon.locked(progress):
            # No other lab comes between this and the network.
            refuse(lab.network, routes())
            store = image.cache(progress)
            template = image.ensure(image.TEMPLATE, store)
            name = image.imported(engine, store)
            host.network(engine, lab)
            store.sweep()
        progress("making keys, CA and configs")
        state.make(root)
        host.start(engine, lab, state, name, template)
        host.boot(engine, lab, state, progress)
        made = Up(lab, state, engine, made=True)
        state.finish(made.as_json())
        return made
    except BaseException:
        _clear(engine, lab, state, progress)
        raise


def _whole(engine: Engine, lab: Lab, state: State) -> bool:
    """Is the lab up as `lab` wants it, by its own note and by what runs?"""
    noted = state.found()
    if noted is None or noted.get("network") != str(lab.network) or noted["shape"] != lab.shape:
        return False
    containers = [engine.inspected(name) for name in (lab.host, lab.lan)]
    return all(each is not None and each["State"]["Running"] for each in containers)


def _there(engine: Engine, lab: Lab, state: State) -> bool:
    kinds = (("ps", "--all"), ("network", "ls"))
    return state.folder.exists() or any(engine.labelled(kind, lab.name) for kind in kinds)


def _any(engine: Engine) -> bool:
    """Does it hold a lab?"""
    return bool(engine.labelled(("ps", "--all")))


def _clear(engine: Engine, lab: Lab, state: State, progress: Progress) -> None:
    if _there(engine, lab, state):
        progress(f"lab {lab.name}: taking away its containers, network and files")
    host.remove(engine, lab.name)
    state.remove()


def down(lab: Lab, progress: Progress) -> bool:
    """Take a lab away, however much of it is there; false where there was nothing.

    With the last one the engine that was started for it ends too.
    """
    packages.ensure(progress)
    state = State.of(lab)
    with state.held(progress):
        with daemon.locked(progress):
            engine = daemon.find(progress)
            using = daemon.use()
        with using:
            if engine is None:
                there = state.folder.exists()
                state.remove()
            else:
                there = _there(engine, lab, state)
                _clear(engine, lab, state, progress)
        with daemon.locked(progress):
            if engine and not engine.socket and daemon.idle() and not _any(engine):
                image.forget(engine)
            daemon.stop(progress)
    return there

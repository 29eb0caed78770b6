"""What each command of `./invoke` does once its arguments are parsed, and what it prints.

Imports stay inside of the functions: a command pays only for what it uses.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from builder import cli

if TYPE_CHECKING:
    from builder.build import Built
    from builder.deploy.deploy import Order
    from builder.deploy.front import Ground
    from builder.deploy.manage import Act
    from builder.fresh import Form
    from builder.lab.state import State

ROOT = Path(__file__).resolve().parent.parent


def check(json: bool) -> int:
    """Say what is wrong with configs/; write nothing."""
    from builder.load import load

    config = load(ROOT)
    if json:
        cli.emit({"problems": []})
    else:
        hosts = ", ".join(host.name for host in config.hosts)
        print(f"configs/ is good: {hosts}")
    return cli.DONE


def build(hosts: Sequence[str], twice: bool, json: bool) -> int:
    """Build releases into dist/; with `twice`, again under other conditions, and compare."""
    from builder import fresh

    question = sorted(set(hosts))
    said = None if twice else fresh.answer(str(ROOT), question, "json" if json else "text")
    if said is None:
        built = _build(question, twice)
        said = _data(built) if json else _text(built, twice)
    print(said)
    return cli.DONE


def _build(hosts: Sequence[str], twice: bool) -> Sequence[Built]:
    import gc

    # A build makes next to no cycles. Looking for them would take a tenth of its time or more; what
    # is frozen is not looked through as the program ends either.
    gc.disable()
    try:
        return _stamped(hosts, twice)
    finally:
        gc.freeze()
        gc.enable()


def _stamped(hosts: Sequence[str], twice: bool) -> Sequence[Built]:
    from builder import build as building
    from builder import disk, fresh, keys

    with disk.telling(ROOT / "dist"):
        os.makedirs(ROOT / "dist", exist_ok=True)
    before = fresh.observe(str(ROOT))
    built = building.build(ROOT, hosts, keys.find(), cli.progress)
    if twice:
        from builder import again

        again.compare(ROOT, built, cli.progress)
        return built
    unchanged = [dataclasses.replace(b, made=0) for b in built]
    said: Mapping[Form, str] = {"text": _text(unchanged, False), "json": _data(unchanged)}
    links = {b.host: str(b.folder.relative_to(ROOT / "dist")) for b in built}
    fresh.keep(str(ROOT), hosts, before, said, links)
    return built


def _text(built: Sequence[Built], twice: bool) -> str:
    return "\n".join(line for one in built for line in _lines(one, twice))


def _lines(built: Built, twice: bool) -> Iterator[str]:
    count = len(built.artifacts)
    made = (
        f"{built.made} of {count} artifacts new" if built.made else f"{count} artifacts, none new"
    )
    notes = [made, "signed" if built.signed else "unsigned"]
    if twice:
        notes.append("built twice, the same bytes")
    folder = built.folder.relative_to(ROOT)
    yield f"{built.host}  {built.release[:12]}  {folder}  ({', '.join(notes)})"
    plain = (
        f"{p.service}, hop {p.hop}: {p.reason}" if p.service else p.reason for p in built.plain
    )
    for line in dict.fromkeys(plain):
        yield f"  plain text: {line}"
    for reason in built.unready:
        yield f"  not to be deployed: {reason}"


def _data(built: Sequence[Built]) -> str:
    """What a program reads of a build: one JSON object."""
    hosts = {
        b.host: {
            "release": b.release,
            "folder": str(b.folder.relative_to(ROOT)),
            "signed": b.signed,
            "built": b.made,
            "artifacts": [
                {"name": a.name, "kind": a.kind, "digest": a.digest} for a in b.artifacts
            ],
            "plain": [dataclasses.asdict(hop) for hop in b.plain],
            "unready": list(b.unready),
        }
        for b in built
    }
    return cli.dumped({"hosts": hosts})


def diff(a: str, b: str, text: bool, json: bool) -> int:
    """Show how two releases differ, by meaning, and with `text` line by line."""
    from builder import compare

    compare.show(ROOT, a, b, text=text, json=json)
    return cli.DONE


def ca_init(host: str, out: str, password_file: str) -> int:
    """Make the site's root where there is none, and the hosts' intermediates that are missing."""
    from datetime import timedelta

    from builder import ca, keys
    from builder.load import load

    config = load(ROOT)
    plan = ca.Plan(
        site=config.site.name,
        hosts=tuple(h.name for h in config.hosts),
        configs=ROOT / "configs",
        forbidden=(ROOT, ROOT / "configs", ROOT / "dist"),
        data=keys.folder(os.environ, "XDG_DATA_HOME", ".local/share"),
        out=Path(out).absolute() if out else None,
        only=host or None,
        root_lifetime=timedelta(seconds=config.site.ca.root_lifetime),
        intermediate_lifetime=timedelta(seconds=config.site.ca.intermediate_lifetime),
    )
    print(ca.init(plan, ca.asking(Path(password_file) if password_file else None)).told())
    return cli.DONE


def key_init(no_passphrase: bool) -> int:
    """Make the operator's signing key."""
    from builder import keys

    key = keys.init(keys.default(os.environ), passphrase=not no_passphrase)
    print(f"{key.path}\n{key.public}")
    return cli.DONE


def deploy(hosts: Sequence[str], order: Order, yes: bool, json: bool) -> int:
    """Put each host's release on it, or only plan it; what is stale is built first."""
    from builder.deploy import front

    return front.put(ground, _hosts(hosts, every=order.only_plan), order, yes, json)


def look(hosts: Sequence[str], name: str, at: str, json: bool) -> int:
    """Ask hosts: generations, status or verify."""
    from builder.deploy import front

    return front.manage_each(ground, _hosts(hosts, every=True), front.LOOKS[name], at, True, json)


def change(hosts: Sequence[str], act: Act, at: str, yes: bool, json: bool) -> int:
    """Roll hosts back, repair them, collect their garbage, or take all of ours off them."""
    from builder.deploy import front

    return front.manage_each(ground, _hosts(hosts, every=False), act, at, yes, json)


def _hosts(hosts: Sequence[str], every: bool) -> Iterator[str]:
    from builder.deploy import front
    from builder.lab.shape import NETWORKS

    declared = [path.stem for path in (ROOT / "configs" / "hosts").glob("*.yaml")]
    labs = [name for name in NETWORKS if name in hosts]
    return front.named(hosts, {*declared, *labs}, every)


def ground(host: str) -> Ground:
    """A lab that is up has a project, an ssh and keys of its own; all others share this one."""
    from builder.deploy import ssh
    from builder.deploy.front import Ground
    from builder.lab.shape import NETWORKS, Lab
    from builder.lab.state import State

    lab = State.of(Lab.of(host)) if host in NETWORKS else None
    if lab is None or lab.found() is None:
        return Ground(ROOT, None, ssh.chosen(), lambda: _refresh([host]))
    reach = (*ssh.chosen(), "-F", str(lab.ssh_config))
    return Ground(lab.project, lab.folder / "deploy", reach, lambda: _lab_built(lab, host))


def _lab_built(lab: State, host: str) -> None:
    from builder import build, keys

    named = {**os.environ, keys.VARIABLE: str(lab.signing_key)}
    build.build(lab.project, [host], keys.find(named), cli.progress)


def _refresh(hosts: Sequence[str]) -> None:
    from builder import fresh

    if fresh.answer(str(ROOT), hosts, "text") is None:
        _build(hosts, False)


def docs() -> int:
    """Write the pages of docs/ that are made: the reference and the error codes."""
    for name, text in pages().items():
        path = ROOT / "docs" / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8", newline="\n")
            print(f"docs/{name}")
    return cli.DONE


def pages() -> dict[str, str]:
    """The made pages by their file name in docs/."""
    from builder import reference
    from builder.codes import page

    return {
        "errors.md": page.render(ROOT / "tests" / "problems"),
        "reference.md": reference.render(ROOT / "schema"),
    }


def inputs_update(names: Sequence[str]) -> int:
    """Move pins in configs/inputs.lock and show what changed."""
    from builder import inputs

    changes: list[str] = []
    for name in names or (None,):
        changes += inputs.update(ROOT / "configs" / "inputs.lock", name, cli.progress)
    cli.progress("")
    print("\n".join(changes) if changes else "every pin is the newest already")
    return cli.DONE

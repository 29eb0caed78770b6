"""configs/ → checked values. The phases run in order, and each tells all of its problems at once:
syntax of every file, shape of every document, then the rules.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from builder import authority, ca, checks, declare, inherit, schema
from builder.checks.literals import literal_secrets
from builder.model import Host, Site
from builder.network import Trust
from builder.problems import ConfigError, Finding, Location, Place, Problem, UserError, known
from builder.source import LARGEST, Data, Sources, read


@dataclass(frozen=True, slots=True)
class Config:
    """A site with its hosts, sorted by name; every rule holds.

    `trust` holds each host's public certificates, None where it has no authority yet.
    """

    site: Site
    hosts: tuple[Host, ...]
    trust: Mapping[str, Trust | None]


@dataclass(frozen=True, slots=True)
class _Documents:
    site: dict[str, Data]
    hosts: dict[str, dict[str, Data]]
    sources: Sources


def load(root: Path, only: Sequence[str] = ()) -> Config:
    """Read and check the configuration in `root`/configs.

    All files are read and all rules run, whichever hosts are asked for: `only` narrows what is
    returned. Raises ConfigError for what is wrong in them, UserError for an unknown host in `only`
    or a file that is not there.
    """
    documents = _read(root)
    _raise(documents.sources, _shape(documents))
    site = declare.site(documents.site)
    whole = {name: inherit.whole(name, documents.hosts) for name in sorted(documents.hosts)}
    hosts = tuple(declare.host(document) for document in whole.values())
    _raise(documents.sources, checks.findings(site, hosts, documents.site, whole))
    for name in only:
        if name not in documents.hosts:
            raise UserError(
                f"host '{name}' is not in configs/hosts; {known(name, documents.hosts)}"
            )
    chosen = tuple(h for h in hosts if not only or h.name in only)
    return Config(site, chosen, _trusts(root, (h.name for h in chosen)))


def _trusts(root: Path, hosts: Iterable[str]) -> dict[str, Trust | None]:
    """The public certificates that `invoke ca.init` left in configs/ca; None where it has not."""
    found: dict[str, Trust | None] = {}
    problems: list[Problem] = []
    for host in hosts:
        held, intermediate = ca.certificates(root / "configs", host)
        if held is None or intermediate is None:
            found[host] = None
            continue
        found[host] = Trust(held, intermediate)
        for fault in authority.check(held, intermediate, host):
            place = Location(f"configs/ca/{fault.file}", 1, 1)
            problems.append(Problem(place, f"the certificate {fault.message}", fault.code))
    if problems:
        raise ConfigError(problems)
    return found


def _read(root: Path) -> _Documents:
    texts: dict[str, tuple[str, bytes]] = {}
    data: dict[str, dict[str, Data]] = {}
    problems: list[Problem] = []
    for document, path in files(root / "configs").items():
        shown = str(path.relative_to(root))
        texts[document] = (shown, _bytes(path, shown))
        try:
            data[document] = read(*texts[document])
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    site = data.pop("site")
    hosts = {document.removeprefix("hosts/"): host for document, host in data.items()}
    chains = {
        f"hosts/{name}": tuple(f"hosts/{one}" for one in inherit.chain(name, hosts))
        for name in hosts
    }
    return _Documents(site, hosts, Sources(texts, chains))


def files(configs: Path) -> dict[str, Path]:
    """The file of each document, by the document's id, "site" or "hosts/NAME".

    Raises UserError where there is no host, or a file would not be read that seems meant to be.
    """
    if not configs.is_dir():
        raise UserError(
            "there is no folder configs/", "it holds site.yaml, and hosts/NAME.yaml for each host"
        )
    hosts = _hosts(configs / "hosts")
    for path in (configs / "site.yml", *(path for path in hosts if path.suffix == ".yml")):
        if path.exists():
            shown = path.relative_to(configs.parent)
            raise UserError(f"{shown} would not be read", f"call it {shown.with_suffix('.yaml')}")
    found = {"site": configs / "site.yaml"}
    for path in (path for path in hosts if path.suffix == ".yaml"):
        if not path.name.isprintable():
            raise UserError(f"configs/hosts/{path.name!a} can't be a host's file", "rename it")
        found[f"hosts/{path.stem}"] = path
    if len(found) == 1:
        raise UserError("no host is described", "describe one in configs/hosts/NAME.yaml")
    return found


def _hosts(folder: Path) -> list[Path]:
    try:
        # Editors leave hidden files behind.
        return sorted(folder / name for name in os.listdir(folder) if not name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"configs/hosts can't be read: {error.strerror}") from error


def _bytes(path: Path, shown: str) -> bytes:
    """The content of a document's file; of one that is too large, enough to see that it is."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            # Reading a pipe would wait for its writer, and some devices have no end.
            what = "a folder" if stat.S_ISDIR(mode) else "a device or a pipe"
            raise UserError(f"{shown} is {what}, not a file")
        with path.open("rb") as file:
            return file.read(LARGEST + 1)
    except FileNotFoundError as error:
        hint = "it describes what all hosts share" if path.name == "site.yaml" else ""
        raise UserError(f"{shown} is not there", hint) from error
    except OSError as error:
        raise UserError(f"{shown} can't be read: {error.strerror}") from error


def _shape(documents: _Documents) -> Iterable[Finding]:
    yield from literal_secrets("site", documents.site)
    yield from schema.findings("site", documents.site, schema.shipped("site"))
    for name, own in documents.hosts.items():
        yield from literal_secrets(f"hosts/{name}", own)
        broken = inherit.findings(name, documents.hosts)
        yield from broken
        if broken:
            continue
        whole = inherit.whole(name, documents.hosts)
        misfits = schema.findings(f"hosts/{name}", whole, schema.shipped("host"))
        if not isinstance(own.get("like"), str | None):
            # What it was to take over is not missing.
            misfits = [found for found in misfits if found.place.path[:1] == ("like",)]
        yield from misfits
        if whole.get("host", name) != name:
            message = f"the file is called {name}.yaml, so the host must be '{name}'"
            yield Finding(Place(f"hosts/{name}", ("host",)), message, "host-name")


def _raise(sources: Sources, findings: Iterable[Finding]) -> None:
    """Raise a ConfigError unless there are no findings."""
    found = tuple(findings)
    secret = {one.place for one in found if one.code == "literal-secret"}
    # What looks like a secret is told as that alone, and not shown again.
    told = [one for one in found if one.place not in secret or one.code == "literal-secret"]
    if told:
        raise ConfigError(_masked(tuple(_located(sources, told))))


def _located(sources: Sources, findings: Iterable[Finding]) -> Iterator[Problem]:
    """Each finding at its line. What only a host that takes over another's document finds wrong
    there names that host: nobody would see why, otherwise."""
    hosts: dict[Problem, dict[str, bool]] = {}
    for found in findings:
        problem, document = sources.problem(found), found.place.document
        own = sources.texts[document][0] == problem.location.file
        hosts.setdefault(problem, {})[document.removeprefix("hosts/")] = own
    for problem, owns in hosts.items():
        if any(owns.values()) or any(f"'{name}'" in problem.message for name in owns):
            yield problem
        else:
            yield replace(problem, message=problem.message + checks.on_hosts(tuple(owns)))


def _masked(problems: tuple[Problem, ...]) -> Iterator[Problem]:
    """The problems, their lines without what looks like a secret: CI keeps what is printed."""
    secrets: dict[tuple[str, int], int] = {}
    for problem in problems:
        if problem.code == "literal-secret":
            at = problem.location
            before = secrets.get((at.file, at.line), at.column)
            secrets[at.file, at.line] = min(before, at.column)
    for problem in problems:
        at = problem.location
        hidden = secrets.get((at.file, at.line))
        if hidden is None:
            yield problem
        else:
            shown = problem.line[: hidden - 1] + "…" if at.column <= hidden else ""
            yield replace(problem, line=shown)

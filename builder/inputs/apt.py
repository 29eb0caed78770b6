"""Debian packages, by apt-get as the machine has it set up, without root.

First with the machine's own lists. Where these lack the version (another release of Debian, no
lists, old lists), with lists of our own in the cache: the machine's own mirrors, proxies and keys,
and the locked suite in place of the machine's. APT checks the archive's signature in both; nothing
of the machine's state is touched.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from builder.inputs.cache import Cache
from builder.inputs.clients import Answer, RefusalError, mebibytes, run
from builder.inputs.lock import Debian, Pin

# Of the machine's configuration only how to reach a mirror is taken over: neither its hooks, which
# would act on the machine, nor leave to go without signatures, nor further indexes.
_TAKEN = re.compile(
    r"Acquire::(?!Allow|Languages|IndexTargets|CompressionTypes|GzipIndexes)"
    r'[^ ]+ ".*";'
)
_DEBIAN = ("stable", "oldstable", "testing", "unstable", "sid", "bullseye", "bookworm", "trixie")
_OFFER = re.compile(r"^'[^']+' (?P<file>\S+) \d+ SHA256:(?P<sha256>[0-9a-f]{64})$", re.MULTILINE)
_FIELD = re.compile(r"^([A-Za-z-]+):(.*(?:\n[ \t].*)*)", re.MULTILINE)
_LINE = re.compile(r"^deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#\n]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Repository:
    """One entry of the machine's sources: URIs, suites, components, and what vouches for it."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str = ""


@dataclass(slots=True)
class Apt:
    """The client for one input's suite and architecture."""

    entry: Debian
    cache: Cache
    updated: str | None = field(default=None, init=False)
    """What to add to a refusal, once our own lists were brought up to date."""

    def own(self, pin: Pin, folder: Path) -> Path:
        """Download `pin` into `folder` with the machine's own lists, or raise RefusalError."""
        options = ["-o", "APT::Sandbox::User=root"] if os.geteuid() == 0 else []
        return self._download(pin, folder, options, dict(os.environ))

    def suite(self, pin: Pin, folder: Path) -> Path:
        """Download `pin` into `folder` from the locked suite, or raise RefusalError."""
        with self.cache.locked(f"apt-{self._place().name}", self.entry.name):
            environment = self._updated(folder)
            try:
                return self._download(pin, folder, [], environment)
            except RefusalError as refused:
                raise RefusalError(f"{refused}{self.updated}") from refused

    def newest(self, pin: Pin, folder: Path) -> Pin:
        """The newest version of `pin`'s package in the locked suite, or raise RefusalError.

        `pin` itself where that is no newer, as on mirrors that lack the security updates.
        """
        with self.cache.locked(f"apt-{self._place().name}", self.entry.name):
            environment = self._updated(folder)
            name = f"{pin.package}:{self.entry.arch}"
            answer = self._apt(["download", "--print-uris", name], folder, environment)
        offer = _OFFER.search(answer.out)
        if answer.code or offer is None:
            raise RefusalError(f"{answer.gist()}{self.updated}")
        version = unquote(offer["file"].split("_")[1])
        compare = ["dpkg", "--compare-versions", version, "gt", pin.version]
        newer = run(compare, cwd=folder).code == 0
        return Pin(pin.package, version, offer["sha256"]) if newer else pin

    def _place(self) -> Path:
        return self.cache.root / "apt" / f"{self.entry.suite}-{self.entry.arch}"

    def _download(self, pin: Pin, folder: Path, options: list[str], env: dict[str, str]) -> Path:
        label = f"{self.entry.name}: downloading {pin.package} {pin.version}"
        self.cache.progress(label)
        name = f"{pin.package}:{self.entry.arch}={pin.version}"
        answer = self._apt([*options, "download", name], folder, env, label)
        files = sorted(folder.glob("*.deb"))
        if answer.code or len(files) != 1:
            raise RefusalError(answer.gist())
        return files[0]

    def _apt(
        self, arguments: list[str], folder: Path, env: dict[str, str], label: str = ""
    ) -> Answer:
        def tick() -> None:
            self.cache.progress(f"{label or self.entry.name}, {mebibytes(folder)}")

        return run(["apt-get", "-q", *arguments], cwd=folder, env=env, tick=tick)

    def _updated(self, folder: Path) -> dict[str, str]:
        """Bring our own lists up to date, once for this object; the environment that uses them."""
        place = self._place()
        environment = dict(os.environ) | {"APT_CONFIG": str(place / "apt.conf")}
        if self.updated is not None:
            return environment
        own, suite = machine_sources(folder), self.entry.suite
        repositories = list(derived(own, suite))
        if not repositories:
            raise RefusalError("this machine's APT sources name no Debian mirror")
        for below in ("lists/partial", "cache/archives/partial"):
            (place / below).mkdir(parents=True, exist_ok=True)
        (place / "status").touch()
        (place / "phoenix.sources").write_text(sources_text(repositories), encoding="utf-8")
        (place / "apt.conf").write_text(self._configuration(place, folder), encoding="utf-8")
        self.cache.progress(f"{self.entry.name}: reading Debian's lists for {self.entry.suite}")
        answer = self._apt(["update"], folder, environment)
        said = answer.err.strip().splitlines()
        # A mirror may lack one of the suites: what it has can still hold the package.
        self.updated = f" (update: {said[0].strip()})" if said else ""
        if not secured(_exchanged(own, suite), suite):
            self.updated += f"; this machine's APT sources lack {suite}-security: add it to them"
        return environment

    def _configuration(self, place: Path, folder: Path) -> str:
        dump = run(["apt-config", "dump"], cwd=folder)
        taken = [line for line in dump.out.splitlines() if _TAKEN.fullmatch(line)]
        nothing = ("parts", "main", "sourceparts", "preferences", "preferencesparts")
        own = {
            **{f"Dir::Etc::{name}": "/dev/null" for name in nothing},
            "Dir::Etc::sourcelist": str(place / "phoenix.sources"),
            "Dir::State": str(place),
            "Dir::State::lists": f"{place}/lists/",
            "Dir::State::status": str(place / "status"),
            "Dir::Cache": f"{place}/cache",
            "APT::Architecture": self.entry.arch,
            "APT::Architectures": self.entry.arch,
            "Acquire::Languages": "none",
            "Acquire::GzipIndexes": "true",
            # What is locked as "stable" today is "oldstable" one day, and still the same archive.
            "Acquire::AllowReleaseInfoChange": "true",
            **({"APT::Sandbox::User": "root"} if os.geteuid() == 0 else {}),
        }
        lines = [*taken, *(f'{key} "{value}";' for key, value in own.items())]
        return "\n".join(lines) + "\n"


def machine_sources(folder: Path) -> list[Repository]:
    """The machine's own APT sources, of both formats, in the order APT reads them."""
    keys = ["LIST", "Dir::Etc::sourcelist/f", "PARTS", "Dir::Etc::sourceparts/d"]
    answer = run(["apt-config", "shell", *keys], cwd=folder)
    places = {key: Path(value) for key, value in re.findall(r"(\w+)='([^']*)'", answer.out)}
    parts = places.get("PARTS", Path("/dev/null"))
    files = [places["LIST"]] if "LIST" in places else []
    files += sorted([*parts.glob("*.list"), *parts.glob("*.sources")])
    found = list[Repository]()
    for path in files:
        if path.is_file() and os.access(path, os.R_OK):
            text = path.read_text(encoding="utf-8", errors="replace")
            found += parse_sources(text) if path.suffix == ".sources" else parse_list(text)
    return found


def parse_sources(text: str) -> Iterator[Repository]:
    """Entries of a `.sources` file that are switched on and give binary packages."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n[ \t]*\n", lines):
        fields = {key.lower(): value.strip(" \t") for key, value in _FIELD.findall(stanza)}
        enabled = fields.get("enabled", "yes").strip().lower() not in ("no", "false", "0", "off")
        if enabled and "deb" in fields.get("types", "").split():
            uris, suites, components = (
                tuple(fields.get(name, "").split()) for name in ("uris", "suites", "components")
            )
            yield Repository(uris, suites, components, fields.get("signed-by", "").rstrip())


def parse_list(text: str) -> Iterator[Repository]:
    """Entries of a `sources.list` that give binary packages."""
    for options, uri, suite, components in _LINE.findall(text):
        signed = re.search(r"signed-by=(\S+)", options)
        vouches = signed[1].replace(",", " ") if signed else ""
        yield Repository((uri,), (suite,), tuple(components.split()), vouches)


def derived(sources: Iterable[Repository], suite: str) -> Iterator[Repository]:
    """The Debian mirrors among `sources`, with `suite` in place of their own suite.

    A mirror that gives the machine its security updates gives those of `suite` too. Where the
    machine has none, they are asked for where mirrors mostly have them: beside …/debian, at
    …/debian-security.
    """
    found = list(_exchanged(sources, suite))
    yield from found
    if not secured(found, suite):
        for each in found:
            uris = [uri.rstrip("/") for uri in each.uris if uri.rstrip("/").endswith("/debian")]
            if uris:
                beside = tuple(f"{uri}-security" for uri in uris)
                yield Repository(beside, (f"{suite}-security",), ("main",), each.signed_by)


def _exchanged(sources: Iterable[Repository], suite: str) -> Iterator[Repository]:
    for source in sources:
        suites = dict.fromkeys(
            f"{suite}{tail}" for own in source.suites if (tail := _tail(own, suite)) is not None
        )
        if suites and "main" in source.components:
            yield Repository(source.uris, tuple(suites), ("main",), source.signed_by)


def secured(repositories: Iterable[Repository], suite: str) -> bool:
    """Whether one of these gives the suite's security updates."""
    return any(f"{suite}-security" in each.suites for each in repositories)


def _tail(own: str, suite: str) -> str | None:
    """What follows the code name in a suite of Debian, empty for its own; None for any other."""
    base, dash, rest = own.replace("/updates", "-security").partition("-")
    if base not in (*_DEBIAN, suite) or f"{dash}{rest}" not in ("", "-updates", "-security"):
        return None
    return f"{dash}{rest}"


def sources_text(repositories: Iterable[Repository]) -> str:
    """`repositories` as a `.sources` file."""
    stanzas = list[str]()
    for each in repositories:
        lines = ["Types: deb", f"URIs: {' '.join(each.uris)}", f"Suites: {' '.join(each.suites)}"]
        lines.append(f"Components: {' '.join(each.components)}")
        lines += [f"Signed-By: {each.signed_by}"] if each.signed_by else []
        stanzas.append("\n".join(lines) + "\n")
    return "\n".join(stanzas)

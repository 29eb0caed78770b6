"""What is written for the mesh, without Traefik: decisions that no daemon judges."""

from __future__ import annotations

import ipaddress
import subprocess
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from builder.kinds import traefik
from builder.kinds.traefik_view import view
from builder.tree import File, Link
from tests.judges import programs
from tests.kinds.traefik.running import data, documents, network, site, tree


def test_slots_differ_in_ports_and_folders_alone() -> None:
    a, b = (tree(network()).file(f"traefik/{slot}.yaml").data.decode() for slot in "ab")
    assert a != b
    assert (
        a.replace(":2000", ":2100")
        .replace(":20900", ":21900")
        .replace("/slots/traefik/a/", "/slots/traefik/b/")
        == b
    )


def test_one_file_for_each_reached_service() -> None:
    reference, _ = documents()
    reference["services"]["idle"] = {"backends": ["webui"], "port": 9999}
    files = tree(network(reference))
    dynamic = {e.path for e in files if isinstance(e, File) and "/dynamic/" in e.path}
    names = set(reference["services"]) - {"idle"} | {"_mesh", "_slot"}
    expected = {f"traefik/dynamic/{name}.yaml" for name in names}
    assert dynamic == expected | {"traefik/draining/traefik/dynamic/_slot.yaml"}


def test_draining_shows_the_same_but_for_one_file() -> None:
    files = tree(network())
    links = {e.path: e.target for e in files if isinstance(e, Link)}
    dynamic = {
        e.path.rpartition("/")[2]
        for e in files
        if isinstance(e, File) and e.path.startswith("traefik/dynamic/")
    }
    assert set(links) == {
        f"traefik/draining/traefik/dynamic/{name}" for name in dynamic - {"_slot.yaml"}
    }
    for path, target in links.items():
        folder = path.rpartition("/")[0].split("/")
        up = target.count("../")
        assert "/".join([*folder[:-up], target.replace("../", "")]) in {e.path for e in files}


def test_a_change_of_one_service_touches_one_file() -> None:
    reference, _ = documents()
    before = {e.path: e for e in tree(network(reference))}
    reference["services"]["webui"]["port"] = 8081
    after = {e.path: e for e in tree(network(reference))}
    changed = {path for path in before | after if before.get(path) != after.get(path)}
    assert changed == {"traefik/dynamic/webui.yaml"}


def test_the_order_of_the_description_says_nothing() -> None:
    reference, hosts = documents()
    turned = {**reference, "services": dict(reversed(reference["services"].items()))}
    host = {**hosts["pve1"], "guests": dict(reversed(hosts["pve1"]["guests"].items()))}
    assert tree(network(turned, host)) == tree(network(reference, hosts["pve1"]))


def known_flags() -> set[str]:
    """Every key of the static configuration that the pinned Traefik knows, in lower case."""
    shown = subprocess.run(
        [programs.folder("traefik") / "traefik", "--help"], capture_output=True, text=True
    )
    lines = [line.split()[0] for line in shown.stdout.splitlines() if line.startswith("    --")]
    assert len(lines) > 500
    return {line.removeprefix("--") for line in lines}


def static_keys(value: Any, path: str = "") -> set[str]:
    """The keys of a static file as its flags: lists end, and names of our own are `<name>`."""
    if not isinstance(value, dict) or not value:
        return {path}
    named = path in {"entrypoints", "accesslog.fields.headers.names"}
    below = path + "." if path else ""
    return {
        key
        for name, one in value.items()
        for key in static_keys(one, f"{below}{'<name>' if named else name.lower()}")
    }


def test_every_static_key_is_known() -> None:
    flags = known_flags()
    plain = site(a={"backends": ["webui"], "port": 1, "inside": True, "plain": [
        {"hop": "mesh", "reason": "for a test"}]})  # fmt: skip
    for net in (network(), network(plain), network(host="lab")):
        static = data(tree(net), "traefik/a.yaml")
        assert static_keys(static) - flags == set()
    static["entryPoints"]["websecure"]["transport"]["lifecycle"] = {"gracetime": "1s"}
    assert static_keys(static) - flags == {"entrypoints.<name>.transport.lifecycle.gracetime"}


def test_top_level_sections_are_those_that_traefik_reads() -> None:
    """It ignores an unknown one; their names are those of its dynamic configuration."""
    for entry in tree(network()):
        if isinstance(entry, File) and "/dynamic/" in entry.path:
            loaded = yaml.safe_load(entry.data)
            assert set(loaded) <= {"http", "tcp", "tls"}
            sections = {"routers", "services", "middlewares", "serversTransports"}
            for name in {"http", "tcp"} & set(loaded):
                assert set(loaded[name]) <= sections
            assert set(loaded.get("tls", {})) <= {"certificates", "options"}


VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=60)


@given(st.dictionaries(st.sampled_from(["X-A", "X-B", "Host"]), VALUES))
def test_values_come_through_templates_and_yaml(headers: dict[str, str]) -> None:
    text = traefik.dump({"headers": headers})
    assert b"{{" not in text
    assert yaml.safe_load(text) == {"headers": headers}


@pytest.mark.parametrize("value", ["{{", "{{{ .x }}}", "{{{{", "\\{{", "a{{b}}c{{"])
def test_no_template_is_opened(value: str) -> None:
    text = traefik.dump({"a": value})
    assert b"{{" not in text
    assert yaml.safe_load(text) == {"a": value}


@pytest.mark.parametrize(
    ("declared", "matched"),
    [("/", ""), ("/v1", "/v1"), ("/v1/", "/v1"), ("/a/b/", "/a/b")],
)
def test_prefixes_are_whole_segments(declared: str, matched: str) -> None:
    service = {"backends": ["webui"], "port": 1, "expose": [{"name": "x.org", "path": declared}]}
    (found,) = view(network(site(s=service)))
    (route,) = found.routes
    assert route.path == matched


def test_both_families_of_the_gateway_are_trusted_and_told() -> None:
    reference, hosts = documents()
    host = hosts["pve1"]
    for number, guest in enumerate(host["guests"].values()):
        guest["address6"] = f"fd00::{number + 1}"
    host["bridges"]["vmbr0"]["address6"] = "fd00::ff/64"
    files = tree(network(reference, host))
    gateway = {"10.0.0.101", str(ipaddress.ip_address(host["guests"]["nginx-gateway"]["address6"]))}
    static = data(files, "traefik/a.yaml")
    assert set(static["entryPoints"]["websecure"]["forwardedHeaders"]["trustedIPs"]) == gateway
    routers = data(files, "traefik/dynamic/chat.yaml")["http"]["routers"]
    for address in gateway:
        assert f"!ClientIP(`{address}`)" in routers["inside.chat"]["rule"]
        assert f"ClientIP(`{address}`)" in routers["outside.chat.example.org"]["rule"]

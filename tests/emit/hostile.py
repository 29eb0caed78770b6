"""Hostile values, and each function that quotes one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from hypothesis import strategies as st

from builder import emit

# What ends a statement somewhere, what begins a variable or comment, and some of everything else.
PIECES = [*" \"'\\;{}[]()$#%&|<>*?~`!^,=:/@+-_.aZ09", "é", "☃", "𝄞", "${x}", "%h", "$(id)", "\\n"]
HOSTILE = st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.text(max_size=12)
CONTROLS = ["\n", "\r", "\0", "\t", "\x1b", "\x7f", "\x85", "\u2028", "\ufeff", "\ud800"]

Given = TypeVar("Given")
Written = TypeVar("Written")
Quoting = Callable[[str], str]
QUOTING: dict[str, Quoting] = {
    "nginx": emit.nginx,
    "systemd": emit.systemd,
    "systemd_exec": emit.systemd_exec,
    "systemd_text": emit.systemd_text,
    "environment": lambda value: emit.environment("A", value),
    "shell": emit.shell,
    "interfaces": emit.interfaces,
    "lxc": emit.lxc,
    "pve": emit.pve,
    "nft": emit.nft,
    "hosts": emit.hosts,
    "zone": emit.zone,
    "zone_text": emit.zone_text,
}


def accepted(quoting: Callable[[Given], Written], value: Given) -> Written | None:
    """The quoted value, or None where it is refused."""
    try:
        return quoting(value)
    except ValueError:
        return None

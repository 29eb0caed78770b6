"""NNN.fw read as PVE reads it, but strictly: what PVE would skip without a word is an error here.

The forms are those of PVE::Firewall (parse_vmfw_option, generic_fw_config_parser, parse_fw_rule,
verify_rule), cut down to what we write. `Guard.lets` decides as the chains made of it do: filters
of MAC and address, rules in order, the policy.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

Net = IPv4Network | IPv6Network
_SWITCHES = r"(enable|dhcp|ndp|radv|macfilter|ipfilter): ([01])"
_POLICIES = r"(policy_in|policy_out): (DROP)"
_SET = re.compile(r"\[IPSET (ipfilter-net(?:[0-9]|[12][0-9]|3[01]))\]")
_RULE = re.compile(
    r"(IN|OUT) (ACCEPT|DROP|Ping\(ACCEPT\))(?: -source (\S+))?(?: -dest (\S+))?"
    r"(?: -p (tcp|udp) -dport ([0-9]+))? # ([^#\n]+)"
)
_NEEDED = {"enable": "1", "macfilter": "1", "ipfilter": "1", "policy_in": "DROP"} | {
    "policy_out": "DROP",
    "dhcp": "0",
    "radv": "0",
}
_LAST_PORT = 65535


class SkippedError(Exception):
    """A line that PVE would pass over, or take for something else."""


@dataclass(frozen=True, slots=True)
class Rule:
    direction: str
    accepts: bool
    source: Net | None
    destination: Net | None
    protocol: str
    port: int


@dataclass(slots=True)
class Guard:
    """One guest's file."""

    options: dict[str, str] = field(default_factory=dict)
    sets: dict[str, set[str]] = field(default_factory=dict)
    rules: list[Rule] = field(default_factory=list)

    def lets(self, direction: str, protocol: str, source: str, to: str, port: int) -> bool:
        """Whether a connection may begin through this guest's port."""
        if direction == "OUT" and not any(source in each for each in self.sets.values()):
            return False
        for rule in self.rules:
            if rule.direction == direction and _matches(rule, protocol, source, to, port):
                return rule.accepts
        return False


def _matches(rule: Rule, protocol: str, source: str, to: str, port: int) -> bool:
    ends = ((rule.source, source), (rule.destination, to))
    if any(net is not None and ip_address(address) not in net for net, address in ends):
        return False
    if rule.protocol == "echo":
        return protocol == "echo"
    return not rule.protocol or (rule.protocol, rule.port) == (protocol, port)


def read(text: str) -> Guard:
    """The file's meaning; SkippedError where PVE would not read every line as it is meant."""
    if not text.endswith("\n") or "\r" in text:
        raise SkippedError("lines don't end as they should")
    guard, section = Guard(), ""
    for number, line in enumerate(text.splitlines(), 1):
        if not line:
            continue
        try:
            section = _line(guard, section, line)
        except (ValueError, SkippedError) as error:
            raise SkippedError(f"line {number}: {line!r}: {error}") from error
    missing = {k: v for k, v in _NEEDED.items() if guard.options.get(k) != v}
    if missing or "ndp" not in guard.options or not guard.sets or not guard.rules:
        raise SkippedError(f"not whole: {missing or guard}")
    return guard


def _line(guard: Guard, section: str, line: str) -> str:
    if line.startswith("["):
        return _section(guard, line)
    if section == "OPTIONS":
        _option(guard, line)
    elif section.startswith("ipfilter-"):
        if line in guard.sets[section] or str(ip_address(line)) != line:
            raise SkippedError("an address twice, or not in its own form")
        guard.sets[section].add(line)
    elif section == "RULES":
        guard.rules.append(_rule(line))
    else:
        raise SkippedError("before any section")
    return section


def _section(guard: Guard, line: str) -> str:
    if line == "[OPTIONS]" and not guard.options:
        return "OPTIONS"
    if line == "[RULES]" and not guard.rules:
        return "RULES"
    found = _SET.fullmatch(line)
    if not found or found.group(1) in guard.sets:
        raise SkippedError("no section that PVE knows, or one for the second time")
    guard.sets[found.group(1)] = set()
    return found.group(1)


def _option(guard: Guard, line: str) -> None:
    found = re.fullmatch(_SWITCHES, line) or re.fullmatch(_POLICIES, line)
    if not found or found.group(1) in guard.options:
        raise SkippedError("no option that PVE knows, or one for the second time")
    guard.options[found.group(1)] = found.group(2)


def _rule(line: str) -> Rule:
    found = _RULE.fullmatch(line)
    if not found:
        raise SkippedError("no rule that PVE reads")
    direction, action, source, to, protocol, port, _ = found.groups()
    nets = [None if end is None else ip_network(end) for end in (source, to)]
    if len({net.version for net in nets if net}) > 1:
        raise SkippedError("two families")
    if port and not 0 < int(port) <= _LAST_PORT:
        raise SkippedError("no port")
    if action.startswith("Ping"):
        protocol = "echo"
    return Rule(direction, action != "DROP", nets[0], nets[1], protocol or "", int(port or 0))

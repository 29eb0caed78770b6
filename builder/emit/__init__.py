"""Text and data for each target: quoting, templates, JSON and YAML.

Whatever a value holds, it can't end the statement that it stands in: each target language has a
function that quotes a value, or raises ValueError for what the language can't hold. A template
writes only what went through one of them, or is plain by any of their rules.
"""

from builder.emit.data import canonical, json_text, yaml_text
from builder.emit.quote import (
    Quoted,
    Raw,
    environment,
    hosts,
    interfaces,
    lxc,
    nft,
    nginx,
    pve,
    pve_comment,
    shell,
    systemd,
    systemd_exec,
    systemd_text,
    zone,
    zone_text,
)
from builder.emit.template import template

__all__ = [
    "Quoted",
    "Raw",
    "canonical",
    "environment",
    "hosts",
    "interfaces",
    "json_text",
    "lxc",
    "nft",
    "nginx",
    "pve",
    "pve_comment",
    "shell",
    "systemd",
    "systemd_exec",
    "systemd_text",
    "template",
    "yaml_text",
    "zone",
    "zone_text",
]

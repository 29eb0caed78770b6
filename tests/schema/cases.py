"""Documents that do not fit the schema of `shapes`, and all that is told; … continues a line."""

from __future__ import annotations

import re

CASES = [
    (
        "hsot: web",
        """
        a.yaml:1:1: 'hsot' is not known here; did you mean 'host'? [unknown-key]
            hsot: web
            ^
        """,
    ),
    (
        "guests: {web: {id: 1, x: 1, net: 1, sp: 2}}",
        """
        a.yaml:1:23: 'x' is not known here; known: id, net [unknown-key]
            guests: {web: {id: 1, x: 1, net: 1, sp: 2}}
                                  ^
        a.yaml:1:37: 'sp' is not known here; known: id, net [unknown-key]
            guests: {web: {id: 1, x: 1, net: 1, sp: 2}}
                                                ^
        """,
    ),
    (
        "guests:\n  web: {}",
        """
        a.yaml:2:3: 'web' lacks 'id' [missing-key]
              web: {}
              ^
        a.yaml:2:3: 'web' lacks 'net' [missing-key]
              web: {}
              ^
        """,
    ),
    (
        "cores: four",
        """
        a.yaml:1:8: 'cores' must be a whole number from 1 to 512, not the string 'four' [wrong-type]
            cores: four
                   ^
        """,
    ),
    (
        "cores: 2.0",
        """
        a.yaml:1:8: 'cores' must be a whole number from 1 to 512, not 2.0 [wrong-type]
            cores: 2.0
                   ^
        """,
    ),
    (
        "cores: true",
        """
        a.yaml:1:8: 'cores' must be a whole number from 1 to 512, not true [wrong-type]
            cores: true
                   ^
        """,
    ),
    (
        "onboot: on",
        """
        a.yaml:1:9: 'onboot' must be true or false, not the string 'on'; write true [wrong-type]
            onboot: on
                    ^
        """,
    ),
    (
        "onboot: No",
        """
        a.yaml:1:9: 'onboot' must be true or false, not the string 'No'; write false [wrong-type]
            onboot: No
                    ^
        """,
    ),
    (
        "onboot: maybe",
        """
        a.yaml:1:9: 'onboot' must be true or false, not the string 'maybe' [wrong-type]
            onboot: maybe
                    ^
        """,
    ),
    (
        "host: 80",
        """
        a.yaml:1:7: 'host' must be a lower-case name, not 80; put it in quotes [wrong-type]
            host: 80
                  ^
        """,
    ),
    (
        "host:",
        """
        a.yaml:1:6: 'host' has no value; it must be a lower-case name [wrong-type]
            host:
                 ^
        """,
    ),
    (
        "guests: [web]",
        """
        a.yaml:1:9: 'guests' must be a mapping, not a list [wrong-type]
            guests: [web]
                    ^
        """,
    ),
    (
        "dns: {a: 1}",
        """
        a.yaml:1:6: 'dns' must be a list, not a mapping [wrong-type]
            dns: {a: 1}
                 ^
        """,
    ),
    (
        "either: []",
        """
        a.yaml:1:9: 'either' must be text or a whole number, not a list [wrong-type]
            either: []
                    ^
        """,
    ),
    (
        "role: gatewy",
        """
        a.yaml:1:7: 'role' can't be 'gatewy'; did you mean 'gateway'? [wrong-value]
            role: gatewy
                  ^
        """,
    ),
    (
        "role: x",
        """
        a.yaml:1:7: 'role' can't be 'x'; known: gateway, mesh, service [wrong-value]
            role: x
                  ^
        """,
    ),
    (
        "kind: vm",
        """
        a.yaml:1:7: 'kind' can't be 'vm'; known: lxc [wrong-value]
            kind: vm
                  ^
        """,
    ),
    (
        "cores: 513\nport: 0\nweight: 0\nnice: 20",
        """
        a.yaml:1:8: 'cores' must be a whole number from 1 to 512, not 513 [out-of-range]
            cores: 513
                   ^
        a.yaml:2:7: 'port' must be a whole number from 1 to 65535, not 0 [out-of-range]
            port: 0
                  ^
        a.yaml:3:9: 'weight' must be a whole number of at least 1, not 0 [out-of-range]
            weight: 0
                    ^
        a.yaml:4:7: 'nice' must be a whole number of at most 19, not 20 [out-of-range]
            nice: 20
                  ^
        """,
    ),
    (
        "why: so",
        """
        a.yaml:1:6: 'why' takes at least 8 characters, not 2 [out-of-range]
            why: so
                 ^
        """,
    ),
    (
        "why: because we want it",
        """
        a.yaml:1:6: 'why' takes at most 12 characters, not 18 [out-of-range]
            why: because we want it
                 ^
        """,
    ),
    (
        "host: Web",
        """
        a.yaml:1:7: 'host' must be a lower-case name, not 'Web' [wrong-format]
            host: Web
                  ^
        """,
    ),
    (
        'host: "web\\n"',
        """
        a.yaml:1:7: 'host' must be a lower-case name, not 'web ' [wrong-format]
            host: "web\\n"
                  ^
        """,
    ),
    (
        "guests: {Web: {id: 1}}",
        """
        a.yaml:1:10: 'Web' can't be a key here; it must be a lower-case name [wrong-format]
            guests: {Web: {id: 1}}
                     ^
        a.yaml:1:10: 'Web' lacks 'net' [missing-key]
            guests: {Web: {id: 1}}
                     ^
        """,
    ),
    (
        "dns: [10.0.0.1, 10.0.0.256]",
        """
        a.yaml:1:17: each item of 'dns' must be an IP address, not '10.0.0.256' [wrong-format]
            dns: [10.0.0.1, 10.0.0.256]
                            ^
        """,
    ),
    (
        "dns: []",
        """
        a.yaml:1:6: 'dns' takes at least 1 item, not 0 [too-few]
            dns: []
                 ^
        """,
    ),
    (
        "dns: [10.0.0.1, 10.0.0.2, 10.0.0.1]",
        """
        a.yaml:1:6: 'dns' takes at most 2 items, not 3 [too-many]
            dns: [10.0.0.1, 10.0.0.2, 10.0.0.1]
                 ^
        a.yaml:1:27: '10.0.0.1' is in 'dns' already [duplicate-item]
            dns: [10.0.0.1, 10.0.0.2, 10.0.0.1]
                                      ^
        """,
    ),
    (
        "guests: {}",
        """
        a.yaml:1:9: 'guests' takes at least 1 entry, not 0 [too-few]
            guests: {}
                    ^
        """,
    ),
    (
        "guests: {a: &, b: &, c: &}".replace("&", "{id: 1, net: 1}"),
        """
        a.yaml:1:9: 'guests' takes at most 2 entries, not 3 [too-many]
            guests: {a: {id: 1, net: 1}, b: {id: 1, net: 1}, c: {id: 1, net: 1}}
                    ^
        """,
    ),
    (
        "body: huge\nswap: 1",
        """
        a.yaml:1:7: 'body' must be a size, as 8GiB, or 'unlimited', not 'huge' [wrong-value]
            body: huge
                  ^
        a.yaml:2:7: 'swap' must be a size, as 8GiB, or 0, not 1 [wrong-value]
            swap: 1
                  ^
        """,
    ),
    (
        "body: 8\nswap: 8GB",
        """
        a.yaml:1:7: 'body' must be a size, as 8GiB, or 'unlimited', not 8 [wrong-type]
            body: 8
                  ^
        a.yaml:2:7: 'swap' must be a size, as 8GiB, not '8GB' [wrong-format]
            swap: 8GB
                  ^
        """,
    ),
    (
        "sticky: yes",
        """
        a.yaml:1:9: 'sticky' must be true or false, or a mapping, not 'yes'; write true [wrong-type]
            sticky: yes
                    ^
        """,
    ),
    (
        "sticky: {}",
        """
        a.yaml:1:1: 'sticky' lacks 'cookie' [missing-key]
            sticky: {}
            ^
        """,
    ),
    (
        "sticky: {cookie: 5}",
        """
        a.yaml:1:18: 'cookie' must be a lower-case name, not 5; put it in quotes [wrong-type]
            sticky: {cookie: 5}
                             ^
        """,
    ),
    (
        "backends: [a, B, 5, {name: B, prot: 1}]",
        """
        a.yaml:1:15: each item of 'backends' must be a lower-case name, not 'B' [wrong-format]
            backends: [a, B, 5, {name: B, prot: 1}]
                          ^
        a.yaml:1:18: each item of 'backends' must be a lower-case name, or a mapping, not 5
        … [wrong-type]
            backends: [a, B, 5, {name: B, prot: 1}]
                             ^
        a.yaml:1:28: 'name' must be a lower-case name, not 'B' [wrong-format]
            backends: [a, B, 5, {name: B, prot: 1}]
                                       ^
        a.yaml:1:31: 'prot' is not known here; did you mean 'port'? [unknown-key]
            backends: [a, B, 5, {name: B, prot: 1}]
                                          ^
        """,
    ),
    (
        "certificate: {files: {kay: a}}",
        """
        a.yaml:1:23: 'kay' is not known here; did you mean 'key'? [unknown-key]
            certificate: {files: {kay: a}}
                                  ^
        """,
    ),
    (
        "certificate: sit",
        """
        a.yaml:1:14: 'certificate' must be 'site', or a mapping, not 'sit' [wrong-value]
            certificate: sit
                         ^
        """,
    ),
    (
        "given: []",
        """
        a.yaml:1:8: 'given' must be a size or nothing at all, not a list [wrong-type]
            given: []
                   ^
        """,
    ),
    (
        "single: 6",
        """
        a.yaml:1:9: 'single' fits more than one of its forms [wrong-value]
            single: 6
                    ^
        """,
    ),
]


TOLD = re.compile(r"^ +(?:a\.yaml|…).* \[([a-z-]+)\]$", re.MULTILINE)
CODES = {code for _, text in CASES for code in TOLD.findall(text)}

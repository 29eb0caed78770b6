"""A value in each target language: quoted, or refused.

Every function takes text, a whole number or an address of `ipaddress`, and returns Quoted, text
that stands for exactly that value in its language; it raises ValueError where the language has no
way to write the value. None lets a control character through, so none can end a line. What is
Quoted can't be quoted again.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

    Value: TypeAlias = str | int | IPv4Address | IPv6Address | IPv4Network | IPv6Network

# No language here needs one of these in a value; in most of them it would end the statement.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")
# A word that is itself in all these languages, also as a part of a PVE property string.
PLAIN = re.compile(r"[A-Za-z0-9_./:@+-]+")
# Words that need no quotes in nginx, with and without variables, and in systemd.
_NGINX = re.compile(r"[A-Za-z0-9_./:@,=+*\[\]-]+")
_NGINX_RAW = re.compile(r"[A-Za-z0-9_./:@,=+*$-]+")
_SYSTEMD = re.compile(r"[A-Za-z0-9_./:@,=+-]+")
# nginx's configuration buffer is 4096; a parameter that does not fit is "too long".
_NGINX_LONGEST = 4000
_LABEL = re.compile("[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
# Bounds of a comment's user data and of a log prefix in the kernel's nf_tables, with the NUL.
_NFT_LONGEST = 127


class Quoted(str):
    """Text that is safe where it is written: what a function of this module returned."""

    __slots__ = ()


class Raw(Quoted):
    """Text of our own that is meant as syntax, such as nginx's variable `$host`.

    Never made from what a configuration says, unless that went through a function here.
    """

    __slots__ = ()


def spelled(value: object) -> str | None:
    """`value` as text if it is text, a whole number or an address; else None."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    # Looked at by name, since importing ipaddress takes 3 ms, and most builds' values are text.
    return str(value) if type(value).__module__ == "ipaddress" else None


def _text(value: Value, language: str) -> str:
    """`value` as text without control characters."""
    if isinstance(value, Quoted) and not isinstance(value, Raw):
        raise ValueError(f"{value!r} is quoted already, and can't be quoted for {language}")
    text = spelled(value)
    if text is None:
        raise ValueError(f"{language} takes text or a whole number, not {value!r}")
    if found := CONTROL.search(text):
        raise ValueError(f"{language} can't hold U+{ord(found.group()):04X}, which is in {text!r}")
    return text


def _refuse(text: str, characters: str, language: str) -> None:
    if found := next((c for c in text if c in characters), ""):
        raise ValueError(f"{language} can't hold {found!r}, which is in {text!r}")


def _line(value: Value, language: str) -> str:
    """A value that takes the rest of its line: not empty, no space around it."""
    text = _text(value, language)
    if not text or text != text.strip():
        raise ValueError(f"{language} can't hold {text!r}: it is empty or has spaces around it")
    return text


def nginx(value: Value) -> Quoted:
    """One parameter of a directive.

    nginx's lexer (ngx_conf_read_token) reads `\\"` and `\\\\` inside of double quotes as the second
    character, and nothing else there ends the word. `$` has no escape: a parameter with variables
    expands it wherever it stands, so only Raw may hold it.
    """
    text = _text(value, "nginx")
    bare = _NGINX_RAW if isinstance(value, Raw) else _NGINX
    if not isinstance(value, Raw):
        _refuse(text, "$", "nginx")
    if not bare.fullmatch(text):
        text = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if len(text.encode()) > _NGINX_LONGEST:
        raise ValueError(f"nginx can't hold {text[:20]!r}…: over {_NGINX_LONGEST} bytes")
    return Quoted(text)


def systemd(value: Value) -> Quoted:
    """One word of a setting that takes words: ReadWritePaths=, Wants=, LoadCredential=.

    Quotes, backslashes and specifiers are escaped (systemd.syntax(7), systemd.unit(5)).
    """
    text = _text(value, "systemd")
    if _SYSTEMD.fullmatch(text):
        return Quoted(text)
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return Quoted(f'"{escaped}"')


def systemd_exec(value: Value) -> Quoted:
    """One argument of an Exec line, where `$` begins a variable too (systemd.service(5)).

    Not the program itself, before which `-`, `@`, `:`, `+` and `!` have a meaning.
    """
    text = _text(value, "a systemd command line")
    quoted = systemd(text)
    return Quoted(quoted.replace("$", "$$"))


def systemd_text(value: Value) -> Quoted:
    """A setting that takes its whole line as it is: Description=, WorkingDirectory=."""
    text = _line(value, "a systemd setting")
    if text.endswith("\\"):
        raise ValueError(f"a systemd setting can't end with a backslash, as {text!r} does")
    return Quoted(text.replace("%", "%%"))


def environment(name: str, value: Value) -> Quoted:
    """One assignment of Environment=. `$` is itself there."""
    if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(f"{name!r} is no name of an environment variable")
    return systemd(f"{name}={_text(value, 'an environment variable')}")


def shell(value: Value) -> Quoted:
    """One word of POSIX sh."""
    return Quoted(shlex.quote(_text(value, "sh")))


def interfaces(value: Value) -> Quoted:
    """The value of an option in /etc/network/interfaces.

    ifupdown2 joins lines at any backslash, and renders `${…}`, `<%…>` and `%` by a template engine
    where one is set up; it has no quoting. A leading `#` makes a comment of a line.
    """
    text = _line(value, "interfaces")
    _refuse(text, "\\$%<>`", "interfaces")
    if text.startswith("#"):
        raise ValueError(f"interfaces can't hold {text!r}: it begins with '#'")
    return Quoted(text)


def lxc(value: Value) -> Quoted:
    """The value of a key in liblxc's configuration or in NNN.conf, to the end of its line.

    Neither has an escape: liblxc takes quotes around a value away, and both trim it.
    """
    text = _line(value, "an LXC configuration")
    if text[0] in "\"'#" or text[-1] in "\"'\\":
        raise ValueError(f"an LXC configuration can't hold {text!r}: quote, '#' or '\\' at an end")
    return Quoted(text)


def pve(value: Value) -> Quoted:
    """One part of a property string, such as an address in `net0: name=eth0,ip=…`."""
    text = lxc(value)
    _refuse(text, ",=", "a PVE property")
    return text


def pve_comment(value: str) -> tuple[Quoted, ...]:
    """The lines of a description, each to be written after a `#`, as PVE itself writes them.

    PVE::ParseUtils::encode_text: percent-encoded UTF-8 of all but printable ASCII, `%` and `:`.
    """
    if not isinstance(value, str) or isinstance(value, Quoted):
        raise ValueError(f"a PVE description takes text, not {value!r}")
    lines = value.rstrip("\n").split("\n") if value.strip("\n") else []
    return tuple(Quoted(_percent_encoded(line)) for line in lines)


def _percent_encoded(line: str) -> str:
    if "\0" in line:
        raise ValueError(f"a PVE description can't hold NUL, which is in {line!r}")
    return "".join(
        chr(byte) if 0x20 <= byte <= 0x7E and byte not in b"%:" else f"%{byte:02X}"
        for byte in line.encode()
    )


def nft(value: Value) -> Quoted:
    """A string in nft's language: a comment, a log prefix, an interface's name.

    Its quotes have no escape; `$` in a log prefix is a variable; a `*` at the end of an
    interface's name matches any rest.
    """
    text = _text(value, "nft")
    _refuse(text, '"\\$*', "nft")
    if not text or len(text.encode()) > _NFT_LONGEST:
        raise ValueError(f"nft can't hold {text[:20]!r}…: empty, or over {_NFT_LONGEST} bytes")
    return Quoted(f'"{text}"')


def hosts(value: Value) -> Quoted:
    """An address or a name in /etc/hosts."""
    text = _text(value, "/etc/hosts")
    if not re.fullmatch(r"[A-Za-z0-9_.:-]+", text):
        raise ValueError(f"/etc/hosts can't hold {text!r} as an address or a name")
    return Quoted(text)


def zone(value: str) -> Quoted:
    """A name in a DNS zone file, written as absolute (RFC 1035): labels of at most 63."""
    text = _text(value, "a DNS zone").removesuffix(".")
    labels = text.removeprefix("*.").split(".")
    if not all(map(_LABEL.fullmatch, labels)) or len(text) > 253:
        raise ValueError(f"a DNS zone can't hold {value!r} as a name")
    return Quoted(f"{text}.")


def zone_text(value: Value) -> Quoted:
    """The data of a TXT record: quoted strings of at most 255 bytes, which are one value.

    `"` and `\\` are escaped, what is not printable ASCII as `\\DDD` (RFC 1035, 5.1).
    """
    data = _text(value, "a DNS zone").encode()
    pieces = [data[at : at + 255] for at in range(0, len(data), 255)] or [b""]
    return Quoted(" ".join('"' + "".join(map(_zone_byte, piece)) + '"' for piece in pieces))


def _zone_byte(byte: int) -> str:
    if byte in b'"\\':
        return "\\" + chr(byte)
    return chr(byte) if 0x20 <= byte <= 0x7E else f"\\{byte:03d}"

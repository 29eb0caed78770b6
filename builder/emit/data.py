"""Data as text: JSON for programs, canonical JSON for digests, YAML for Traefik.

The data is dicts with text keys, lists, tuples, text, integers, booleans and None. Floats are
refused, since programs write the same float differently; so is what no reader could give back.
All raise ValueError for what they refuse, and return UTF-8.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from builder.emit.quote import CONTROL

_SAFE_INTEGER = 2**53 - 1
_YAML_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
# Keys that YAML 1.1 or 1.2 reads as a boolean or null.
_YAML_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "y", "n", "null"})
# A key written in one line may take 1024 characters, quotes and escapes included.
_YAML_LONGEST_KEY = 500


def json_text(data: object) -> bytes:
    """JSON for people and programs: sorted keys, two spaces, a newline at the end."""
    return (json.dumps(_ordered(data), ensure_ascii=False, indent=2) + "\n").encode()


def canonical(data: object) -> bytes:
    """The one JSON text of `data` (RFC 8785, without floats): what is hashed and signed.

    Integers are at most 2^53 - 1, which every reader of JSON keeps.
    """
    return json.dumps(_ordered(data), ensure_ascii=False, separators=(",", ":")).encode()


def yaml_text(data: Mapping[str, object]) -> bytes:
    """YAML that every version of the language reads alike.

    Block style, sorted keys, each string in double quotes on one line.
    """
    _check(data)
    return ("\n".join(_block(data, "")) + "\n").encode()


def _check(data: object) -> None:
    """Refuse what is no data, or no reader could give back."""
    if data is None or isinstance(data, bool | str):
        return
    if isinstance(data, int):
        if abs(data) > _SAFE_INTEGER:
            raise ValueError(f"{data} is beyond 2^53")
    elif isinstance(data, Mapping):
        for key, value in data.items():
            if not isinstance(key, str):
                raise ValueError(f"a key must be text, not {key!r}")
            _check(value)
    elif isinstance(data, list | tuple):
        for value in data:
            _check(value)
    else:
        raise ValueError(f"{data!r} is no data: neither text, integer, boolean, list nor mapping")


def _ordered(data: object) -> object:
    """`data` with keys in the order of RFC 8785: by UTF-16 code units."""
    if isinstance(data, Mapping):
        _check(dict.fromkeys(data))
        keys = sorted(data, key=lambda key: key.encode("utf-16-be", "surrogatepass"))
        return {key: _ordered(data[key]) for key in keys}
    if isinstance(data, list | tuple):
        return [_ordered(item) for item in data]
    _check(data)
    return data


def _block(data: object, indent: str) -> Iterator[str]:
    """The lines of `data`; an empty mapping or list and a scalar take one."""
    if isinstance(data, Mapping) and data:
        for key in sorted(data):
            value = data[key]
            if isinstance(value, Mapping | list | tuple) and value:
                yield f"{indent}{_key(key)}:"
                yield from _block(value, indent + "  ")
            else:
                yield f"{indent}{_key(key)}: {_scalar(value)}"
    elif isinstance(data, list | tuple) and data:
        for item in data:
            lines = _block(item, indent + "  ")
            yield f"{indent}- {next(lines).lstrip(' ')}"
            yield from lines
    else:
        yield indent + _scalar(data)


def _scalar(value: object) -> str:
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, Mapping):
        return "{}"
    return "[]" if isinstance(value, list | tuple) else json.dumps(value)


def _quoted(text: str) -> str:
    # A double-quoted string holds all others as they are. (JSON escapes its own.)
    if found := CONTROL.search(text):
        raise ValueError(f"YAML can't hold U+{ord(found.group()):04X}, which is in {text!r}")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _key(key: str) -> str:
    if len(key) > _YAML_LONGEST_KEY:
        raise ValueError(f"YAML can't hold {key[:20]!r}… as a key: over {_YAML_LONGEST_KEY}")
    if _YAML_PLAIN_KEY.fullmatch(key) and key.lower() not in _YAML_WORDS:
        return key
    return _quoted(key)

"""What a file on the host becomes: what stands there without us, and what a release says of it.

`merge` lays a release's content (*owned*) over what is there without us (*base*); `base` takes it
out again of a file that somebody else has edited. Both work on bytes, and leave what they don't
understand as it is. What is ours of a file says the module of its way. A value of ours that
somebody edited is no new base: what it had displaced stays so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from . import merge_firewall, merge_interfaces, merge_lxc

_CONF = "lxc-conf"
_Lay = Callable[[bytes, bytes], bytes]
_Lift = Callable[[bytes, bytes, bytes], bytes]


def _replace(_base: bytes, owned: bytes) -> bytes:
    return owned


def _replaced(_live: bytes, _owned: bytes, recorded: bytes) -> bytes:
    return recorded


_WAYS: Mapping[str, tuple[_Lay, _Lift]] = {
    "replace": (_replace, _replaced),
    "interfaces": (merge_interfaces.lay, merge_interfaces.lift),
    _CONF: (merge_lxc.lay, merge_lxc.lift),
    "firewall": (merge_firewall.lay, merge_firewall.lift),
}


def merge(how: str, base: bytes | None, owned: bytes | None, live: bytes | None) -> bytes | None:
    """The file's new content; None: no file.

    `owned` None is a release that says nothing of the file: it becomes `base`, byte for byte.
    `live`, what is there now, counts in "lxc-conf" only, also then: the guest's state comes from
    it, from `base` where it is None. Raises KeyError for an unknown `how`.
    """
    lay, _ = _WAYS[how]
    result = base if owned is None else lay(base, owned) if base else owned
    if how == _CONF and result is not None and (owned is not None or merge_lxc.rooted(base)):
        return _with_state(result, base if live is None else live)
    return result


def base(how: str, live: bytes | None, owned: bytes | None, recorded: bytes | None) -> bytes | None:
    """What stands there without us, where `live` may not be what merge(`recorded`, `owned`) gave.

    A file that is gone is taken for lost, not for edited: its base stays as recorded. Raises
    KeyError for an unknown `how`.
    """
    _, lift = _WAYS[how]
    if owned is None:
        return live
    if live is None:
        return recorded
    result = recorded
    if live != merge(how, recorded, owned, live):
        lifted = lift(live, owned, recorded or b"")
        result = lifted if lifted.strip() or recorded is not None else None
    if how == _CONF and result and merge_lxc.rooted(recorded):
        return _with_state(result, live)
    return result


def _with_state(file: bytes, live: bytes | None) -> bytes:
    """`file` with the guest's state as `live` has it, if that is the file of a guest."""
    return merge_lxc.with_state(file, live) if live and merge_lxc.rooted(live) else file

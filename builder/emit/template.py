"""Templates of text targets: Jinja2 that can write nothing unquoted.

A template holds `for` and `if`, and writes values through the filters of `quote`, named as there.
What a `{{ }}` gives must be quoted, a whole number, or a plain word that means itself in every
target; all else, and every undefined name, stops the rendering.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from builder.emit import quote

if TYPE_CHECKING:
    from jinja2 import Environment

OVERLAYS = Path(__file__).parents[2] / "overlays"
_FILTERS = (
    quote.hosts,
    quote.interfaces,
    quote.lxc,
    quote.nft,
    quote.nginx,
    quote.pve,
    quote.pve_comment,
    quote.shell,
    quote.systemd,
    quote.systemd_exec,
    quote.systemd_text,
    quote.zone,
    quote.zone_text,
)


def template(name: str, root: Path = OVERLAYS) -> Callable[..., bytes]:
    """What renders `root`/`name`, such as "gateway/nginx/a.conf.j2", given its names.

    The rendering raises ValueError for a value that is not safe to write, and
    jinja2.UndefinedError for a name that was not given; finding the template raises
    jinja2.TemplateNotFound or jinja2.TemplateSyntaxError.
    """
    found = _environment(root).get_template(name)

    def render(**names: object) -> bytes:
        return found.render(names).encode()

    return render


@lru_cache(maxsize=8)
def _environment(root: Path) -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from builder.emit.compiled import Beside

    # Not HTML: each value is quoted for its own language, and `finalize` holds that.
    environment = Environment(
        loader=FileSystemLoader(root),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_finalize,
        auto_reload=False,
        bytecode_cache=Beside(root),
    )
    environment.filters.update({function.__name__: function for function in _FILTERS})
    environment.globals["environment"] = quote.environment
    return environment


def _finalize(value: object) -> str:
    """The last word on what a `{{ }}` writes."""
    text = quote.spelled(value)
    if text is None:
        # Of an undefined name, str() raises jinja2's own error, which names it.
        raise ValueError(f"{str(value)!r} is neither text nor a whole number, and can't be written")
    if any(character in text for character in "\n\r\0"):
        raise ValueError(f"a template can't write {text!r}: it would end its line")
    if isinstance(value, quote.Quoted) or not text or quote.PLAIN.fullmatch(text):
        return text
    raise ValueError(f"a template can't write {text!r} as it is: use the filter of its language")

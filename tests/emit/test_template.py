"""builder/emit/template.py: a template writes only what is plain or quoted."""

from __future__ import annotations

import re
from pathlib import Path

import jinja2
import pytest
from hypothesis import given

from builder import emit
from builder.emit import Quoted, Raw
from builder.emit.template import _finalize
from tests.emit.hostile import HOSTILE, QUOTING, accepted


def rendered(folder: Path, text: str, **names: object) -> str:
    (folder / "role").mkdir(exist_ok=True)
    path = folder / "role" / f"{abs(hash(text))}.j2"
    path.write_text(text, encoding="utf-8")
    return emit.template(f"role/{path.name}", folder)(**names).decode()


def test_a_template_keeps_its_lines(tmp_path: Path) -> None:
    text = "a\n  {% for word in words %}\n  b {{ word | nginx }};\n  {% endfor %}\nü\n"
    expected = 'a\n  b x;\n  b "y z";\nü\n'
    assert rendered(tmp_path, text, words=["x", "y z"]) == expected


def test_every_language_is_a_filter(tmp_path: Path) -> None:
    filters = set(QUOTING) - {"environment"}
    text = "{{ a | NAME }} "
    assert rendered(tmp_path, "".join(text.replace("NAME", f) for f in sorted(filters)), a="b")
    assert rendered(tmp_path, '{{ environment("A", "b c") }}') == '"A=b c"'
    assert (
        rendered(tmp_path, "{% for l in a | pve_comment %}#{{ l }}\n{% endfor %}", a=":")
        == "#%3A\n"
    )


@pytest.mark.parametrize(
    "value", ["x", 5, "", "10.0.0.1/24", "a-b_c.d:e@f+g", Raw("a; $b"), Quoted("'")]
)
def test_a_template_writes_what_is_plain_or_quoted(tmp_path: Path, value: object) -> None:
    assert rendered(tmp_path, "<{{ value }}>", value=value) == f"<{value}>"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "'None' is neither text nor a whole number, and can't be written"),
        (True, "'True' is neither text nor a whole number, and can't be written"),
        (1.5, "'1.5' is neither text nor a whole number, and can't be written"),
        ([1], "'[1]' is neither text nor a whole number, and can't be written"),
        ("a\nb", r"a template can't write 'a\nb': it would end its line"),
        (Raw("a\r"), r"a template can't write 'a\r': it would end its line"),
        (Quoted("a\0"), r"a template can't write 'a\x00': it would end its line"),
        *(
            (value, f"a template can't write {value!r} as it is: use the filter of its language")
            for value in ("a b", "a;b", "$a", "a,b=c", "#", '"', "é", "a{", "*", "%h", "[::]")
        ),
    ],
)
def test_a_template_refuses_what_is_neither(tmp_path: Path, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        rendered(tmp_path, "{{ value }}", value=value)


@given(HOSTILE)
def test_a_template_writes_no_hostile_value_unquoted(value: str) -> None:
    written = accepted(_finalize, value)
    assert written is None or re.fullmatch(r"[A-Za-z0-9_./:@+-]*", written)


def test_a_template_refuses_a_name_that_is_not_given(tmp_path: Path) -> None:
    with pytest.raises(jinja2.UndefinedError, match="'nobody' is undefined"):
        rendered(tmp_path, "{{ nobody }}")
    with pytest.raises(jinja2.UndefinedError, match="has no attribute 'x'"):
        rendered(tmp_path, "{{ value.x }}", value=Path())
    with pytest.raises(jinja2.TemplateNotFound, match="role/none"):
        emit.template("role/none", tmp_path)

"""builder/emit: a value, however hostile, stays a value; data comes back as it went in.

Each target language is judged by a small reader of it, written from its own parser's rules: what
was quoted must be read back as that one value, with nothing after it.
"""

from __future__ import annotations

import ipaddress
import json
import re
import shlex
import subprocess
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jinja2
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from builder import emit, source
from builder.emit import Quoted, Raw

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


@pytest.mark.parametrize("name", QUOTING)
@pytest.mark.parametrize("character", CONTROLS)
def test_no_language_lets_a_control_character_through(name: str, character: str) -> None:
    for value in (f"a{character}b", f"a{character}", character):
        with pytest.raises(ValueError, match=r"can't hold|surrogates"):
            QUOTING[name](value)


@pytest.mark.parametrize("name", QUOTING)
def test_what_is_quoted_is_not_quoted_again(name: str) -> None:
    with pytest.raises(ValueError, match="is quoted already"):
        QUOTING[name](Quoted('"a"'))


@pytest.mark.parametrize("name", QUOTING)
@pytest.mark.parametrize("value", [None, True, 1.5, [], b"a"])
def test_only_text_and_whole_numbers_are_quoted(name: str, value: object) -> None:
    with pytest.raises(ValueError, match="takes text or a whole number, not "):
        QUOTING[name](value)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(set(QUOTING) - {"environment", "zone", "zone_text", "nft"}))
def test_plain_values_are_written_as_they_are(name: str) -> None:
    for value in ("10.0.0.1", 5, ipaddress.ip_address("fd00::1")):
        assert QUOTING[name](value) == str(value)  # type: ignore[arg-type]


# nginx


def nginx_words(text: str) -> list[list[str]]:
    """The simple directives of `text`, by the rules of ngx_conf_read_token."""
    directives: list[list[str]] = []
    words: list[str] = []
    at = 0
    while at < len(text):
        if text[at] in " \t\r\n":
            at += 1
        elif text[at] == ";":
            assert words, "unexpected ;"
            directives.append(words)
            words, at = [], at + 1
        else:
            assert text[at] not in "{}", "a block"
            assert text[at] != "#", "a comment"
            word, at = nginx_word(text, at)
            words.append(word)
    assert not words, "unexpected end of file"
    return directives


def nginx_word(text: str, at: int) -> tuple[str, int]:
    quote = text[at] if text[at] in "\"'" else ""
    ends = quote or " \t\r\n;{"
    start = at = at + len(quote)
    # In `${`, the brace opens no block.
    while text[at] not in ends or (text[at] == "{" and text[at - 1] == "$"):
        at += 2 if text[at] == "\\" else 1
    raw, at = text[start:at], at + len(quote)
    assert not quote or text[at] in " \t\r\n;{)", "unexpected character behind a quote"
    known = {"t": "\t", "r": "\r", "n": "\n"}
    return re.sub(r"\\([\"'\\trn])", lambda m: known.get(m[1], m[1]), raw), at


def test_the_reader_of_nginx_sees_a_value_break_out() -> None:
    assert nginx_words('a "x"; b;') == [["a", "x"], ["b"]]
    assert nginx_words('a "x\\"; b";') == [["a", 'x"; b']]
    assert nginx_words("a x\\;y 'q\\\\';") == [["a", "x\\;y", "q\\"]]
    with pytest.raises(AssertionError, match="a block"):
        nginx_words("a x{};")
    with pytest.raises(AssertionError, match="behind a quote"):
        nginx_words('a "x"y;')


@given(HOSTILE)
@example('"; return 200 "')
@example('\\"')
def test_nginx_reads_back_the_value_and_nothing_else(value: str) -> None:
    nginx_reads_back(value)


def nginx_reads_back(value: str) -> None:
    quoted = accepted(emit.nginx, value)
    if quoted is not None:
        assert "$" not in quoted
        text = f"set {quoted};\nnext {quoted} x;"
        assert nginx_words(text) == [["set", value], ["next", value, "x"]]


def test_nginx_has_no_escape_for_a_variable() -> None:
    with pytest.raises(ValueError, match=r"^nginx can't hold '\$', which is in 'a\$host'$"):
        emit.nginx("a$host")
    assert emit.nginx(Raw("$host")) == "$host"
    assert emit.nginx(Raw("http://${a}; b")) == '"http://${a}; b"'


def test_nginx_takes_brackets_and_stars_bare() -> None:
    assert emit.nginx("[::]:443") == "[::]:443"
    assert emit.nginx("*.example.org") == "*.example.org"
    assert emit.nginx("") == '""'


def test_nginx_takes_no_parameter_beyond_its_buffer() -> None:
    assert len(emit.nginx("x" * 4000)) == 4000
    for value in ("x" * 4001, '"' * 2000, "é" * 2001):
        with pytest.raises(ValueError, match="over 4000 bytes"):
            emit.nginx(value)


# systemd


def systemd_words(text: str, *, dollar: bool) -> list[str]:
    """The words of a setting: extract_first_word, then specifiers, then `$$` on Exec lines."""
    assert not text.endswith("\\"), "the next line is joined"
    words: list[str] = []
    for match in re.finditer(r'"((?:[^"\\]|\\.)*)"(?= |$)|([^\s"\'\\]+)(?= |$)|(\S)', text):
        quoted, bare, wrong = match.groups()
        assert wrong is None, f"not a word at {match.start()}: {text}"
        word = re.sub(r"\\(.)", r"\1", quoted) if bare is None else bare
        assert not re.search(r"(?<!%)(?:%%)*%(?!%)", word), "a specifier"
        word = word.replace("%%", "%")
        if dollar:
            assert not re.search(r"(?<!\$)(?:\$\$)*\$(?!\$)", word), "a variable"
            word = word.replace("$$", "$")
        words.append(word)
    return words


@given(HOSTILE)
def test_systemd_reads_back_the_words(value: str) -> None:
    systemd_reads_back(value)


def systemd_reads_back(value: str) -> None:
    if accepted(emit.systemd, value) is not None:
        assert systemd_words(f"{emit.systemd(value)} x", dollar=False) == [value, "x"]
        exec_line = f"/bin/x {emit.systemd_exec(value)} x"
        assert systemd_words(exec_line, dollar=True) == ["/bin/x", value, "x"]
        assignment = emit.environment("A_1", value)
        assert systemd_words(f"{assignment} B=1", dollar=False) == [f"A_1={value}", "B=1"]


def test_systemd_escapes() -> None:
    assert emit.systemd('a "b" \\ %h $x') == '"a \\"b\\" \\\\ %%h $x"'
    assert emit.systemd_exec("$HOME ${x}") == '"$$HOME $${x}"'
    assert emit.systemd_exec(";") == '";"'
    with pytest.raises(ValueError, match="'a b' is no name of an environment variable"):
        emit.environment("a b", "c")


@given(HOSTILE)
def test_a_systemd_setting_is_its_line(value: str) -> None:
    quoted = accepted(emit.systemd_text, value)
    if quoted is not None:
        assert quoted.replace("%%", "%") == value == value.strip()
        assert not quoted.endswith("\\")


# sh


@given(HOSTILE)
def test_sh_reads_back_the_words(value: str) -> None:
    sh_reads_back(value)


def sh_reads_back(value: str) -> None:
    if accepted(emit.shell, value) is not None:
        assert shlex.split(f"echo {emit.shell(value)} x") == ["echo", value, "x"]


def test_the_real_sh_reads_back_the_words() -> None:
    values = ["", *PIECES, "".join(PIECES), "'; exit 1; '", "a'b"]
    words = " ".join(map(emit.shell, values))
    run = subprocess.run(["sh", "-c", f"printf '%s\\n' {words}"], capture_output=True, check=True)
    assert run.stdout.decode().split("\n")[:-1] == values


def test_every_pair_of_hostile_pieces_is_read_back() -> None:
    # Chance seldom gives the shortest values, such as a lone `#`, to a property.
    for first in ["", *PIECES]:
        for second in PIECES:
            nginx_reads_back(first + second)
            systemd_reads_back(first + second)
            sh_reads_back(first + second)


# Targets that have no quotes: what they can hold is written as it is, all else refused.


@given(HOSTILE)
def test_targets_without_quotes_hold_only_what_means_itself(value: str) -> None:
    for name in ("interfaces", "lxc", "pve", "hosts"):
        quoted = accepted(QUOTING[name], value)
        assert quoted is None or quoted == value == value.strip() != ""
    if accepted(emit.interfaces, value) is not None:
        assert not set(value) & set("\\$%<>`")
    if accepted(emit.lxc, value) is not None:
        assert value[0] not in "\"'#"
        assert value[-1] not in "\"'\\"
    if accepted(emit.pve, value) is not None:
        assert not set(value) & set(",=")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("interfaces", "", "interfaces can't hold '': it is empty or has spaces around it"),
        ("interfaces", "a ", "interfaces can't hold 'a ': it is empty or has spaces around it"),
        ("interfaces", "a\\", r"interfaces can't hold '\\', which is in 'a\\'"),
        ("interfaces", "${x}", "interfaces can't hold '$', which is in '${x}'"),
        ("interfaces", "#a", "interfaces can't hold '#a': it begins with '#'"),
        ("lxc", "'a'", r"""an LXC configuration can't hold "'a'": quote, '#' or '\' at an end"""),
        ("pve", "a,firewall=0", "a PVE property can't hold ',', which is in 'a,firewall=0'"),
        ("nft", 'a"b', "nft can't hold '\"', which is in 'a\"b'"),
        ("nft", "$x", "nft can't hold '$', which is in '$x'"),
        ("nft", "eth*", "nft can't hold '*', which is in 'eth*'"),
        ("nft", "x" * 128, "nft can't hold 'xxxxxxxxxxxxxxxxxxxx'…: empty, or over 127 bytes"),
        ("nft", "", "nft can't hold ''…: empty, or over 127 bytes"),
        ("hosts", "a b", "/etc/hosts can't hold 'a b' as an address or a name"),
        ("hosts", "a#b", "/etc/hosts can't hold 'a#b' as an address or a name"),
        ("systemd_text", "a\\", r"a systemd setting can't end with a backslash, as 'a\\' does"),
        ("zone", "a..b", "a DNS zone can't hold 'a..b' as a name"),
        ("zone", "-a.b", "a DNS zone can't hold '-a.b' as a name"),
        ("zone", "a.*.b", "a DNS zone can't hold 'a.*.b' as a name"),
        ("zone", "a;b", "a DNS zone can't hold 'a;b' as a name"),
        ("zone", "a" * 64, f"a DNS zone can't hold '{'a' * 64}' as a name"),
        ("zone", "", "a DNS zone can't hold '' as a name"),
    ],
)
def test_what_a_target_can_t_hold_is_refused(name: str, value: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        QUOTING[name](value)


@given(HOSTILE)
def test_nft_reads_back_the_string(value: str) -> None:
    quoted = accepted(emit.nft, value)
    if quoted is not None:
        assert re.fullmatch(r'"[^"\n$*\\]+"', quoted)
        assert quoted[1:-1] == value


# PVE descriptions and DNS zones


@given(HOSTILE, HOSTILE)
def test_pve_reads_back_a_description(first: str, second: str) -> None:
    try:
        lines = emit.pve_comment(f"{first}\n{second}")
    except ValueError:
        assert re.search("[\0\ud800-\udfff]", first + second)
        return
    assert all(
        re.fullmatch("[\x20-\x24\x26-\x39\x3b-\x7e]*(%[0-9A-F]{2}[ -~]*)*", x) for x in lines
    )
    assert not any(":" in line for line in lines)
    decoded = "\n".join(urllib.parse.unquote(line, errors="strict") for line in lines)
    assert decoded == f"{first}\n{second}".rstrip("\n")


def test_pve_comments_as_pve_writes_them() -> None:
    assert emit.pve_comment("Gateway: 100 %\n\nfür alle\n") == (
        "Gateway%3A 100 %25",
        "",
        "f%C3%BCr alle",
    )
    assert emit.pve_comment("") == ()
    with pytest.raises(ValueError, match="a PVE description can't hold NUL"):
        emit.pve_comment("a\0")
    with pytest.raises(ValueError, match="a PVE description takes text, not 5"):
        emit.pve_comment(5)  # type: ignore[arg-type]


@given(HOSTILE | st.text(st.characters(exclude_categories=["C", "Z"]), min_size=200))
def test_a_zone_reads_back_the_text(value: str) -> None:
    quoted = accepted(emit.zone_text, value)
    if quoted is None:
        return
    data = b""
    for piece in re.findall(r'"((?:[^"\\]|\\.)*)"(?: |$)|(.)', quoted):
        assert not piece[1], "something outside of the quotes"
        parts = re.findall(r"\\([0-9]{3})|\\(.)|([ -~])", piece[0])
        string = bytes(int(d) if d else ord(escaped or plain) for d, escaped, plain in parts)
        assert len(string) <= 255
        data += string
    assert data.decode() == value


def test_zone_names_are_absolute() -> None:
    assert emit.zone("a.b") == emit.zone("a.b.") == "a.b."
    assert emit.zone("*.a-1.b") == "*.a-1.b."
    assert emit.zone("_acme-challenge.a.b") == "_acme-challenge.a.b."


# Templates


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
    from builder.emit.template import _finalize

    written = accepted(_finalize, value)
    assert written is None or re.fullmatch(r"[A-Za-z0-9_./:@+-]*", written)


def test_a_template_refuses_a_name_that_is_not_given(tmp_path: Path) -> None:
    with pytest.raises(jinja2.UndefinedError, match="'nobody' is undefined"):
        rendered(tmp_path, "{{ nobody }}")
    with pytest.raises(jinja2.UndefinedError, match="has no attribute 'x'"):
        rendered(tmp_path, "{{ value.x }}", value=Path())
    with pytest.raises(jinja2.TemplateNotFound, match="role/none"):
        emit.template("role/none", tmp_path)


# Data

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT
DATA = st.recursive(
    SCALARS, lambda d: st.lists(d) | st.dictionaries(TEXT, d, max_size=5), max_leaves=15
)
# Keys that look like something else to some reader of YAML; and text that YAML holds.
ODD_KEYS = st.sampled_from(
    ["on", "Y", "null", "~", "1e3", "0x1", "<<", "=", "-", "", "12:30", "_1"]
)
HELD = st.text(
    st.characters(
        exclude_categories=["Cs", "Cc", "Zl", "Zp"],
        exclude_characters="\ufeff\ufffe\uffff\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
    ),
    max_size=100,
)
MAPPINGS = st.dictionaries(
    ODD_KEYS | HELD,
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(10**15), 10**15)
        | HELD
        | HOSTILE.filter(str.isprintable),
        lambda d: st.lists(d) | st.dictionaries(ODD_KEYS | HELD, d, max_size=5),
        max_leaves=15,
    ),
    max_size=6,
)


@given(DATA)
def test_json_comes_back(data: object) -> None:
    text = emit.json_text(data)
    assert json.loads(text) == data
    assert text.endswith(b"\n")
    assert json.loads(emit.canonical(data)) == data


def test_json_is_sorted_and_readable() -> None:
    assert emit.json_text({"b": (1, None), "a": {"é": "/"}}) == (
        '{\n  "a": {\n    "é": "/"\n  },\n  "b": [\n    1,\n    null\n  ]\n}\n'.encode()
    )


def test_canonical_json_is_rfc_8785() -> None:
    # Section 3.2.3: keys in the order of UTF-16 code units, in which 😀 comes before דּ.
    keys = ["\u20ac", "\r", "\ufb33", "1", "😀", "\x80", "ö"]
    expected = ["\r", "1", "\x80", "ö", "\u20ac", "😀", "\ufb33"]
    assert list(json.loads(emit.canonical(dict.fromkeys(keys, 0)))) == expected
    assert emit.canonical({"b": [1, True], "a": 'é"\\\b\x1f\x7f'}) == (
        '{"a":"é\\"\\\\\\b\\u001f\x7f","b":[1,true]}'.encode()
    )


@given(MAPPINGS)
def test_yaml_comes_back_from_readers_of_both_versions(data: dict[str, object]) -> None:
    text = emit.yaml_text(data)
    assert yaml.safe_load(text) == data
    assert source.read("a.yaml", text) == data


def test_yaml_is_sorted_and_quoted() -> None:
    data: dict[str, Any] = {
        "http": {"routers": [{"rule": "Host(`a.b`)", "on": True}], "none": [], "empty": {}},
        "80": 'a "b" \\ #: é',
        "deep": [[1, ["x"]], {}, None],
    }
    assert emit.yaml_text(data).decode() == (
        '"80": "a \\"b\\" \\\\ #: é"\n'
        "deep:\n"
        "  - - 1\n"
        '    - - "x"\n'
        "  - {}\n"
        "  - null\n"
        "http:\n"
        "  empty: {}\n"
        "  none: []\n"
        "  routers:\n"
        '    - "on": true\n'
        '      rule: "Host(`a.b`)"\n'
    )


def test_yaml_lines_are_never_wrapped() -> None:
    assert emit.yaml_text({"a": "x " * 500}).count(b"\n") == 1


@pytest.mark.parametrize("character", ["\n", "\t", "\0", "\x85", "\u2028", "\ufeff", "\x7f"])
def test_yaml_refuses_control_characters(character: str) -> None:
    message = f"YAML can't hold U\\+{ord(character):04X}, which is in "
    for data in ({"a": [f"x{character}"]}, {f"x{character}": 1}):
        with pytest.raises(ValueError, match=message):
            emit.yaml_text(data)


def test_yaml_refuses_keys_that_a_reader_can_t_hold() -> None:
    long = "x-" * 250
    assert yaml.safe_load(emit.yaml_text({long: 1})) == {long: 1}
    with pytest.raises(ValueError, match="as a key: over 500"):
        emit.yaml_text({f"{long}x": 1})


@pytest.mark.parametrize("write", [emit.json_text, emit.canonical, emit.yaml_text])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"a": 1.5}, "1.5 is no data: neither text, integer, boolean, list nor mapping"),
        ({"a": float("nan")}, "nan is no data"),
        ({"a": [b"x"]}, "b'x' is no data"),
        ({"a": {1: 2}}, "a key must be text, not 1"),
        ({"a": {None: 2}}, "a key must be text, not None"),
        ({"a": 2**53}, "9007199254740992 is beyond 2^53"),
        ({"a": "\ud800"}, "surrogates not allowed|U\\+D800"),
    ],
)
def test_what_is_no_data_is_refused(
    write: Callable[[object], bytes], data: object, message: str
) -> None:
    pattern = message if "|" in message else re.escape(message)
    with pytest.raises(ValueError, match=pattern):
        write(data)

"""builder/emit/quote.py: a value, however hostile, stays a value.

Each target language is judged by a small reader of it, written from its own parser's rules: what
was quoted must be read back as that one value, with nothing after it.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
import subprocess
import urllib.parse

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from builder import emit
from builder.emit import Quoted, Raw
from tests.emit.hostile import CONTROLS, HOSTILE, PIECES, QUOTING, accepted


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

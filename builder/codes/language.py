"""Codes of what is wrong with a document by itself: its YAML, and its shape."""

from __future__ import annotations

from builder.codes.code import Code

YAML = {
    "yaml-syntax": Code(
        "The text is not YAML.",
        "Nothing after this place can be read for sure. Mostly a quote or bracket is not closed, a "
        "line is indented otherwise than its neighbours, or a value holds `: ` and needs quotes.",
    ),
    "yaml-encoding": Code(
        "The file is not UTF-8.",
        "The same bytes would be other letters on another machine. Save the file as UTF-8; every "
        "editor can.",
    ),
    "yaml-control-character": Code(
        "A character that nobody sees.",
        "A byte order mark inside of the text, a lone carriage return or an override of the "
        "writing direction makes a reviewer read something else than a program does. It would end "
        "up in files of programs that take it for the end of a line.",
    ),
    "yaml-not-a-mapping": Code(
        "The file does not hold `key: value` lines.",
        "A site or host is a mapping at its root. An empty file, a list or a single text is not.",
    ),
    "yaml-multiple-documents": Code(
        "A second document in one file.",
        "Readers of YAML differ about which of several documents counts. Write one per file.",
    ),
    "yaml-duplicate-key": Code(
        "A key that is in its mapping twice.",
        "Most readers silently take the last and drop the first, so a change to the first does "
        "nothing. Merge the two.",
    ),
    "yaml-key": Code(
        "A key that is no text.",
        "Keys are names. What YAML takes for a number, a boolean or a list is quoted where a name "
        "is meant.",
    ),
    "yaml-merge-key": Code(
        "A merge key (`<<`).",
        "YAML 1.2 has none, and readers differ about it. A host takes over another by `like`, and "
        "guests share settings by `defaults`.",
    ),
    "yaml-anchor": Code(
        "An anchor or alias.",
        "What a reader sees at one place would be said at another. A host takes over another by "
        "`like`, and guests share settings by `defaults`.",
    ),
    "yaml-tag": Code(
        "A tag such as `!!str`.",
        "Tags make programs build other things than what is written. Quotes make a text of "
        "anything.",
    ),
    "yaml-octal": Code(
        "A number that some read as octal.",
        "`0660` is 660 to one reader of YAML and 432 to the next. A mode is text: quote it.",
    ),
    "yaml-number": Code(
        "A number that readers write differently.",
        "`1_000`, `1e3` and `0x1f` are numbers to some readers of YAML and text to others. Write "
        "plain decimals, and quote what is text.",
    ),
    "yaml-too-deep": Code(
        "Nesting beyond any use.",
        "No document of this language is nested more than a few levels deep. Some programs that "
        "read such a file run out of memory.",
    ),
    "yaml-too-large": Code(
        "A file beyond any use.",
        "A host with a thousand guests takes less than a tenth of this. Something else was written "
        "to the file.",
    ),
}

SHAPE = {
    "unknown-key": Code(
        "A key that the language does not have here.",
        "A misspelt key would silently do nothing. The reference lists those of each place.",
    ),
    "missing-key": Code(
        "A key that must be there is not.",
        "There is no sensible default for it.",
    ),
    "wrong-type": Code(
        "A value of another type.",
        "A text stands where a number is expected, or the other way round, or nothing at all. Text "
        "that looks like a number or boolean is put in quotes.",
    ),
    "wrong-value": Code(
        "A value that is none of those possible.",
        "The message names the nearest, or all of them.",
    ),
    "wrong-format": Code(
        "A text that is not in the form expected.",
        "The text goes into files of other programs, each with a grammar of its own. What does not "
        "fit here would be refused or misread there.",
    ),
    "out-of-range": Code(
        "A number, length or size outside of its limits.",
        "The program that gets the value would refuse it, or cut it off.",
    ),
    "too-few": Code(
        "A list or mapping with too few entries.",
        "An empty list mostly says the opposite of what is meant: no callers at all, or no DNS "
        "server. Leave the key out instead.",
    ),
    "too-many": Code(
        "A list with too many entries.",
        "The programs that get it read only the first few: a resolver asks three servers and never "
        "looks at a fourth.",
    ),
    "duplicate-item": Code(
        "The same entry twice in a list.",
        "One of the two has no effect; mostly another was meant.",
    ),
}

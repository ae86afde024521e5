"""What reaches a terminal from a foreign text: letters, and nothing that steers."""

import logging
import re
import unicodedata
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.printable import Formatter, PrintableStream, printable, say

STEERS = {
    "\x1b[31mred\x1b[0m": r"\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07": r"\x1b]0;title\x07",
    "\x9b2J": r"\x9b2J",
    "a\bb\rc\0d\x7f": r"a\x08b\rc\x00d\x7f",
    "\u202egnp.exe": r"\u202egnp.exe",
    "\u2066in\u2069": r"\u2066in\u2069",
    "line\u2028line": r"line\u2028line",
    "caf\udce9": r"caf\udce9",
}
STAYS = (
    "two\nlines\tand a tab",
    "سلام שלום",
    "👩\u200d👩\u200d👧\u200d👦 🏳\ufe0f\u200d🌈",
    "e\u0301 \u200f. 漢字 \\x1b \\[x^2\\] [/bold] :smile:",
)


@pytest.mark.parametrize(("text", "shown"), STEERS.items())
def test_what_steers_a_terminal_is_written_out(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize("text", STAYS)
def test_letters_signs_and_joined_emoji_stay(text):
    assert printable(text) == text


@given(st.text(st.characters(), max_size=30))
def test_no_control_is_left_and_nothing_else_is_lost(text):
    shown = printable(text)
    shown.encode()
    kinds = {c: unicodedata.category(c) for c in set(shown) - {"\n", "\t"}}
    assert not {"Cc", "Cs", "Zl", "Zp"} & set(kinds.values())
    directions = {unicodedata.bidirectional(c) for c in shown}
    assert not {"RLO", "LRO", "RLE", "LRE", "PDF", "RLI", "LRI", "FSI", "PDI"} & directions
    assert printable(shown) == shown
    if "\\" not in text:
        escape = re.compile(r"\\(?:x..|u....|r)")
        assert escape.sub(lambda e: e[0].encode().decode("unicode_escape"), shown) == text


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "cp437"])
def test_what_an_encoding_lacks_is_written_out(encoding):
    shown = printable("é ─ 漢 👩 \x1b", encoding)
    assert shown.encode(encoding).decode(encoding) == shown
    assert ("é" in shown) == (encoding != "ascii")
    assert ("漢" in shown) == (encoding == "utf-8")


def test_what_others_print_and_log_goes_through_it():
    out = StringIO()
    stream = PrintableStream(out)
    print("\x1b[2J", file=stream, flush=True)
    say("\u202e", out)
    record = logging.LogRecord("", logging.INFO, "", 0, "#0 : %s", ("a=\x1b",), None)
    assert out.getvalue() == "\\x1b[2J\n\\u202e\n"
    assert Formatter().format(record) == r"#0 : a=\x1b"

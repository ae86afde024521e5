"""A foreign text within Markdown cannot become anything but a text."""

import pytest

from harness.reports.markdown import one_line, quoted


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a | b", r"a \| b"),
        ("`x` *y* _z_", r"\`x\` \*y\* \_z\_"),
        ("# no heading\n\n- no list", r"\# no heading - no list"),
        ("<script>", r"\<script\>"),
        ("[a](b) &amp;", r"\[a\](b) \&amp;"),
        ("$x^{$", r"\$x^{\$"),
        ("a\x1b[31m\u202e", r"a\\x1b\[31m\\u202e"),
        ("\udce9", r"\\udce9"),
        ("tab\tand\r\nline\u2028break", "tab and line break"),
    ],
)
def test_a_text_is_one_line_of_plain_words(text, written):
    assert one_line(text) == written


def test_a_fence_shows_a_text_and_cannot_be_closed():
    shown = quoted("```\n# out\x1b[2J $x^{$ | \udce9")
    shown.encode()
    first, *inner, last = shown.splitlines()
    assert first == "````text"
    assert last == "````"
    assert inner == [r"``` # out\x1b[2J $x^{$ | \udce9"]

"""Foreign texts inside Markdown: on one line, or in a fence that they cannot close."""

import re
import textwrap

from harness.printable import printable

SHOWN = 300  # characters of a text


def quoted(text: str) -> str:
    """A text in a fence that nothing in it can close, on lines of 96 characters, shortened."""
    text = shortened(one_line(text, escape=False), SHOWN)
    return fenced(textwrap.fill(text, 96, break_on_hyphens=False), "text")


def shortened(text: str, longest: int) -> str:
    """A text of more than `longest` characters without its middle."""
    if len(text) <= longest:
        return text
    return f"{text[: longest * 2 // 3]} […] {text[-longest // 3 :]}"


def fenced(text: str, language: str) -> str:
    """A text in a fence that nothing in it can close."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"


def one_line(text: str, escape: bool = True) -> str:
    """Without line breaks, control characters written out; `escape`: Markdown sees plain words."""
    text = printable(" ".join(text.split()))
    return re.sub(r"([\\`*_\[\]<>|#&~$])", r"\\\1", text) if escape else text

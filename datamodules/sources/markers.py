"""Marks in a text that say who speaks from there on, and where such marks are only quoted.

A marker opens a line (or is a special token) and says who speaks; "Human:" in the middle of a
sentence is a word, and so is a heading.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

ROLES = {
    **dict.fromkeys(("human", "user", "instruction", "prompter", "[inst]"), "user"),
    **dict.fromkeys(("assistant", "ai", "bot", "model", "response", "chatbot"), "assistant"),
    "[/inst]": "assistant",
    "system": "system",
}
# Ways in which dialogues are written, the most telling first.
TOKENS = re.compile(
    r"(?:<\|im_start\|>|<\|start_header_id\|>|<start_of_turn>|<\|(?=\w+\|>))"
    r"(user|assistant|system|model|prompter)(?:<\|end_header_id\|>|<\|im_sep\|>|\|>)?"
    r"[ \t]*(?:\n|$|(?<=>))\n?"
    r"|(?:<\|START_OF_TURN_TOKEN\|>)?<\|(USER|CHATBOT|SYSTEM)_TOKEN\|>"
    r"|<\|start_of_role\|>(user|assistant|system)<\|end_of_role\|>"
    r"|<\|start\|>(user|assistant|system)(?:<\|channel\|>\w+)?(?:<\|message\|>|\Z)"
    r"|<\N{FULLWIDTH VERTICAL LINE}(User|Assistant)\N{FULLWIDTH VERTICAL LINE}>"
)
INST = re.compile(r"(\[/?INST\])")
SECTIONS = re.compile(
    r"(?:\A|(?<=\n))[ \t]*#{2,3} ?(Human|User|Instruction|Assistant|Response|System):"
)
HH = re.compile(r"(?:\A\s*|\n[ \t]*\n[ \t]*)(Human|Assistant):")
SPEAKERS = "Human|User|Assistant|AI|Bot|System|HUMAN|USER|ASSISTANT|SYSTEM"
LINES = re.compile(rf"(?:\A|(?<=\n))[ \t]*({SPEAKERS}):")
ONE_LINE = re.compile(r"(?:\A|(?<=\s)|(?<=</s>))(USER|ASSISTANT):")  # Vicuna's
DIALECTS = (TOKENS, INST, SECTIONS, HH, LINES, ONE_LINE)
OF_TOKENS = (TOKENS, INST)
# What a text must have for its markers to be looked for: most have none of it.
NEEDED = {
    TOKENS: ("<|", "<start_of_turn>", "<\N{FULLWIDTH VERTICAL LINE}"),
    INST: ("[/INST]",),
    SECTIONS: ("##",),
    HH: ("Human:", "Assistant:"),
    LINES: tuple(f"{name}:" for name in SPEAKERS.split("|")),
    ONE_LINE: ("USER:", "ASSISTANT:"),
}
# Tokens that end a turn. DeepSeek's has a bar and spaces of its own.
ENDS = (
    *("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|return|>", "<end_of_turn>", "</s>"),
    *("<|endoftext|>", "<|end_of_text|>", "<|END_OF_TURN_TOKEN|>", "<eos>", "<pad>"),
    "<\N{FULLWIDTH VERTICAL LINE}end\u2581of\u2581sentence\N{FULLWIDTH VERTICAL LINE}>",
)
# Tokens with which a text begins before anybody speaks, and any that may stand there.
START = re.compile(
    r"\s*(?:(?:<s>|<bos>|<BOS_TOKEN>|<sop>|\[gMASK\]|<\|begin_of_text\|>|<\|startoftext\|>"
    r"|<\|endoftext\|>|<\N{FULLWIDTH VERTICAL LINE}begin[^<>\s]{1,40}>)[ \t]*)+"
)
SPECIAL = re.compile(r"(?:\s|<s>|<\|[^|<>\s]{1,40}\|>)*")
FENCE = re.compile(
    r"^[ \t>]*(?:(?:[-*+]|\d{1,3}[.)])[ \t]+)?(`{3,}(?=[^`\n]*$)|~{3,})(.*)$", re.MULTILINE
)
PRE = re.compile(r"<pre\b.*?(?:</pre>|\Z)", re.DOTALL | re.IGNORECASE)
INDENT = 4  # spaces before a line of code, in Markdown
HEADING = re.compile(r"#{1,6} \S|(\*{1,3}|_{1,3})[^*_]+\1\Z")
RULE = re.compile(r"(?:-{3,}|={3,}|\*{3,}|_{3,})\Z")
TAG = re.compile(r"<(?!s>)[A-Za-z][^<>/|]*>\Z")
SENTENCE_ENDS = (".", "!", "?", "\u2026", "\u3002", "\uff01", "\uff1f")


class Marker(NamedTuple):
    """Who speaks from `end` on, by a marker that begins at `start`."""

    role: str
    start: int
    end: int


def markers(dialect: re.Pattern, text: str) -> Iterator[Marker]:
    found = dialect.finditer(text) if any(part in text for part in NEEDED[dialect]) else ()
    for match in found:
        name = next(group for group in match.groups() if group)
        yield Marker(ROLES[name.lower()], match.start(), match.end())


def without_end(text: str) -> str:
    """A turn without the tokens that end it."""
    text = text.rstrip()
    while ended := next((end for end in ENDS if text.endswith(end)), None):
        text = text.removesuffix(ended).rstrip()
    return text


def without_start(text: str) -> str:
    """A text without the tokens with which a model's texts begin."""
    found = START.match(text)
    return text[found.end() :] if found else text


def words_before(text: str) -> str:
    """What is said before the first marker; tokens that begin every text are no words."""
    return text[SPECIAL.match(text).end() :].strip()


def code_spans(text: str) -> list[tuple[int, int]]:
    """Where blocks of code begin and end; one that is not closed goes to the end of the text."""
    spans = [match.span() for match in PRE.finditer(text)] if "<pre" in text.lower() else []
    opened: tuple[str, int] | None = None
    for match in FENCE.finditer(text) if "```" in text or "~~~" in text else ():
        fence, rest = match.groups()
        if opened is None:
            opened = (fence, match.start())
        elif fence.startswith(opened[0]) and not rest.strip():
            spans.append((opened[1], match.end()))
            opened = None
    return spans if opened is None else [*spans, (opened[1], len(text))]


def is_code(text: str, marker: Marker, spans: list[tuple[int, int]]) -> bool:
    """Whether a marker stands in a block of code, or on an indented line of it."""
    line = text[text.rfind("\n", 0, marker.end) + 1 : marker.end]
    indent = len(line.expandtabs(INDENT)) - len(line.expandtabs(INDENT).lstrip())
    return indent >= INDENT or any(start <= marker.start < end for start, end in spans)


def announces(before: str) -> bool:
    """Whether a text ends with a colon, dash, heading or opening tag, to which more belongs."""
    *above, last = [line.strip() for line in before.rstrip().rsplit("\n", 3)]
    if RULE.match(last):  # one below a line makes it a heading
        if above and above[-1]:
            return not ends_a_sentence(above[-1])
        last = above[-2] if len(above) > 1 else ""
    told = last.rstrip("*_\"'` ").endswith((":", "\uff1a", "\u2013", "\u2014"))
    return told or bool(HEADING.match(last)) or bool(TAG.match(last) and not last.endswith(ENDS))


def ends_a_sentence(text: str) -> bool:
    return text.rstrip("\"'*_)` \n\u201d").endswith((*SENTENCE_ENDS, *ENDS))

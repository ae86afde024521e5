"""Dialogues that are written as one text: "\\n\\nHuman: ...\\n\\nAssistant: ..." and its kin.

A marker opens a line (or is a special token) and says who speaks; "Human:" in the middle of a
sentence is a word, and so is a heading.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from datamodules.records import Message

TURN = re.compile(r"\n\n(Human|Assistant):")
ASSISTANT = "\n\nAssistant:"
# In some of HH-RLHF's responses the blank line before the next turn has become two spaces.
FURTHER = re.compile(r"\n\n(?:Human|Assistant):|(?<=\S) {2,}(?:Human|Assistant): ")
ROLES = {
    **dict.fromkeys(("human", "user", "instruction"), "user"),
    **dict.fromkeys(("assistant", "ai", "bot", "model", "response"), "assistant"),
    "system": "system",
}
# Ways in which dialogues are written, the most telling first.
TOKENS = re.compile(
    r"(?:<\|im_start\|>|<\|start_header_id\|>|<start_of_turn>|<\|(?=\w+\|>))"
    r"(user|assistant|system|model)(?:<\|end_header_id\|>|\|>)?[ \t]*(?:\n|$|(?<=>))\n?"
)
ENDS = ("<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "</s>")
SECTIONS = re.compile(
    r"(?:\A|(?<=\n))[ \t]*#{2,3} ?(Human|User|Instruction|Assistant|Response|System):"
)
HH = re.compile(r"(?:\A\s*|\n[ \t]*\n[ \t]*)(Human|Assistant):")
SPEAKERS = "Human|User|Assistant|AI|Bot|System|HUMAN|USER|ASSISTANT|SYSTEM"
LINES = re.compile(rf"(?:\A|(?<=\n))[ \t]*({SPEAKERS}):")
DIALECTS = (TOKENS, SECTIONS, HH, LINES)
# What a text must have for its markers to be looked for: most have none of it.
NEEDED = {
    TOKENS: ("<|", "<start_of_turn>"),
    SECTIONS: ("##",),
    HH: ("Human:", "Assistant:"),
    LINES: tuple(f"{name}:" for name in SPEAKERS.split("|")),
}
ANY_SPEAKER = re.compile(r"\n[ \t]*(\w[\w ]{0,30}):")
FENCE = "```"


class Marker(NamedTuple):
    """Who speaks from `end` on, by a marker that begins at `start`."""

    role: str
    start: int
    end: int


class Parted(NamedTuple):
    """Two transcripts: the turns that they share, how each goes on, and of how many of these two
    responses further turns were cut off.
    """

    turns: tuple[Message, ...]
    chosen: str
    rejected: str
    cut: int


def split_transcripts(chosen: str, rejected: str) -> Parted | None:
    """Two transcripts, cut at the last assistant turn that begins in their common prefix, and each
    at the next marker after it.

    All without space around it; None where the texts are no transcripts that share a beginning.
    """
    chosen, rejected = _from_first_marker(chosen), _from_first_marker(rejected)
    shared = 0
    while chosen[shared : shared + 1] == rejected[shared : shared + 1] != "":
        shared += 1
    cut = chosen.rfind(ASSISTANT, 0, shared)
    if cut < 0 or not chosen.startswith("\n\nHuman:"):
        return None
    start = cut + len(ASSISTANT)
    pieces = TURN.split(chosen[:cut])[1:]  # role, content, role, content, ...
    turns = tuple(
        Message(ROLES[role.lower()], content.strip())
        for role, content in zip(pieces[::2], pieces[1::2], strict=True)
    )
    parts = [FURTHER.split(text[start:], maxsplit=1) for text in (chosen, rejected)]
    responses = [part[0].strip() for part in parts]
    return Parted(turns, *responses, cut=sum(len(part) > 1 for part in parts))


def _from_first_marker(text: str) -> str:
    """Some copies have lost the blank line at the beginning."""
    return f"\n\n{text.lstrip()}" if text.lstrip().startswith("Human:") else text


def conversation(text: str) -> tuple[Message, ...] | None:
    """The turns of a prompt that is a transcript and ends with the user; None for any other text.

    The marker at its end, with which an assistant is asked to speak, is dropped.
    """
    for dialect in DIALECTS:
        if turns := _turns(text, list(_markers(dialect, text)), dialect):
            return turns
    return None


def after_turns(text: str, turns: tuple[Message, ...]) -> str | None:
    """What a transcript that begins with these turns goes on with; None for any other text."""
    spoken = tuple(turn for turn in turns if turn.role != "system")
    for dialect in DIALECTS:
        markers = list(_markers(dialect, text))
        if not markers or text[: markers[0].start].strip():
            continue
        # As many turns as the prompt has, and the assistant's.
        first = len(turns) - len(spoken) if markers[0].role == "system" else 0
        if len(markers) > first + len(spoken):
            end = markers[first + len(spoken)].end
            if conversation(text[:end]) in (turns, spoken):
                return text[end:].strip()
    return None


def _markers(dialect: re.Pattern, text: str) -> Iterator[Marker]:
    found = dialect.finditer(text) if any(part in text for part in NEEDED[dialect]) else ()
    for match in found:
        name = next(group for group in match.groups() if group)
        yield Marker(ROLES[name.lower()], match.start(), match.end())


def _turns(text: str, markers: list[Marker], dialect: re.Pattern) -> tuple[Message, ...] | None:
    if not markers:
        return None
    asked = markers[-1].role == "assistant" and not text[markers[-1].end :].strip()
    ends = [marker.start for marker in markers[1:]] + [len(text)]
    said = _without_end if dialect is TOKENS else str
    turns = [
        Message(marker.role, said(text[marker.end : end]).strip())
        for marker, end in zip(markers, ends, strict=True)
    ][: -1 if asked else None]
    if before := text[: markers[0].start].strip():
        # Without a question to the assistant it is a text with a dialogue in it, and "Assistant:"
        # may be the last field of a form.
        form = len(markers) == 1 and dialect is LINES and _is_form(before, text)
        if not asked or form:
            return None
        turns.insert(0, Message("user" if markers[0].role == "assistant" else "system", before))
    begins = dialect is TOKENS or text.startswith("\n\nHuman:")
    is_one = _alternate([turn.role for turn in turns]) and (asked or begins or len(turns) > 1)
    return tuple(turns) if is_one else None


def _is_form(before: str, text: str) -> bool:
    """Whether "Assistant:" at the end of a text may be a field to fill in, and not a marker."""
    return before.endswith(":") or not text.rstrip().lower().endswith("assistant:")


def _alternate(roles: list[str]) -> bool:
    """Whether user and assistant take turns up to one of the user, after a system turn or none."""
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    return spoken == [("user", "assistant")[i % 2] for i in range(len(spoken))] and (
        len(spoken) % 2 == 1
    )


def until_next_turn(text: str) -> str:
    """A response up to where it goes on with a turn of the user: models that were not stopped, and
    careless extraction, leave such turns behind.

    A turn of the user is a marker at the beginning of a line, outside of a block of code. It is
    none where the text before it announces it with a colon, and where the next one to speak is no
    assistant: that is a dialogue which the response tells.
    """
    cuts = [_cut(text, dialect) for dialect in DIALECTS]
    end = min((cut for cut in cuts if cut is not None), default=None)
    return text if end is None else _without_end(text[:end])


def _without_end(text: str) -> str:
    """A turn without the tokens that end it."""
    text = text.rstrip()
    while ended := next((end for end in ENDS if text.endswith(end)), None):
        text = text.removesuffix(ended).rstrip()
    return text


def _cut(text: str, dialect: re.Pattern) -> int | None:
    """Where the first turn of the user begins, in this way of writing."""
    marker = next(_markers(dialect, text), None)
    if marker is None or marker.role != "user":
        return None
    before = text[: marker.start].rstrip()
    if before.endswith(":") or before.count(FENCE) % 2:
        return None
    if not (before or dialect is TOKENS or text.startswith("\n\nHuman:")):
        return None  # it begins as a dialogue that it tells
    if dialect is TOKENS:
        opens = before.endswith(ENDS) or text[: marker.start].endswith("\n")
        return marker.start if opens else None
    following = ANY_SPEAKER.search(text, marker.end)
    if following is None:
        # "User: root" may be anything.
        return None if dialect is LINES else marker.start
    return marker.start if ROLES.get(following[1].lower()) == "assistant" else None

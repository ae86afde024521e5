"""Dialogues that are written as one text: "\\n\\nHuman: ...\\n\\nAssistant: ..." and its kin."""

import re
from typing import NamedTuple

from datamodules.records import Message
from datamodules.sources.markers import (
    DIALECTS,
    ENDS,
    HH,
    INST,
    LINES,
    OF_TOKENS,
    ONE_LINE,
    ROLES,
    SECTIONS,
    TOKENS,
    Marker,
    announces,
    code_spans,
    ends_a_sentence,
    is_code,
    markers,
    without_end,
    without_start,
    words_before,
)

TURN = re.compile(r"\n\n(Human|Assistant):")
ASSISTANT = "\n\nAssistant:"
# In some of HH-RLHF's responses the blank line before the next turn has become two spaces.
FURTHER = re.compile(r"\n\n(?:Human|Assistant):|(?<=\S) {2,}(?:Human|Assistant): ")
NAMED = re.compile(r"\s*(?:#{2,3} ?|\*\*)?(?:Assistant|AI|Bot|Response)(?::\*\*|\*\*:|:)\s*", re.I)
ANY_SPEAKER = re.compile(r"\n[ \t]*(?:#{2,3} ?)?(?!Input:)(\w[\w ]{0,30}):")
SYSTEM = re.compile(r"\s*<<SYS>>(.*?)<</SYS>>", re.DOTALL)
TAGGED = re.compile(r"\[SYSTEM_PROMPT\](.*)\[/SYSTEM_PROMPT\]\Z", re.DOTALL)  # Mistral's
NO_THOUGHT = re.compile(r"\s*(?:<think>\s*</think>\s*)?\Z")
# What may go on in the assistant's turn that a prompt has begun, where it is no special token.
ONE_PARAGRAPH = {SECTIONS: "\n\n", HH: "\n\n", LINES: "\n", ONE_LINE: "\n"}


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
    text = without_start(text)
    for dialect in DIALECTS:
        if turns := _turns(text, list(markers(dialect, text)), dialect):
            return turns
    return None


def after_turns(text: str, turns: tuple[Message, ...]) -> str | None:
    """What a transcript that begins with these turns goes on with; None for any other text."""
    text = without_start(text)
    spoken = tuple(turn for turn in turns if turn.role != "system")
    for dialect in DIALECTS:
        found = list(markers(dialect, text))
        if not found or words_before(text[: found[0].start]):
            continue
        # As many turns as the prompt has, and the assistant's.
        first = len(turns) - len(spoken) if found[0].role == "system" else 0
        if len(found) > first + len(spoken):
            end = found[first + len(spoken)].end
            if conversation(text[:end]) in (turns, spoken):
                return text[end:].strip()
    return None


def begun(text: str) -> str | None:
    """What the assistant says already at the end of a transcript; None for any other text."""
    text = without_start(text)
    for dialect in DIALECTS:
        found = list(markers(dialect, text))
        if not found or found[-1].role != "assistant":
            continue
        before = words_before(text[: found[0].start])
        if before and (dialect in (INST, HH, LINES) or announces(before)):
            continue
        roles = [marker.role for marker in found]
        said = text[found[-1].end :].strip()
        # Words in a paragraph of their own may be about a dialogue that the prompt shows.
        about = ONE_PARAGRAPH.get(dialect, "\0") in said and not text.startswith("\n\nHuman:")
        if _alternate(roles[:-1]) and said and not about:
            return said
    return None


def tells_dialogue(text: str) -> bool:
    """Whether a text that is no transcript has a dialogue of user and assistant in it, which ends
    with the assistant.
    """
    for dialect in DIALECTS:
        roles = [marker.role for marker in markers(dialect, text)]
        if roles and roles[-1] == "assistant" and _alternate(roles[:-1]):
            return True
    return False


def _turns(text: str, found: list[Marker], dialect: re.Pattern) -> tuple[Message, ...] | None:
    if not found:
        return None
    asked = found[-1].role == "assistant" and bool(NO_THOUGHT.match(text, found[-1].end))
    ends = [marker.start for marker in found[1:]] + [len(text)]
    said = _without_tokens if dialect in (*OF_TOKENS, ONE_LINE) else str
    turns = [
        Message(marker.role, said(text[marker.end : end]).strip())
        for marker, end in zip(found, ends, strict=True)
    ][: -1 if asked else None]
    if before := words_before(text[: found[0].start]):
        if not asked or _is_about(before, text, found, dialect):
            return None
        before = TAGGED.sub(r"\1", before).strip() if dialect is INST else before
        turns.insert(0, Message("user" if found[0].role == "assistant" else "system", before))
    if dialect is INST:
        turns = _with_their_system(turns)
    begins = dialect is TOKENS or text.startswith("\n\nHuman:")
    is_one = _alternate([turn.role for turn in turns]) and (asked or begins or len(turns) > 1)
    return tuple(turns) if is_one else None


def _is_about(before: str, text: str, found: list[Marker], dialect: re.Pattern) -> bool:
    """Whether a text with words before its first marker is one about a dialogue, although it ends
    with a question to the assistant; then "Assistant:" may also be the last field of a form.
    """
    if dialect is INST:
        return not TAGGED.match(before)
    if dialect is HH and LINES.match(before):
        return True  # somebody speaks there already
    if dialect is ONE_LINE:
        return found[0].role == "assistant" or not ends_a_sentence(before)
    return len(found) == 1 and dialect is LINES and _is_form(before, text)


def _with_their_system(turns: list[Message]) -> list[Message]:
    """Turns of which the first holds the system message (Llama 2)."""
    system = SYSTEM.match(turns[0].content) if turns else None
    if system is None:
        return turns
    question = Message("user", turns[0].content[system.end() :].strip())
    return [Message("system", system[1].strip()), question, *turns[1:]]


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

    A turn of the user is a marker at the beginning of a line, outside of code. It is none where the
    text before it announces it with a colon or a heading, and where the next one to speak is no
    assistant: that is a dialogue which the response tells.
    """
    cuts = [_cut(text, dialect) for dialect in DIALECTS]
    end = min((cut for cut in cuts if cut is not None), default=None)
    return text if end is None else _without_tokens(text[:end])


def _without_tokens(text: str) -> str:
    """A turn without the tokens that end it, and those that begin the next one (Llama 2)."""
    ended = without_end(text)
    return without_end(ended.removesuffix("<s>")) if ended.endswith("<s>") else ended


def without_marker(text: str) -> str | None:
    """A response without the assistant's marker, or the token, that it begins with; None if it has
    none.
    """
    rest = without_start(text)
    if named := NAMED.match(rest):
        return rest[named.end() :]
    for dialect in OF_TOKENS:
        first = next(markers(dialect, rest), None)
        if first and first.role == "assistant" and not words_before(rest[: first.start]):
            return rest[first.end :].lstrip()
    return None if rest == text else rest.lstrip()


def _cut(text: str, dialect: re.Pattern) -> int | None:
    """Where the first turn of the user begins, in this way of writing."""
    found = markers(dialect, text)
    if first := next(found, None):
        spans = code_spans(text)
        while first and is_code(text, first, spans):
            first = next(found, None)
    if first is None or first.role != "user":
        return None
    before = text[: first.start].rstrip()
    if announces(before):
        return None
    if not (before or dialect is TOKENS or text.startswith("\n\nHuman:")):
        return None  # it begins as a dialogue that it tells
    if dialect in OF_TOKENS or dialect is ONE_LINE:
        return first.start if _opens(text, first, dialect) else None
    following = ANY_SPEAKER.search(text, first.end)
    if following is None:
        # "User: root" may be anything, and "Human: mistakes" the last point of a list.
        asks = ends_a_sentence(before) or not before or not text[first.end :].strip()
        return first.start if asks and dialect is not LINES else None
    return first.start if ROLES.get(following[1].lower()) == "assistant" else None


def _opens(text: str, first: Marker, dialect: re.Pattern) -> bool:
    """Whether a token of the user opens a turn, and is not a word of a sentence."""
    before = text[: first.start].rstrip()
    if dialect is not TOKENS:
        return ends_a_sentence(before.removesuffix("<s>").rstrip()) and any(
            marker.role == "assistant" for marker in markers(dialect, text[first.end :])
        )
    if before.endswith(ENDS):
        return True
    # What is said after the last turn has ended is about the turns.
    last = max(text.rfind(end) for end in ENDS)
    quoted = last >= 0 and without_end(text) == text.rstrip() and not _speaks(text[last:])
    return text[: first.start].endswith("\n") and not quoted


def _speaks(text: str) -> bool:
    return next(markers(TOKENS, text), None) is not None

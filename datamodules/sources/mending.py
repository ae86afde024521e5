"""Responses that hold more than a response: their prompt once more, turns that followed, tokens."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from datamodules.sources.cleaning import (
    CUT_ENDS,
    CUT_MARKERS,
    CUT_REPEATS,
    CUT_TURNS,
    KEPT_REPEATS,
)
from datamodules.sources.lessons import Lesson
from datamodules.sources.markers import without_end
from datamodules.sources.transcripts import after_turns, until_next_turn, without_marker

# Two answers to one prompt may both begin as it does, by chance or because it is the beginning of a
# sentence. That a share of the rows does so, and more than one, is the layout of a file.
LAYOUT, FEWEST = 0.1, 2
ASKED = re.compile(r"\s*(?:#{2,3} ?)?(?:Assistant|ASSISTANT|AI|Bot|Response):\s*")


class Layout(NamedTuple):
    """What the responses of a file have that is none of their words."""

    repeats: bool
    markers: bool
    ends: bool


def mend(lessons: Sequence[Lesson], counts: Counter[str]) -> None:
    """Cut the prompt off responses that repeat it, what goes on after the response, and what a chat
    format puts around it; counted.

    Text with which a response begins is taken for its prompt where the file has that layout: where
    in a tenth of its rows all responses begin with their prompt. Otherwise such responses are kept,
    and counted as kept. A response that is a transcript of its prompt is always cut. A marker at
    the beginning and tokens at the end are cut where most rows have them.
    """
    repeating = [lesson for lesson in lessons if all(_repeats(lesson))]
    layout = Layout(
        repeats=len(repeating) >= max(FEWEST, LAYOUT * len(lessons)),
        markers=_most(lessons, lambda response: without_marker(response) is not None),
        ends=_most(lessons, lambda response: without_end(response) != response.rstrip()),
    )
    found: Counter[str] = Counter()
    for lesson in lessons:
        found[CUT_TURNS] += lesson.told.cut
        lesson.responses = [
            _mended(response, repeated, lesson, layout, found)
            for response, repeated in zip(lesson.responses, _repeats(lesson), strict=True)
        ]
    counts.update(+found)


def _most(lessons: Sequence[Lesson], has: Callable[[str], bool]) -> bool:
    """Whether this is so of a response in more than half of the rows."""
    return sum(any(map(has, lesson.responses)) for lesson in lessons) > len(lessons) / 2


def _mended(
    response: str, repeated: str, lesson: Lesson, layout: Layout, found: Counter[str]
) -> str:
    """A response without what does not belong to it; `repeated` is what it begins with of its
    prompt.
    """
    rest = after_turns(response, lesson.prompt.messages)
    is_transcript = rest is not None
    if repeated and layout.repeats and not is_transcript:
        rest = _without(repeated, response)
    found[CUT_REPEATS] += rest is not None
    found[KEPT_REPEATS] += bool(repeated) and rest is None
    marked = without_marker(response) if rest is None and layout.markers else None
    found[CUT_MARKERS] += marked is not None
    whole = next(text for text in (rest, marked, response) if text is not None)
    ended = until_next_turn(whole)
    found[CUT_TURNS] += ended != whole
    if not (is_transcript or layout.ends) or without_end(ended) == ended.rstrip():
        return ended
    found[CUT_ENDS] += 1
    return without_end(ended)


def _repeats(lesson: Lesson) -> list[str]:
    """What each response begins with of its prompt: all its text, or the last turn; or "".

    The last turn must end with a word there: it may be short.
    """
    whole = (lesson.repeatable or "").strip()
    last = lesson.prompt.messages[-1].content.strip()
    found = []
    for text in map(str.lstrip, lesson.responses):
        if whole and text.startswith(whole):
            found.append(whole)
        else:
            is_turn = last and text.startswith(last) and not text[len(last) :][:1].isalnum()
            found.append(last if is_turn else "")
    return found


def _without(text: str, response: str) -> str:
    """What comes after the prompt, and after the marker that asks for it."""
    rest = response.lstrip()[len(text.strip()) :]
    return ASKED.sub("", rest, count=1) if ASKED.match(rest) else rest.lstrip()

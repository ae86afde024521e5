"""Responses that hold more than a response: their prompt once more, or the turns that followed."""

import re
from collections import Counter
from collections.abc import Sequence

from datamodules.sources.cleaning import CUT_REPEATS, CUT_TURNS, KEPT_REPEATS
from datamodules.sources.lessons import Lesson
from datamodules.sources.transcripts import after_turns, until_next_turn

# Two answers to one prompt may both begin as it does, by chance or because it is the beginning of a
# sentence. That a share of the rows does so, and more than one, is the layout of a file.
LAYOUT, FEWEST = 0.1, 2
ASKED = re.compile(r"\s*(?:#{2,3} ?)?(?:Assistant|ASSISTANT|AI|Bot|Response):\s*")


def mend(lessons: Sequence[Lesson], counts: Counter[str]) -> None:
    """Cut the prompt off responses that repeat it, and what goes on after the response; counted.

    Text with which a response begins is taken for its prompt where the file has that layout: where
    in a tenth of its rows all responses begin with their prompt. Otherwise such responses are kept,
    and counted as kept. A response that is a transcript of its prompt is always cut.
    """
    repeating = [lesson for lesson in lessons if all(_repeats(lesson))]
    is_layout = len(repeating) >= max(FEWEST, LAYOUT * len(lessons))
    found: Counter[str] = Counter()
    for lesson in lessons:
        found[CUT_TURNS] += lesson.told.cut
        mended = []
        for response, repeats in zip(lesson.responses, _repeats(lesson), strict=True):
            rest = after_turns(response, lesson.prompt.messages)
            if repeats and is_layout and rest is None:
                rest = _without(lesson.repeatable, response)
            found[CUT_REPEATS] += rest is not None
            found[KEPT_REPEATS] += repeats and rest is None
            whole = response if rest is None else rest
            ended = until_next_turn(whole)
            found[CUT_TURNS] += ended != whole
            mended.append(ended)
        lesson.responses = mended
    counts.update(+found)


def _repeats(lesson: Lesson) -> list[bool]:
    """Which responses begin with the text of their prompt."""
    text = (lesson.repeatable or "").strip()
    return [bool(text) and response.lstrip().startswith(text) for response in lesson.responses]


def _without(text: str, response: str) -> str:
    """What comes after the prompt, and after the marker that asks for it."""
    rest = response.lstrip()[len(text.strip()) :]
    return ASKED.sub("", rest, count=1) if ASKED.match(rest) else rest.lstrip()

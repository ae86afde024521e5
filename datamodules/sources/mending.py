"""Responses that hold more than a response: their prompt once more, or the turns that followed."""

import re
from collections import Counter
from collections.abc import Sequence

from datamodules.sources.cleaning import CUT_REPEATS, CUT_TURNS, KEPT_REPEATS
from datamodules.sources.lessons import Lesson
from datamodules.sources.transcripts import until_next_turn

# Two answers to one prompt may both begin as it does, by chance or because it is the beginning of a
# sentence. That a share of the rows does so is the layout of a file.
LAYOUT = 0.1
FEWEST = 2
ASKED = re.compile(r"\s*(?:#{2,3} ?)?(?:Assistant|ASSISTANT|AI|Bot|Response):\s*")


def mend(lessons: Sequence[Lesson], counts: Counter[str]) -> None:
    """Cut the prompt off responses that repeat it, and what goes on after the response; counted.

    A prompt is taken for repeated where the file has that layout: where in a tenth of its rows all
    responses begin with their prompt. Otherwise such responses are kept, and counted as kept.
    """
    repeating = [lesson for lesson in lessons if all(_repeats(lesson))]
    is_layout = len(repeating) >= max(FEWEST, LAYOUT * len(lessons))
    found: Counter[str] = Counter()
    for lesson in lessons:
        repeats = _repeats(lesson)
        if is_layout:
            found[CUT_REPEATS] += sum(repeats)
            lesson.responses = [
                _without(lesson.repeatable, response) if repeat else response
                for response, repeat in zip(lesson.responses, repeats, strict=True)
            ]
        else:
            found[KEPT_REPEATS] += sum(repeats)
        ended = [until_next_turn(response) for response in lesson.responses]
        found[CUT_TURNS] += lesson.told.cut + sum(
            before != after for before, after in zip(lesson.responses, ended, strict=True)
        )
        lesson.responses = ended
    counts.update(+found)


def _repeats(lesson: Lesson) -> list[bool]:
    """Which responses begin with the text of their prompt."""
    text = (lesson.repeatable or "").strip()
    return [bool(text) and response.lstrip().startswith(text) for response in lesson.responses]


def _without(text: str, response: str) -> str:
    """What comes after the prompt, and after the marker that asks for it."""
    rest = response.lstrip()[len(text.strip()) :]
    return ASKED.sub("", rest, count=1) if ASKED.match(rest) else rest.lstrip()

"""Labelled pairs, as JSON lines that `data=files` reads.

{"prompt": text or messages, "chosen": ..., "rejected": ..., "strength": 0.5, "annotator": ...}
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from datamodules.records import Prompt
from harness.disk.files import write_text
from harness.feedback.answers import prompt_written

PAIRS = "pairs.jsonl"


@dataclass(frozen=True)
class LabelledPair:
    """Two responses to a prompt, of which `chosen` was preferred; `strength` is by how much more
    often, or with how much more probability, than the other one, in (0, 1].
    """

    prompt: Prompt
    chosen: str
    rejected: str
    strength: float
    annotator: str


def pair_line(pair: LabelledPair) -> str:
    """The line of a file, with its end."""
    written = {
        "prompt": prompt_written(pair.prompt),
        "chosen": pair.chosen,
        "rejected": pair.rejected,
        "strength": pair.strength,
        "annotator": pair.annotator,
    }
    return json.dumps(written, ensure_ascii=False) + "\n"


def write_pairs(path: Path, pairs: Iterable[LabelledPair]) -> None:
    """Write a file as a whole; DiskError if it cannot be."""
    write_text(path, "".join(map(pair_line, pairs)))

"""What a reward model's report says of thumbs: numbers, a picture, words, the worst mistakes."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from datamodules.records import Thumb
from harness.disk.files import writing
from harness.pictures.drawing import drawn
from harness.reports.thumbs.words import headline, mistakes, verdict
from lightning_modules.metrics.thumbs import JudgedThumbs, held_out_thumbs

PICTURES = "report"
PICTURE = "thumbs.png"
BINS = 10  # of the picture


def judged_thumbs(thumbs: Sequence[Thumb], score: Tensor, bias: float | None) -> JudgedThumbs:
    """U thumbs and the scores (U,) of their responses, with what the thumbs say of length, prompt
    and truth.
    """
    numbers = {prompt: i for i, prompt in enumerate(dict.fromkeys(t.prompt for t in thumbs))}
    known = [math.nan if t.probability is None else t.probability for t in thumbs]
    return JudgedThumbs(
        score=score.detach().cpu().double(),
        liked=torch.tensor([t.liked for t in thumbs]),
        length=torch.tensor([len(t.response) for t in thumbs], dtype=torch.float64),
        cluster=torch.tensor([numbers[t.prompt] for t in thumbs]),
        probability=torch.tensor(known, dtype=torch.float64),
        bias=bias,
    )


def thumbs_section(
    folder: Path, thumbs: Sequence[Thumb], score: Tensor, bias: float | None
) -> tuple[str, dict[str, float]]:
    """The section on thumbs, whose picture is drawn into folder/report, and its numbers by the
    names `thumbs_...`. `bias` as in JudgedThumbs.
    """
    rows = judged_thumbs(thumbs, score, bias)
    numbers = held_out_thumbs(rows)
    parts = ["## Thumbs", headline(rows, numbers), verdict(rows, numbers)]
    if bias is not None:
        with writing(folder / PICTURES):
            parts.append(_picture(folder, rows))
    parts.append(mistakes(thumbs, rows))
    text = "\n\n".join(part for part in parts if part)
    return text, {f"thumbs_{name}": value for name, value in numbers.items()}


def _picture(folder: Path, rows: JudgedThumbs) -> str:
    """How often a thumb was up, by how likely that was said to be."""
    from harness.pictures.reward_model import draw_thumbs

    (folder / PICTURES).mkdir(parents=True, exist_ok=True)
    draw = partial(draw_thumbs, rows.predicted, rows.liked, BINS)
    drawn(folder / PICTURES / PICTURE, draw)
    if not (folder / PICTURES / PICTURE).is_file():
        return "(It was not drawn.)"
    return f"![share of thumbs up over predicted probability]({PICTURES}/{PICTURE})"

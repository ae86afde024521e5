"""Where the bias of thumbs begins: the scores of a model that is not trained yet have some mean."""

from collections.abc import Sequence

import torch
from torch import Tensor

from datamodules.prompts import spread
from datamodules.records import Thumb
from datamodules.tokenization.encoder import Encoder
from lightning_modules.models.scalar import ScalarModel
from lightning_modules.rewards.learned import Scorer

SAMPLE = 32  # responses that stand for all
FAR = 30.0  # from a score to a bias at which nothing is liked, or everything


def first_bias(
    scalar: ScalarModel, encoder: Encoder, thumbs: Sequence[Thumb], device: torch.device
) -> Tensor:
    """For each head (n,) the bias by which its scores expect as many thumbs up as there are."""
    up = sum(thumb.liked for thumb in thumbs)
    share = (up + 0.5) / (len(thumbs) + 1)  # neither 0 nor 1
    shown = spread(thumbs, SAMPLE)
    own = next(scalar.model.parameters()).device
    here = device if own.type == "cpu" else own  # packed layers stay where they are
    limits = (encoder.max_prompt_tokens, encoder.max_response_tokens)
    scorer = Scorer(scalar.eval().to(here), encoder.within(*limits))  # with counts of its own
    scores = scorer.raw_heads([t.prompt for t in shown], [t.response for t in shown])
    scalar.to(own)
    return balanced(scores.double(), share).float()


def balanced(scores: Tensor, share: float) -> Tensor:
    """The b (n,) at which the mean of sigmoid(scores - b), (S, n), is `share`, in (0, 1)."""
    low, high = scores.min(0).values - FAR, scores.max(0).values + FAR
    for _ in range(60):
        middle = (low + high) / 2
        too_many = torch.sigmoid(scores - middle).mean(0) > share
        low, high = torch.where(too_many, middle, low), torch.where(too_many, high, middle)
    return (low + high) / 2

import math

import pytest
import torch

from harness.rounds.accuracy import in_order
from lightning_modules.metrics.intervals import wilson_interval


def test_a_pair_counts_if_the_better_answer_scores_higher_and_half_if_they_score_the_same():
    first = torch.tensor([1.0, 0.0, 3.0, 2.0, math.nan])
    second = torch.tensor([0.0, 1.0, 4.0, 2.0, 0.0])
    #   in order, not, in order, half, without a score
    golds = torch.tensor([[1.0, 0.1], [0.5, 0.4], [0.0, 0.1], [1.0, 0.0], [1.0, 0.0]])
    found = in_order(first, second, golds)
    assert found.share == pytest.approx((1 + 0 + 1 + 0.5) / 4)
    assert found.count == 4
    assert (found.low, found.high) == wilson_interval(found.share, 4)
    # Whichever is read first.
    assert in_order(second, first, golds.flip(1)) == found

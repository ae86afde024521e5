"""The bias begins where what is not trained yet expects as many thumbs up as there are."""

from math import log

import pytest
import torch

from harness.parts.thumbs_bias import balanced, first_bias
from tests.lightning_modules.supervised_parts import THUMBS, exact_scalar


@pytest.mark.parametrize("share", [0.01, 0.3, 0.75])
def test_the_expected_share_is_that_of_the_labels(share):
    scores = 5 + 3 * torch.randn(20, 2, generator=torch.Generator().manual_seed(0)).double()
    found = torch.sigmoid(scores - balanced(scores, share)).mean(0)
    assert found.tolist() == pytest.approx([share] * 2, abs=1e-12)


def test_of_equal_scores_it_is_the_log_odds_of_a_thumb_down():
    assert float(balanced(torch.full((9, 1), 2.0).double(), 0.75)) == pytest.approx(2 - log(3))


def test_every_head_has_its_own_and_nothing_of_the_encoder_is_counted(encoder):
    scalar = exact_scalar("llama", encoder, 2).float()
    counts = dict(encoder.counts)
    found = first_bias(scalar, encoder, THUMBS, torch.device("cpu"))
    assert dict(encoder.counts) == counts
    prompts, texts = [t.prompt for t in THUMBS], [t.response for t in THUMBS]
    rows = encoder.within(32, 16).conversations(prompts, texts)
    ids, mask = encoder.pad(rows, "right")
    with torch.no_grad():
        expected = torch.sigmoid(scalar.heads(ids, mask) - found).mean(0)
    assert expected.tolist() == pytest.approx([3.5 / 5] * 2, abs=1e-5)

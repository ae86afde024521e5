import math
from functools import partial

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from datamodules.preferences import PreferenceDataModule
from lightning_modules.actor_critic import ScalarModel
from lightning_modules.reward_model import RewardModel, held_out_metrics

NAN = math.nan


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_chosen_and_rejected_are_scored_in_one_pass_as_they_would_be_alone(lm, world, encoder):
    lm.config.num_labels = 1
    model = ScalarModel(AutoModelForSequenceClassification.from_config(lm.config).eval())
    module = RewardModel(
        name="reward_model",
        epochs=1,
        batch_size=4,
        max_grad_norm=None,
        optimizer=partial(torch.optim.SGD, lr=0.1),
        warmup=0.0,
    ).bind(model)
    model.eval()
    rows = PreferenceDataModule(world, encoder, 4, seed=0).rows["train"][:4]
    data = PreferenceDataModule(world, encoder, 4, seed=0)
    chosen, rejected = module._scores(data.collate(rows))
    for i, row in enumerate(rows):
        for sequence, scores in ((row.chosen, chosen), (row.rejected, rejected)):
            ids = torch.tensor([sequence])
            alone = model.score(ids, torch.ones_like(ids).bool())
            assert float(scores[i]) == pytest.approx(float(alone), abs=1e-5)


def test_held_out_metrics_of_pairs_that_can_be_counted():
    metrics = held_out_metrics(
        chosen=tensor(2, 1, 0, 0),
        rejected=tensor(0, 0, 0, 1),
        longer=tensor(1, 0, 0.5, 1),
        probability=tensor(0.9, 0.2, 0.5, 0.7),
    )
    assert metrics["accuracy"] == pytest.approx(2.5 / 4)
    assert metrics["margin"] == pytest.approx((2 + 1 + 0 - 1) / 4)
    assert metrics["accuracy_longer"] == pytest.approx(2.5 / 4)
    assert metrics["bayes_accuracy"] == pytest.approx((0.9 + 0.8 + 0.5 + 0.7) / 4)
    assert metrics["accuracy_ci_low"] < metrics["accuracy"] < metrics["accuracy_ci_high"]


def test_without_a_known_truth_there_is_no_ceiling():
    metrics = held_out_metrics(tensor(1, 2), tensor(0, 0), tensor(1, 1), tensor(NAN, NAN))
    assert "bayes_accuracy" not in metrics


def test_scores_that_are_the_true_log_odds_are_calibrated():
    """Labels drawn from the model itself: the ECE is sampling noise, the Brier score p(1-p)."""
    generator = torch.Generator().manual_seed(0)
    margins = torch.randn(200_000, generator=generator, dtype=torch.float64) * 2
    flips = torch.rand(len(margins), generator=generator) > torch.sigmoid(margins)
    observed = torch.where(flips, -margins, margins)
    zeros = torch.zeros_like(margins)
    metrics = held_out_metrics(observed, zeros, zeros, torch.sigmoid(observed))
    assert metrics["ece"] < 15 * 0.5 / math.sqrt(len(margins))
    p = torch.sigmoid(margins)
    assert metrics["brier"] == pytest.approx(float((p * (1 - p)).mean()), abs=2e-3)
    assert metrics["accuracy"] == pytest.approx(metrics["bayes_accuracy"], abs=4e-3)

"""The reward model: a scalar head on a language model's trunk, fitted to preferences."""

import torch
from torch import Tensor

from lightning_modules.evaluation import wilson_interval
from lightning_modules.objectives.preference import (
    bradley_terry,
    brier_score,
    expected_calibration_error,
)
from lightning_modules.sft import SupervisedModule


class RewardModel(SupervisedModule):
    """Bradley-Terry on pairs; chosen and rejected go through the model in one forward pass.

    The score is read at the last real token of each answer. Logs train|val/{loss, accuracy, margin,
    score_chosen, score_rejected}, and for val also ece, brier, accuracy_longer (how often the
    longer answer is the preferred one), bayes_accuracy (the best that any model can reach, where
    the truth is known) and the 95% interval of the accuracy.
    """

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        chosen, rejected = self._scores(batch)
        loss = bradley_terry(chosen, rejected).mean()
        metrics = _pair_metrics(chosen.detach(), rejected.detach())
        self.log_dict({f"train/{k}": v for k, v in metrics.items()})
        return loss

    def on_validation_epoch_start(self) -> None:
        self._val: list[dict[str, Tensor]] = []

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        chosen, rejected = self._scores(batch)
        self._val.append(
            {
                "chosen": chosen,
                "rejected": rejected,
                "longer": batch["longer"],
                "probability": batch["probability"],
            }
        )

    def on_validation_epoch_end(self) -> None:
        # Every rank has all held-out pairs, so there is nothing to gather, and each counts once.
        rows = {
            name: torch.cat([part[name] for part in self._val]).double() for name in self._val[0]
        }
        self.log_dict({f"val/{k}": v for k, v in held_out_metrics(**rows).items()})

    def _scores(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        scores = self.model.score(batch["input_ids"], batch["attention_mask"])
        return tuple(scores.chunk(2))


def _pair_metrics(chosen: Tensor, rejected: Tensor) -> dict[str, float]:
    margins = chosen - rejected
    return {
        "loss": float(bradley_terry(chosen, rejected).mean()),
        "accuracy": float((0.5 + 0.5 * margins.sign()).mean()),
        "margin": float(margins.mean()),
        "score_chosen": float(chosen.mean()),
        "score_rejected": float(rejected.mean()),
    }


def held_out_metrics(
    chosen: Tensor, rejected: Tensor, longer: Tensor, probability: Tensor
) -> dict[str, float]:
    """What is known of a reward model on N held-out pairs; all arguments are (N,).

    `longer`: 1 where the chosen text is the longer one, 0.5 for a tie. `probability`: of the
    preference as it fell, NaN where unknown; max(p, 1 - p) is then the Bayes accuracy of the pair.
    """
    margins = chosen - rejected
    metrics = _pair_metrics(chosen, rejected)
    low, high = wilson_interval(metrics["accuracy"], len(margins))
    metrics |= {
        "accuracy_ci_low": low,
        "accuracy_ci_high": high,
        "accuracy_longer": float(longer.mean()),
        "ece": float(expected_calibration_error(margins)),
        "brier": float(brier_score(margins)),
    }
    if not probability.isnan().any():
        metrics["bayes_accuracy"] = float(torch.maximum(probability, 1 - probability).mean())
    return metrics

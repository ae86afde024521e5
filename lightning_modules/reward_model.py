"""The reward model: a scalar head on a language model's backbone, fitted to preferences."""

import torch
from torch import Tensor

from lightning_modules.forward.shared_prompts import SharedPrompt
from lightning_modules.metrics.averages import Averages
from lightning_modules.metrics.preferences import Judged, held_out_metrics
from lightning_modules.objectives.preference import (
    bradley_terry,
    centring,
    equal_shares,
    label_smoothed,
    plackett_luce_with_ties,
    rao_kupper_tie,
)
from lightning_modules.options.supervised import RewardModelOptions
from lightning_modules.supervised import Batch, SupervisedModule


class RewardModel(SupervisedModule):
    """Bradley-Terry on pairs, each ranking's pairs counting as one; or Plackett-Luce on rankings.

    Scores are read at the last real token of each response. With `ensemble` > 1 there are so many
    heads on one backbone, each fitted to a bootstrap sample of its own; the score is their mean.
    Logs train|val/{loss, accuracy, margin, score_chosen, score_rejected}, and for val also what
    `held_out_metrics` says; val/loss is plain Bradley-Terry on pairs, whatever is minimised.
    """

    options_class = RewardModelOptions
    options: RewardModelOptions

    def weight(self, part: Batch) -> int:
        return len(part["resampled"])

    def losses(self, part: Batch) -> tuple[Tensor, Averages]:
        scores = self.scores(part)
        each = [
            (self._comparison_losses(head, part) * part["resampled"][:, i]).sum()
            for i, head in enumerate(scores.unbind(-1))
        ]
        total = torch.stack(each).mean()
        averages = _pair_averages(scores.detach().mean(-1), part)
        averages.add("loss", total, self.weight(part))
        return total, averages

    def scores(self, part: Batch) -> Tensor:
        """What each head says of each response, (R, ensemble)."""
        shared = None
        if "prompt_ids" in part:
            shared = SharedPrompt(
                part["prompt_ids"], part["prompt_mask"], part["comparison_of_response"]
            )
        return self.model.heads(part["input_ids"], part["attention_mask"], shared)

    def _comparison_losses(self, scores: Tensor, part: Batch) -> Tensor:
        """The loss of each comparison, (G,), from the scores (R,) of one head."""
        chosen, rejected = scores[part["chosen"]], scores[part["rejected"]]
        groups, group, tied = len(part["resampled"]), part["comparison"], part["tied"]
        shares = equal_shares(~tied, group, groups).to(scores)
        losses = self.options.centring_coef * shares * centring(chosen, rejected)
        if self.options.loss == "bradley_terry":
            used = ~tied | (self.options.tie_threshold is not None)
            shares = equal_shares(used, group, groups).to(scores)
            losses = losses + shares * self._pair_losses(chosen, rejected, part)
        result = scores.new_zeros(groups).index_add(0, group, losses)
        if self.options.loss == "plackett_luce":
            orders = part["orders"]
            known = orders[:, 0, 0] >= 0
            ranked = plackett_luce_with_ties(scores[orders.clamp(min=0)], orders >= 0)
            result = result + ranked.where(known, 0.0)
        return result

    def _pair_losses(self, chosen: Tensor, rejected: Tensor, part: Batch) -> Tensor:
        """Bradley-Terry with what the options add, (N,); for ties, Rao & Kupper's."""
        margin = self.options.margin_coef * part["strength"].nan_to_num(0.0)
        if self.options.tie_threshold is not None:
            margin = margin + self.options.tie_threshold
        losses = label_smoothed(
            bradley_terry(chosen, rejected, margin),
            bradley_terry(rejected, chosen, margin),
            self.options.label_smoothing,
        )
        if self.options.tie_threshold is None:
            return losses
        return torch.where(
            part["tied"], rao_kupper_tie(chosen, rejected, self.options.tie_threshold), losses
        )

    def on_validation_epoch_start(self) -> None:
        self._val: list[Judged] = []

    def validation_step(self, batch: list[Batch], batch_idx: int) -> None:
        self._val += [_judged(self.scores(part).mean(-1), part) for part in batch]

    def on_validation_epoch_end(self) -> None:
        # Every rank has all held-out pairs, so there is nothing to gather, and each counts once.
        parts = [vars(part) for part in self._val]
        whole = Judged(**{name: torch.cat([p[name] for p in parts]) for name in parts[0]})
        metrics = held_out_metrics(whole)
        self.log_dict({f"val/{k}": v for k, v in metrics.items()})


def _judged(scores: Tensor, part: Batch) -> Judged:
    """The pairs that are no ties, with scores (R,)."""
    kept = ~part["tied"]
    columns = {
        name: part[name][kept].double()
        for name in ("chosen_length", "rejected_length", "probability", "strength")
    }
    return Judged(
        chosen=scores[part["chosen"][kept]].double(),
        rejected=scores[part["rejected"][kept]].double(),
        cluster=part["cluster"][kept],
        **columns,
    )


def _pair_averages(scores: Tensor, part: Batch) -> Averages:
    """Metrics of the pairs of a micro-batch, from scores (R,)."""
    pairs = _judged(scores, part)
    averages = Averages()
    averages.add_rows("accuracy", 0.5 + 0.5 * (pairs.chosen - pairs.rejected).sign())
    averages.add_rows("margin", pairs.chosen - pairs.rejected)
    averages.add_rows("score_chosen", pairs.chosen)
    averages.add_rows("score_rejected", pairs.rejected)
    return averages

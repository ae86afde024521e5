"""The reward model: a scalar head on a language model's backbone, fitted to feedback."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lightning_modules.forward.shared_prompts import SharedPrompt
from lightning_modules.metrics.averages import Averages
from lightning_modules.metrics.preferences import Judged, held_out_metrics
from lightning_modules.metrics.thumbs import JudgedThumbs, held_out_thumbs
from lightning_modules.objectives.preference import (
    bradley_terry,
    centring,
    equal_shares,
    label_smoothed,
    plackett_luce_with_ties,
    rao_kupper_tie,
)
from lightning_modules.objectives.thumbs import thumb
from lightning_modules.options.supervised import RewardModelOptions
from lightning_modules.supervised import Batch, SupervisedModule


class RewardModel(SupervisedModule):
    """Bradley-Terry on pairs, each ranking's pairs counting as one; or Plackett-Luce on rankings;
    or thumbs on single responses, beside the pairs if there are any.

    Scores are read at the last real token of each response. With `ensemble` > 1 there are so many
    heads on one backbone, each fitted to a bootstrap sample of its own; the score is their mean.
    Logs train|val/{loss, accuracy, margin, score_chosen, score_rejected}, and for val also what
    `held_out_metrics` says; val/loss is plain Bradley-Terry on pairs, whatever is minimised. Of
    thumbs the names are train|val/thumbs_..., and val/loss is a mean over pairs and thumbs.
    """

    options_class = RewardModelOptions
    options: RewardModelOptions

    def weight(self, part: Batch) -> int:
        return len(part["resampled"])

    def losses(self, part: Batch) -> tuple[Tensor, Averages]:
        scores = self.scores(part)
        each = [
            (self._row_losses(i, head, part) * part["resampled"][:, i]).sum()
            for i, head in enumerate(scores.unbind(-1))
        ]
        total = torch.stack(each).mean()
        averages = _pair_averages(scores.detach().mean(-1), part)
        if self.of_thumbs:
            averages.merge(self._thumb_averages(scores.detach().mean(-1), part))
        averages.add("loss", total, self.weight(part))
        return total, averages

    @property
    def of_thumbs(self) -> bool:
        return self.options.loss == "thumbs"

    def scores(self, part: Batch) -> Tensor:
        """What each head says of each response, (R, ensemble)."""
        shared = None
        if "prompt_ids" in part:
            shared = SharedPrompt(
                part["prompt_ids"], part["prompt_mask"], part["comparison_of_response"]
            )
        return self.model.heads(part["input_ids"], part["attention_mask"], shared)

    def _row_losses(self, head: int, scores: Tensor, part: Batch) -> Tensor:
        """The loss of each comparison and each thumb, (G,), from the scores (R,) of one head."""
        losses = self._comparison_losses(scores, part)
        if not self.of_thumbs:
            return losses
        said, bias = scores[part["thumb"]], self.model.thumbs_bias[head]
        of_thumbs = label_smoothed(
            thumb(said, bias, part["liked"]),
            thumb(said, bias, ~part["liked"]),
            self.options.label_smoothing,
        )
        return losses.index_add(0, part["group"], self.options.thumb_weight * of_thumbs)

    def _comparison_losses(self, scores: Tensor, part: Batch) -> Tensor:
        """The loss of each comparison, (G,), from the scores (R,) of one head."""
        chosen, rejected = scores[part["chosen"]], scores[part["rejected"]]
        groups, group, tied = len(part["resampled"]), part["comparison"], part["tied"]
        shares = equal_shares(~tied, group, groups).to(scores)
        losses = self.options.centring_coef * shares * centring(chosen, rejected)
        if self.options.loss != "plackett_luce":
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
        self._val_thumbs: list[JudgedThumbs] = []

    def validation_step(self, batch: list[Batch], batch_idx: int) -> None:
        for part in batch:
            scores = self.scores(part).mean(-1)
            self._val.append(_judged(scores, part))
            if self.of_thumbs:
                self._val_thumbs.append(self._judged_thumbs(scores, part))

    def on_validation_epoch_end(self) -> None:
        # Every rank has all held-out pairs, so there is nothing to gather, and each counts once.
        pairs, metrics = _joined(self._val), {}
        if count := len(pairs.chosen):
            metrics = held_out_metrics(pairs)
        if self.of_thumbs and (thumbs := _joined(self._val_thumbs)).liked.numel():
            of_thumbs = held_out_thumbs(thumbs)
            weight = self.options.thumb_weight * len(thumbs.liked)
            total = count * metrics.get("loss", 0.0) + weight * of_thumbs["loss"]
            metrics |= {f"thumbs_{k}": v for k, v in of_thumbs.items()}
            metrics["loss"] = total / (count + weight)
        self.log_dict({f"val/{k}": v for k, v in metrics.items()})

    def _judged_thumbs(self, scores: Tensor, part: Batch) -> JudgedThumbs:
        """The thumbs of a micro-batch, with scores (R,)."""
        return JudgedThumbs(
            score=scores[part["thumb"]].double(),
            liked=part["liked"],
            length=part["thumb_length"].double(),
            cluster=part["thumb_cluster"],
            probability=part["thumb_probability"].double(),
            bias=float(self.model.thumbs_bias.detach().double().mean()),
        )

    def _thumb_averages(self, scores: Tensor, part: Batch) -> Averages:
        """Metrics of the thumbs of a micro-batch, from scores (R,)."""
        thumbs = self._judged_thumbs(scores, part)
        averages = Averages()
        averages.add_rows("thumbs_accuracy", thumbs.right)
        averages.add_rows("thumbs_up", thumbs.liked)
        averages.add_rows("thumbs_predicted", thumbs.predicted)
        averages.add("thumbs_bias", thumbs.bias)
        return averages


def _joined(parts: list[Any]) -> Any:
    """What is known of micro-batches as that of one; what is no tensor is the same in all."""
    first, columns = parts[0], [vars(part) for part in parts]
    return replace(
        first,
        **{
            name: torch.cat([column[name] for column in columns])
            for name, value in vars(first).items()
            if isinstance(value, Tensor)
        },
    )


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

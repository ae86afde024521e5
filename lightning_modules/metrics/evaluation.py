"""Held-out evaluation of a policy beside its reference, on the same prompts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_modules.metrics.averages import Averages
from lightning_modules.metrics.intervals import wilson_interval
from lightning_modules.metrics.rollout_statistics import add_statistics, finish_statistics
from lightning_modules.rewards.reward import Responses
from lightning_modules.rollouts.collection import Collector
from lightning_modules.rollouts.seeding import Noise, Stream, prompt_noise

# Scores of the same response in batches of different padding differ by rounding.
SAME_SCORE = 1e-4


def outcomes(scores: Tensor, other_scores: Tensor) -> Tensor:
    """1 where the first wins, 0 where it loses, 1/2 for a tie, NaN where one has no score; (B,)."""
    difference = scores - other_scores
    won = 0.5 + 0.5 * difference.sign() * (difference.abs() > SAME_SCORE)
    return won.where(~difference.isnan(), torch.nan)


@dataclass(frozen=True)
class ReferenceResponses:
    """The reference's own responses to a batch of prompts, sampled once a run."""

    texts: list[str]
    scores: Tensor  # (B,)
    golds: list[float] | None
    watched: Tensor | None  # (B,) scores of a head that no policy is trained on
    lengths: Tensor  # (B,)


class Evaluation:
    """Runs over the held-out prompts, always with the same noise for each, so that curves are
    smooth and neither batches nor ranks change them.
    """

    def __init__(self, collector: Collector, gold: Callable[[Any, str], float] | None, seed: int):
        self.collector = collector
        self.gold = gold
        self.seed = seed
        self.rows: list[dict[str, Any]] = []
        self._references: dict[int, ReferenceResponses] = {}
        self.reset()

    def reset(self) -> None:
        """Forget the last evaluation (but not the reference's responses)."""
        self.rows = []
        self._averages = Averages()
        self._compared = 0

    def step(self, batch: dict[str, Any], batch_idx: int, beta: float) -> None:
        """One batch of held-out prompts, one response each; `places` (B,) are those of the prompts
        among all of them.
        """
        reference = self._reference(batch, batch_idx)
        noise = prompt_noise(self.seed, Stream.EVALUATION, batch["places"])
        rollout, responses, _ = self.collector.collect(batch, noise, 1, with_reference=True)
        add_statistics(self._averages, rollout, "val", beta)
        wins = outcomes(rollout.scores, reference.scores)
        compared = wins[~wins.isnan()]
        self._averages.add_rows("val/win_rate", compared)
        golds = self._golds(responses)
        if golds:
            self._averages.add("val/gold", sum(golds), len(golds))
        watched = self.collector.reward.watch(responses)
        if watched is not None:
            self._averages.add_rows("val/held_out_score", watched)
        self._compared += len(compared)
        for i, prompt in enumerate(batch["prompts"]):
            row = {
                "prompt": prompt.text,
                # By these names since the first version: rows of old runs have them too.
                "answer": responses.texts[i],
                "reference_answer": reference.texts[i],
                "score": _or_none(rollout.scores[i]),
                "reference_score": _or_none(reference.scores[i]),
            }
            if golds:
                row |= {"gold": golds[i], "reference_gold": reference.golds[i]}
            self.rows.append(row)

    def metrics(self, all_reduce: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """val/* over all ranks, the win rate's 95% interval, and reference/* on these prompts."""
        means = finish_statistics(self._averages.means(all_reduce), "val")
        count = int(all_reduce(torch.tensor(float(self._compared))))
        low, high = wilson_interval(means["val/win_rate"], count)
        interval = {"val/win_rate_ci_low": low, "val/win_rate_ci_high": high}
        return means | interval | self._reference_metrics(all_reduce)

    def _reference_metrics(self, all_reduce: Callable[[Tensor], Tensor]) -> dict[str, float]:
        averages = Averages()
        for responses in self._references.values():
            scores = responses.scores[~responses.scores.isnan()]
            averages.add_rows("reference/score", scores)
            averages.add_rows("reference/score_squared", scores.double().square())
            averages.add_rows("reference/length", responses.lengths)
            if responses.golds:
                averages.add("reference/gold", sum(responses.golds), len(responses.golds))
            if responses.watched is not None:
                averages.add_rows("reference/held_out_score", responses.watched)
        return finish_statistics(averages.means(all_reduce), "reference")

    def _reference(self, batch: dict[str, Any], batch_idx: int) -> ReferenceResponses:
        if batch_idx not in self._references:
            noise = prompt_noise(self.seed, Stream.REFERENCE_RESPONSES, batch["places"])
            responses = self.opponent(batch, noise)
            self._references[batch_idx] = ReferenceResponses(
                texts=responses.texts,
                scores=self.collector.reward.score(responses).float(),
                golds=self._golds(responses),
                watched=self.collector.reward.watch(responses),
                lengths=responses.response_mask.sum(-1),
            )
        return self._references[batch_idx]

    def opponent(self, batch: dict[str, Any], noise: Noise) -> Responses:
        """The responses that the policy's are compared with: the reference's."""
        with self.collector.reference.active() as lm:
            return self.collector.respond(lm, batch, noise, 1)

    def _golds(self, responses: Responses) -> list[float] | None:
        if self.gold is None:
            return None
        pairs = zip(responses.prompts, responses.texts, strict=True)
        return [self.gold(prompt, text) for prompt, text in pairs]


def _or_none(score: Tensor) -> float | None:
    return None if score.isnan() else float(score)

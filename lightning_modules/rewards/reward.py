"""The interface of rewards: responses in, one score each out."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor

from lightning_modules.judges.judge import Judge, JudgeContext
from lightning_modules.models.loading import LoadOptions


@dataclass(frozen=True)
class Responses:
    """B responses, as ids of the policy's tokenizer and as text.

    `prompts` are the B prompts' records; `sequences` (B, P+T), `prompt_mask` (B, P),
    `response_mask` (B, T), `stopped` (B,) and `prompt_of` (B,) are as in a rollout; `logprobs`
    (B, T) are those that the tokens were sampled with. Text is decoded when it is first asked for.
    """

    prompts: Sequence[Any]
    sequences: Tensor
    prompt_mask: Tensor
    response_mask: Tensor
    stopped: Tensor
    decode: Callable[[Tensor], str]
    prompt_of: Tensor | None = None
    logprobs: Tensor | None = None  # None: they were not sampled here

    @cached_property
    def texts(self) -> list[str]:
        responses = self.sequences[:, self.prompt_mask.shape[1] :]
        # All at once: a device is waited for at every copy.
        rows = zip(responses.cpu(), self.response_mask.cpu(), strict=True)
        return [self.decode(ids[mask]) for ids, mask in rows]


@dataclass(frozen=True)
class RewardContext:
    """What a run offers to a reward.

    `reward_model()` is the folder of the run's own reward model (trained at the first call), which
    `check_reward_model()` raises for if there can be none, `policy()` the policy where a reward
    model may lie on its weights (loaded at the first call) and else None,
    `gold` the source's true quality of a response or None, `encoder(path)` a reward model's
    tokenizer as a `Scorer` needs it, `frozen` how models are loaded that are not trained, `say`
    what shows a line to a person. `folder()` is where the run keeps its files.
    `judge` is the run's judge if there is one, `judging()` what that needs from the run, and
    `reference_responses(prompts)` the reference's response to each prompt, always the same one.
    """

    reward_model: Callable[[], Path]
    gold: Callable[[Any, str], float] | None
    encoder: Callable[[str | Path], Any]
    frozen: LoadOptions
    check_reward_model: Callable[[], None] = lambda: None
    policy: Callable[[], PeftModel | None] = lambda: None
    folder: Callable[[], Path] = Path
    judge: Judge | None = None
    judging: Callable[[], JudgeContext] = JudgeContext
    reference_responses: Callable[[Sequence[Any]], list[str]] | None = None
    say: Callable[[str], None] = warnings.warn


class Reward:
    """A constructor checks options; `check` what can be checked before anything is trained; `bind`
    then loads what is needed; `score` is called once a batch; `release` comes last. Most define
    `raw_scores` only. `words` is what a person is told of it, where its name does not say enough;
    `costly`: its scores take people's time, so that checks ask for none.
    """

    words: str | None = None
    costly: bool = False

    @property
    def thumbs_bias(self) -> float | None:
        """The raw score at which a thumb is as likely up as down; None where that is not known."""
        return None

    def check(self, context: RewardContext) -> None:
        """Raise if this reward cannot work here. Nothing expensive."""

    def check_prompts(self, context: RewardContext, prompts: Sequence[Any]) -> None:
        """Raise if this reward cannot read one of the run's prompts. Before anything is trained,
        and without models.
        """

    def bind(self, context: RewardContext) -> None:
        """Load models."""

    def to(self, device: torch.device) -> None:
        """Move models."""

    def release(self) -> None:
        """Let go of what was opened: nothing will be scored any more."""

    def raw_scores(self, prompts: Sequence[Any], texts: Sequence[str]) -> Tensor:
        """(B, n) scores of texts as the source gives them, a column for each head of an ensemble;
        NaN where it cannot score.
        """
        raise NotImplementedError

    def score_texts(
        self,
        prompts: Sequence[Any],
        texts: Sequence[str],
        stopped: Sequence[bool] | None = None,
    ) -> Tensor:
        """What responses are worth to a policy, (B,) float32; higher is better, NaN where unknown.

        `stopped` is False for those that did not end by themselves.
        """
        return self.raw_scores(prompts, texts).mean(-1)

    def watch(self, responses: Responses) -> Tensor | None:
        """Scores (B,) that no policy is trained on, to watch over it; None if there are none."""
        return None

    def counts(self) -> dict[str, int]:
        """What has happened since this was called last, by the names of metrics."""
        return {}

    def score(self, responses: Responses) -> Tensor:
        """The same of responses of a rollout, on their device."""
        scores = self.score_texts(responses.prompts, responses.texts, responses.stopped.tolist())
        return scores.to(responses.sequences.device)

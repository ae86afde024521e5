"""What was sampled and all that is known about it: the frozen record that an update works on."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from lightning_modules.rollouts.micro_batches import grouped, real_columns


@dataclass(frozen=True, slots=True)
class Rollout:
    """B sequences of P prompt tokens, padded on the left, and T response tokens.

    Only `response_mask` says what is real in the response; masked slots of per-token tensors are 0.
    """

    prompt_mask: Tensor  # (B, P) True on the tokens of the prompt
    sequences: Tensor  # (B, P+T) prompt and response ids
    response_mask: Tensor  # (B, T) True up to and including the stop token; nowhere if unscored
    stopped: Tensor  # (B,) True where the policy ended the response itself
    old_logprobs: Tensor  # (B, T) of the policy that sampled
    entropy: Tensor  # (B, T) exact, of its distribution at each state
    ref_logprobs: Tensor | None  # (B, T) of the reference; None if it was not run (beta = 0)
    values: Tensor | None  # (B, T) V(s_t) at the time of sampling; None without a critic
    scores: Tensor  # (B,) what the reward source said, NaN where it could not score
    prompt_of: Tensor | None = None  # (B,) the number of its prompt; None: no two have the same
    sampler_logprobs: Tensor | None = None  # (B, T) as sampled; old_logprobs but for rounding
    rewards: Tensor | None = None  # (B, T) after the KL penalty
    advantages: Tensor | None = None  # (B, T) what each token's log-probability is weighted by
    returns: Tensor | None = None  # (B, T) what the value function learns

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def scored(self) -> Tensor:
        """(B,) True for the responses that take part; a reward may have nothing to say of some."""
        return self.response_mask.any(-1)

    def select(self, rows: Tensor) -> "Rollout":
        """Some of the sequences, without the columns that are padding for all of them."""
        chosen = {
            f.name: value[rows] if (value := getattr(self, f.name)) is not None else None
            for f in fields(self)
        }
        prompt_length = self.prompt_mask.shape[1]
        start, end = real_columns(chosen["prompt_mask"], chosen["response_mask"])
        chosen["prompt_mask"] = chosen["prompt_mask"][:, start:]
        chosen["sequences"] = chosen["sequences"][:, start : prompt_length + end]
        for name, value in chosen.items():
            if value is not None and value.ndim == 2 and name not in ("prompt_mask", "sequences"):
                chosen[name] = value[:, :end]
        return replace(self, **chosen)

    def minibatches(self, count: int, generator: torch.Generator) -> Iterator["Rollout"]:
        """All sequences once, in a random order, in `count` equal parts: an epoch of updates."""
        order = torch.randperm(len(self), generator=generator).to(self.sequences.device)
        for rows in order.chunk(count):
            yield self.select(rows)

    def micro_batches(
        self, sequences: int | None = None, tokens: int | None = None
    ) -> Iterator["Rollout"]:
        """Parts of so many sequences and tokens at most, for memory's sake; they change no
        result.
        """
        lengths = self.prompt_mask.sum(-1), self.response_mask.sum(-1)
        for rows in grouped(*lengths, sequences, tokens, self.prompt_of):
            yield self.select(rows)

"""What the updates on one rollout look like: the train/* metrics of a policy."""

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_modules.metrics.averages import Averages
from lightning_modules.objectives.divergences import k3
from lightning_modules.objectives.masked import masked
from lightning_modules.rollouts.rollout import Rollout

# What an algorithm without a value function, or without clipping, has none of: logged as 0.
OPTIONAL = ("value_loss", "clip_fraction", "ratio_outside")


class UpdateStatistics:
    """Gathered micro-batch by micro-batch; `all_reduce` sums a tensor over ranks."""

    def __init__(self, all_reduce: Callable[[Tensor], Tensor]):
        self.all_reduce = all_reduce
        self.steps = 0
        self.ratio_max = torch.zeros(())
        self._averages = Averages()
        self._minibatch = Averages()

    def add(
        self,
        part: Rollout,
        logprobs: Tensor,
        stats: dict[str, Tensor],
        count: Tensor,
    ) -> None:
        """A micro-batch: the current policy's log-probabilities, and stats, all (B, T).

        Those named loss are averaged as they are minimised, over `count`; all else over tokens.
        """
        mask, logprobs = part.response_mask, logprobs.detach()
        stats = {name: values.detach() for name, values in stats.items()}
        for name in OPTIONAL:
            stats.setdefault(name, torch.zeros_like(part.old_logprobs))
        for name, values in stats.items():
            if name.endswith("loss"):
                self._averages.add(f"train/{name}", masked(values, mask).sum(), count)
            else:
                self._averages.add_tokens(f"train/{name}", values, mask)
        approx_kl = k3(part.old_logprobs, logprobs)
        for averages in (self._averages, self._minibatch):
            averages.add_tokens("train/approx_kl", approx_kl, mask)
        ratio = masked((logprobs - part.old_logprobs).exp(), mask).max()
        self.ratio_max = torch.maximum(self.ratio_max.to(ratio), ratio)

    def approx_kl(self) -> float:
        """train/approx_kl of the parts since the last call, a minibatch, on all ranks."""
        mean = self._minibatch.means(self.all_reduce)["train/approx_kl"]
        self._minibatch = Averages()
        return mean

    def add_step(self, grad_norm: Tensor) -> None:
        """An optimiser step, and the norm of its gradient before clipping."""
        self._averages.add("train/grad_norm", grad_norm)
        self.steps += 1

    def means(self) -> dict[str, float]:
        """train/* over all ranks; the largest ratio is this rank's alone, in `ratio_max`."""
        return self._averages.means(self.all_reduce) | {"train/steps": self.steps}

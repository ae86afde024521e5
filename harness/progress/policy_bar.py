"""The bar of a policy: an iteration of a large model takes minutes, most of them before its first
backward pass.
"""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from torch.utils.hooks import RemovableHandle

from harness.progress.bar import ProgressBar
from harness.progress.plan import Plan
from lightning_modules.policy import PolicyModule


class PolicyBar(ProgressBar):
    """Moves with the tokens that are sampled, then with the `updates` backward passes of an
    iteration.
    """

    def __init__(self, console: Console, plan: Plan, updates: Callable[[], int]):
        super().__init__(console, plan)
        self.updates = updates
        self.hook: RemovableHandle | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: PolicyModule) -> None:
        self.warmups = pl_module.options.critic_warmup
        super().on_train_start(trainer, pl_module)

    def evaluated(self, trainer: pl.Trainer, pl_module: PolicyModule, epochs: int) -> int:
        return pl_module.options.evaluations(epochs)

    def share(self, steps: float) -> float:
        # Iterations of the critic's warm-up are shorter, and come first.
        def cost(count: float) -> float:
            return count - min(count, self.warmups) * (1 - self.part.cost.warmup)

        return cost(steps) / cost(self.total)

    def within(self, passes: int) -> float:
        collected = self._of_this(self.part.cost.collected)
        return collected + (1 - collected) * min(1.0, passes / self.updates())

    def _of_this(self, share: float) -> float:
        """A share of an iteration as one of that in hand, which may be the warm-up's."""
        return share / self.part.cost.warmup if self.done < self.warmups else share

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: PolicyModule, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        if not trainer.is_global_zero:
            return
        self.sampled = 0
        self.limit = pl_module.collector.vocabulary.max_response_tokens
        self.hook = pl_module.model.lm.register_forward_pre_hook(self._looks_on, with_kwargs=True)

    def _looks_on(self, lm: Any, args: Any, options: dict[str, Any]) -> None:
        """Before each pass of the language model; those of the sampler have a cache."""
        if options.get("use_cache"):
            self.sampled += 1
            self.status = f"sampling {self.sampled}/{self.limit}"
            share = self._of_this(self.part.cost.sampled)
            self.move(share * min(1.0, self.sampled / self.limit))
        else:
            self.status = "reading"

    def on_before_backward(self, trainer: pl.Trainer, *args: Any) -> None:
        self._let_go()
        # Before the others there is no more done than after the one before, but a forward pass has
        # taken its time.
        if trainer.is_global_zero and self.passes == 0:
            self.move(self.within(0))

    def on_exception(self, *args: Any) -> None:
        self._let_go()
        super().on_exception(*args)

    def _let_go(self) -> None:
        self.status = ""
        if self.hook:
            self.hook.remove()
            self.hook = None

"""One response of the policy, token by token, as the update saw it.

Looking changes nothing: no gradient, no random number, the same weights before and after.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from harness.disk.files import append_whole, write_text, writing
from harness.pictures.drawing import drawn
from harness.pictures.trace import LINE_WIDTH, Row, draw, shown
from harness.ranks import this_rank
from harness.tracking.tracker import trackers
from harness.tracking.whole_rows import json_rows
from lightning_modules.objectives.divergences import k1
from lightning_modules.options.require import require
from lightning_modules.policy import PolicyModule
from lightning_modules.rollouts.rollout import Rollout


class TokenTrace(Callback):
    """Every `every` iterations (and at the first and the last; 0: never) the first response of the
    rollout, after its updates: a line a token in traces.jsonl, a W&B table that grows, and a
    picture. A resumed run keeps what is there of its first `keep_iterations`.
    """

    def __init__(
        self,
        folder: Path,
        every: int,
        tokenizer: PreTrainedTokenizerBase,
        keep_iterations: int = 0,
    ):
        require(every >= 0, "callbacks.trace_every", every, "must be at least 0, which is never")
        self.path = folder / "traces.jsonl"
        self.pictures = folder / "traces"
        self.every = every
        self.tokenizer = tokenizer
        self.rows: list[Row] = []
        self.notes: list[str] = []  # on lines that were damaged
        if self.path.is_file() and this_rank() == 0:
            self._cut_back(keep_iterations)

    def is_due(self, iteration: int, last: int) -> bool:
        """Whether iteration 1 .. `last` is one that is traced."""
        return self.every > 0 and (iteration % self.every == 0 or iteration in (1, last))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: PolicyModule, *args: Any, **kwargs: Any
    ) -> None:
        iteration = trainer.current_epoch + 1
        if not self.is_due(iteration, pl_module.options.iterations):
            return
        # On every rank: the forward pass of a sharded model needs them all.
        response = first_response(pl_module.rollout)
        with trainer.precision_plugin.forward_context():
            rows = trace(pl_module, response, self.tokenizer)
        if trainer.is_global_zero and rows:
            self._keep(trainer, [{"iteration": iteration} | row for row in rows], response)

    def _keep(self, trainer: pl.Trainer, rows: list[Row], response: Rollout) -> None:
        self.rows += rows
        append_whole(self.path, "".join(json.dumps(row) + "\n" for row in rows))
        iteration = rows[0]["iteration"]
        picture = self.pictures / f"{iteration}.png"
        prompt = response.sequences[0, : response.prompt_mask.shape[1]][response.prompt_mask[0]]
        title = f"iteration {iteration}, score {float(response.scores[0]):.3g}, after: "
        asked = shown(self.tokenizer.decode(prompt))
        with writing(self.pictures):
            self.pictures.mkdir(exist_ok=True)
        title += asked[-max(0, LINE_WIDTH - len(title)) :]
        media: dict[str, Any] = {"tables": {"trace/tokens": self.rows}}
        if drawn(picture, partial(draw, rows, title)):
            media["pictures"] = {"trace/advantages": picture}
        for tracker in trackers(trainer.loggers):
            tracker.log_media(trainer.current_epoch, **media)

    def _cut_back(self, iterations: int) -> None:
        self.rows, self.notes = json_rows(self.path, iterations)
        write_text(self.path, "".join(json.dumps(row) + "\n" for row in self.rows))
        for picture in self.pictures.glob("*.png"):
            if not picture.stem.isdecimal() or int(picture.stem) > iterations:
                picture.unlink()


def first_response(rollout: Rollout) -> Rollout:
    """The first sequence that takes part, alone (B = 1); one without tokens if none does."""
    first = rollout.scored.long().argmax()
    return rollout.select(first[None])


@torch.no_grad()
def trace(module: PolicyModule, response: Rollout, tokenizer: PreTrainedTokenizerBase) -> list[Row]:
    """One row for each token of a response (a rollout with B = 1), in order.

    `logprob`, `value` are those of the policy that sampled; `ratio` is pi / pi_old of the policy as
    it is now, `clipped` whether the algorithm's loss clips it there. What an algorithm does not
    have is None.
    """
    new = module.model(
        response.sequences, response.prompt_mask, response.response_mask, module.options.temperature
    )
    _, stats = module.token_loss(response, new)
    clipped = stats.get("clip_fraction", torch.zeros_like(response.old_logprobs)).bool()
    ref = response.ref_logprobs
    columns = {
        "logprob": response.old_logprobs,
        "ref_logprob": ref,
        "kl": None if ref is None else k1(response.old_logprobs, ref),
        "value": response.values,
        "reward": response.rewards,
        "advantage": response.advantages,
        "return": response.returns,
        "ratio": (new.logprobs - response.old_logprobs).exp(),
        "clipped": clipped,
    }
    length = int(response.response_mask.sum())
    ids = response.sequences[0, response.prompt_mask.shape[1] :][:length].tolist()
    lists = {name: _first(x, length) for name, x in columns.items()}
    return [
        {"position": t, "token": tokenizer.decode([token_id])}
        | {name: values[t] for name, values in lists.items()}
        for t, token_id in enumerate(ids)
    ]


def _first(x: Tensor | None, length: int) -> list[Any]:
    """The real tokens' numbers of a (1, T) tensor."""
    return [None] * length if x is None else x[0, :length].tolist()

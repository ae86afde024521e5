"""The reference's own response to a prompt, for a judge to compare with: sampled once a run."""

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from lightning_modules.judges.cache import AnswerCache, key_of
from lightning_modules.rollouts.collection import Collector
from lightning_modules.rollouts.seeding import Stream, generator

FILE = "reference_responses.sqlite"


class ReferenceResponses:
    """A response to each prompt by noise of its own, so that it depends on nothing else; kept in
    the run's folder, so that it is the same to the letter where the run goes on.

    `batch` makes prompts what the reference reads, as a prompts' data module does.
    """

    def __init__(
        self,
        collector: Collector,
        batch: Callable[[Sequence[Any]], dict[str, Any]],
        seed: int,
        folder: Path,
    ):
        self.collector = collector
        self.batch = batch
        self.seed = seed
        self.folder = folder

    @cached_property
    def kept(self) -> AnswerCache:
        """Those that were sampled; a file that is made where somebody asks."""
        return AnswerCache(self.folder / FILE)

    def __call__(self, prompts: Sequence[Any]) -> list[str]:
        keys = {prompt: key_of(seed=self.seed, prompt=prompt.messages) for prompt in prompts}
        texts = {prompt: self.kept.get(key) for prompt, key in keys.items()}
        new = [prompt for prompt, text in texts.items() if text is None]
        if new:
            sampled = self._sample(new, [keys[prompt] for prompt in new])
            texts |= {p: self.kept.put(keys[p], t) for p, t in zip(new, sampled, strict=True)}
        return [texts[prompt] for prompt in prompts]

    @torch.no_grad()
    def _sample(self, prompts: Sequence[Any], keys: Sequence[str]) -> list[str]:
        places = [int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) for key in keys]
        noise = [generator(self.seed, Stream.JUDGED_AGAINST, at) for at in places]
        with self.collector.reference.active() as lm:
            batch = self.batch(prompts)
            device = next(lm.parameters()).device
            for name in ("prompt_ids", "prompt_mask"):
                batch[name] = batch[name].to(device)
            return self.collector.respond(lm, batch, noise, 1).texts

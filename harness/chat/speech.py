"""An answer while it is spoken: the tokens that a rollout would have, as they are drawn."""

from collections.abc import Iterator, Sequence

import torch

from datamodules.records import Prompt
from harness.generation.answering import answer_noise
from harness.generation.player import Player
from lightning_modules.rollouts.generation import token_by_token
from lightning_modules.rollouts.seeding import uniforms

INCOMPLETE = "\ufffd"  # a letter of which some bytes are still to come


class Speech:
    """Iterating draws the tokens, and yields the text as far as it is certain; `text` is all of it.

    What has been said so far stays when nobody goes on. `name` says who speaks; `left_out` of the
    conversation's messages were too much for the model. DataError if the prompt cannot be written,
    or not be cut.
    """

    def __init__(self, name: str, player: Player, prompt: Prompt, noise: Sequence[torch.Generator]):
        self.name = name
        self.player = player
        self.batch = player.batch([prompt])
        kept = player.encoder.cut_prompts.get(prompt, prompt)
        self.left_out = len(prompt.messages) - len(kept.messages)
        self.is_cut = kept != prompt
        self.noise = noise
        self.ids: list[int] = []
        self.stopped = False

    @property
    def text(self) -> str:
        return self.player.encoder.decode(self.ids)

    def __iter__(self) -> Iterator[str]:
        words = self.player.collector.vocabulary
        steps = token_by_token(
            self.player.lm,
            self.batch["prompt_ids"],
            self.batch["prompt_mask"],
            uniforms(self.noise, 1, 1, words.max_response_tokens).to(self.player.device),
            self.player.collector.temperature,
            torch.tensor(words.stop_ids, device=self.player.device),
        )
        told = ""
        for step in steps:
            self.ids.append(int(step.tokens))
            self.stopped = bool(step.stopped)
            certain = self.text if self.stopped else self._certain()
            if certain.startswith(told) and certain != told:
                yield certain[len(told) :]
                told = certain
        if (text := self.text).startswith(told) and text != told:
            yield text[len(told) :]

    def _certain(self) -> str:
        """What further tokens will not change: a letter may still be in the making, or what the
        template writes behind a response, which is none of it.
        """
        text, tail = self.text.rstrip(INCOMPLETE), self.player.encoder.format.tail
        ends = (n for n in range(len(tail), 0, -1) if text.endswith(tail[:n]))
        return text[: len(text) - next(ends, 0)]


class Voice:
    """A policy that one talks to, by its `name`; `number` among those who answer, as in a file of
    answers, whose words it then says to the same prompt: sample 0 first.
    """

    def __init__(self, name: str, player: Player, number: int, seed: int):
        self.name = name
        self.player = player
        self.number = number
        self.seed = seed

    def speak(self, prompt: Prompt, sample: int) -> Speech:
        """The answer number `sample` to a prompt."""
        noise = answer_noise(self.seed, prompt, self.number, 1, first=sample)
        return Speech(self.name, self.player, prompt, noise)

    def set_temperature(self, temperature: float) -> None:
        self.player.collector.temperature = temperature

"""Answers of policies to prompts: of each the same, whatever it is answered together with."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import torch

from datamodules.records import Prompt
from harness.feedback.answers import Answer, AnsweredPrompt, prompt_id
from harness.generation.player import Player
from lightning_modules.errors import TrainingError
from lightning_modules.rollouts.seeding import Stream, generator


def answer(
    players: Mapping[str, Player],
    prompts: Sequence[Prompt],
    *,
    samples: int,
    seed: int,
    at_once: int,
    skip: int = 0,
) -> Iterator[AnsweredPrompt]:
    """The prompts in their order, each with `samples` answers of every player; those of about
    `at_once` answers are sampled together. The first `skip` prompts are left out.

    What is left out changes no rounding: the others are batched as if it were not.
    """
    size = max(1, at_once // samples)
    for start in range(skip - skip % size, len(prompts), size):
        part = list(prompts[start : start + size])
        by_player = [
            _answers(player, name, part, [answer_noise(seed, p, number, samples) for p in part])
            for number, (name, player) in enumerate(players.items())
        ]
        rows = [
            AnsweredPrompt(prompt_id(prompt), prompt, tuple(chain.from_iterable(answers)))
            for prompt, *answers in zip(part, *by_player, strict=True)
        ]
        yield from rows[max(0, skip - start) :]


def answer_noise(
    seed: int, prompt: Prompt, player: int, samples: int, first: int = 0
) -> list[torch.Generator]:
    """A generator for each of so many samples from the `first` on: what is drawn for one depends on
    nothing but the seed, its prompt, the player's number and its own.
    """
    place = int(prompt_id(prompt), 16)
    return [
        generator(seed, Stream.ANSWERS, place, player, sample)
        for sample in range(first, first + samples)
    ]


def _answers(
    player: Player, name: str, prompts: list[Prompt], noise: list[list[torch.Generator]]
) -> list[list[Answer]]:
    """The answers to each prompt, one for each of its generators."""
    samples = len(noise[0])
    drawn = list(chain.from_iterable(noise))
    try:
        said = player.collector.respond(player.lm, player.batch(prompts), drawn, samples)
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"the device ran out of memory for {len(drawn)} answers at once; give batch_size="
            f"{max(1, len(drawn) // 2)}"
        ) from error
    told = zip(said.texts, said.stopped.tolist(), said.response_mask.sum(1).tolist(), strict=True)
    answers = [
        Answer(text, name, number % samples, stopped, tokens)
        for number, (text, stopped, tokens) in enumerate(told)
    ]
    return [answers[start : start + samples] for start in range(0, len(answers), samples)]

"""Pairs of a policy's answers, which are to be labelled: sampled, and kept as they come."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datamodules.records import Prompt
from harness.disk.files import append_whole, writing
from harness.feedback.answers import (
    Answer,
    AnsweredPrompt,
    answers_line,
    prompt_id,
    read_answers,
)
from harness.generation.player import Player
from harness.pipeline.pipeline import Pipeline
from harness.reports.console import say
from lightning_modules.rollouts.seeding import Stream, generator

# Answers are drawn until there are as many pairs as asked for, or so many times as often.
MOST_DRAWS = 20
BATCH = 32  # prompts


@dataclass(frozen=True)
class Pair:
    """Two different answers to a prompt, and whether each ended by itself."""

    prompt: Prompt
    texts: tuple[str, str]
    stopped: tuple[bool, bool]


def pairs_in(rows: Sequence[AnsweredPrompt], most: int) -> list[Pair]:
    """The first `most` pairs of answers that have words and differ by more than blanks."""
    found = []
    for row in rows:
        texts = tuple(answer.text for answer in row.answers)
        words = {text.strip() for text in texts}
        if len(words) == 2 and all(words):
            found.append(Pair(row.prompt, texts, tuple(answer.stopped for answer in row.answers)))
    return found[:most]


def sample_pairs(
    pipeline: Pipeline,
    policy: tuple[str | Path, str | None],
    name: str,
    path: Path,
    *,
    number: int,
) -> list[Pair]:
    """Pairs of the answers of `policy` (folder or hub id, revision), called `name`, to prompts of
    the training split: as many as `pairs` of the config asks for, or as MOST_DRAWS brings.

    All that is drawn is kept in `path`, from where it is gone on with. `number` tells the draws
    from others of this seed: what is drawn depends on it, on the seed and on its place alone.
    """
    wanted = pipeline.cfg.pairs
    rows = _kept(path)
    prompts = pipeline.source.prompts("train")
    player = None
    while len(pairs_in(rows, wanted)) < wanted and len(rows) < MOST_DRAWS * wanted:
        if player is None:
            player = Player(*policy, pipeline, pipeline.cfg.algo.temperature)
            sampler = pipeline.cfg.hardware.get("sampler", "auto")
            say(pipeline.console, player.choose_sampler(sampler, prompts))
        draws = range(len(rows), len(rows) + BATCH)
        asked = [_prompt(prompts, pipeline.cfg.seed, number, draw) for draw in draws]
        noise = [generator(pipeline.cfg.seed, Stream.PAIRS, number, draw) for draw in draws]
        drawn = _answered(player, asked, noise, name)
        append_whole(path, "".join(map(answers_line, drawn)))
        rows += drawn
    return pairs_in(rows, wanted)


def _kept(path: Path) -> list[AnsweredPrompt]:
    """The rows of whole batches, as one that is cut would make other batches of those to come."""
    if not path.is_file() or not (lines := path.read_bytes().splitlines(keepends=True)):
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        return []
    whole = sum(line.endswith(b"\n") for line in lines) // BATCH * BATCH
    if whole < len(lines):
        with writing(path):
            os.truncate(path, sum(map(len, lines[:whole])))
    return read_answers(path) if whole else []


def _prompt(prompts: Sequence[Prompt], seed: int, number: int, draw: int) -> Prompt:
    """All prompts in a random order, then again in another one."""
    again, place = divmod(draw, len(prompts))
    order = np.random.default_rng([seed, Stream.PAIRS, number, again]).permutation(len(prompts))
    return prompts[order[place]]


def _answered(
    player: Player, prompts: list[Prompt], noise: list, name: str
) -> list[AnsweredPrompt]:
    """Two answers to each prompt."""
    said = player.collector.respond(player.lm, player.batch(prompts), noise, 2)
    lengths = said.response_mask.sum(-1).tolist()
    told = zip(said.texts, said.stopped.tolist(), lengths, strict=True)
    answers = [Answer(text, name, i % 2, stopped, n) for i, (text, stopped, n) in enumerate(told)]
    return [
        AnsweredPrompt(prompt_id(prompt), prompt, tuple(answers[2 * i : 2 * i + 2]))
        for i, prompt in enumerate(prompts)
    ]

"""Pairs of a policy's answers, which are to be labelled: sampled, and kept as they come."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice
from pathlib import Path

import numpy as np

from datamodules.records import Prompt
from harness.disk.files import append_whole, writing
from harness.feedback.answers import AnsweredPrompt, answers_line, keep_whole, read_answers
from harness.generation.answering import answer
from harness.generation.player import Player
from harness.pipeline.pipeline import Pipeline
from harness.progress.counting import Counting
from harness.reports.console import say
from lightning_modules.rollouts.seeding import Stream

# Answers are drawn until there are as many pairs as asked for, or so many times as often.
MOST_DRAWS = 20
AT_ONCE = 64  # answers that are sampled together


@dataclass(frozen=True)
class Pair:
    """Two different answers to a prompt, and whether each ended by itself."""

    prompt: Prompt
    texts: tuple[str, str]
    stopped: tuple[bool, bool]


def pair_of(row: AnsweredPrompt) -> Pair | None:
    """The two answers of a row if they can be compared: if both have words, and not the same."""
    texts = tuple(answer.text for answer in row.answers)
    words = {text.strip() for text in texts}
    if len(words) < 2 or not all(words):
        return None
    return Pair(row.prompt, texts, tuple(answer.stopped for answer in row.answers))


def sample_pairs(
    pipeline: Pipeline,
    policy: tuple[str | Path, str | None],
    name: str,
    path: Path,
    number: int,
) -> list[Pair]:
    """Pairs of the answers of `policy` (folder or hub id, revision), called `name`, to prompts of
    the training split: as many as the option `pairs` asks for, or as MOST_DRAWS brings.

    All that is drawn is kept in `path`, from where it is gone on with. `number` tells these draws
    from others of the same seed.
    """
    cfg, prompts = pipeline.cfg, pipeline.source.prompts("train")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    most, seeds = MOST_DRAWS * cfg.pairs, (cfg.seed, number)
    done = keep_whole(path, [*islice(chain.from_iterable(_orders(prompts, seeds)), most)])
    pairs = [*filter(None, map(pair_of, read_answers(path)))] if done else []
    if done == most or len(pairs) == cfg.pairs:
        return pairs
    player = Player(*policy, pipeline, cfg.algo.temperature)
    if cfg.selfcheck:
        player.check(prompts)
    say(pipeline.console, player.choose_sampler(cfg.hardware.get("sampler", "auto"), prompts))
    with Counting(pipeline.console, "pairs", cfg.pairs - len(pairs)) as counting:
        before = len(pairs)
        for row in islice(_answered({name: player}, prompts, seeds, done), most - done):
            append_whole(path, answers_line(row))
            pairs += filter(None, [pair_of(row)])
            counting(len(pairs) - before)
            if len(pairs) == cfg.pairs:
                break
    return pairs


def _orders(prompts: Sequence[Prompt], seeds: tuple[int, int]) -> Iterator[list[Prompt]]:
    """All prompts in a random order, then in another one, and so on."""
    for again in count():
        rng = np.random.default_rng([*seeds, Stream.PAIRS, again])
        yield [prompts[place] for place in rng.permutation(len(prompts))]


def _answered(
    players: Mapping[str, Player], prompts: Sequence[Prompt], seeds: tuple[int, int], done: int
) -> Iterator[AnsweredPrompt]:
    """Two answers to each of the prompts in these orders, but for the first `done`."""
    for again, order in enumerate(_orders(prompts, seeds)):
        skip = min(done, len(order))
        done -= skip
        seed = int(np.random.SeedSequence([*seeds, again]).generate_state(1)[0])
        if skip < len(order):
            yield from answer(players, order, samples=2, seed=seed, at_once=AT_ONCE, skip=skip)

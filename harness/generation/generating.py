"""Answers to prompts, as a run of its own that can be resumed: answers.jsonl in its folder."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from datamodules.prompts import spread
from datamodules.records import Prompt
from datamodules.sources.source import Source, Split
from harness.disk.files import STATE, SUMMARY, append_whole, going_on_later, read_json
from harness.disk.own_folders import is_free
from harness.feedback.answers import ANSWERS, answers_in, answers_line, keep_whole
from harness.generation.answering import answer
from harness.generation.player import Player, check_players, fit_to_players
from harness.parts.choices import Choices
from harness.parts.inputs import inputs
from harness.parts.players import players_of
from harness.pipeline.pipeline import Pipeline
from harness.pipeline.rungs import told_if_stopped
from harness.progress.counting import Counting
from harness.quiet import quiet_transformers
from harness.reports.console import make_console, say
from harness.reports.limits import say_limits
from harness.reports.model_words import counted
from harness.reports.plain_console import NAME, WHOLE, line
from harness.runs.command import is_job_in_turn
from harness.runs.folder import open_run
from harness.runs.summary import write_summary
from harness.runs.used_stages import REFERENCE
from harness.typed import from_here

LONGEST = 256  # tokens of an answer where neither a person nor the data say
SPLITS: dict[str, tuple[Split, ...]] = {
    "train": ("train",),
    "val": ("val",),
    "all": ("train", "val"),
}


def generate_chosen(choices: Choices, notes: Sequence[str] = ()) -> dict[str, Any]:
    """Let the chosen policies answer the chosen prompts; returns summary.json.

    `notes` say where the options come from.
    """
    quiet_transformers()
    pipeline = Pipeline(choices, make_console(terse=is_job_in_turn()))
    cfg, console = pipeline.cfg, pipeline.console
    option = "policies" if cfg.policies else "policy"
    places = players_of(option, cfg[option])
    named = [(option, _path(place)) for place in places.values()]
    check_players(pipeline, named, SPLITS[cfg.split])
    if not pipeline.source.feedback("train") and pipeline.source.max_response_tokens is None:
        pipeline.source.max_response_tokens = LONGEST  # prompts alone do not say
    to = Path(cfg.to) if cfg.to else None
    if to and (to / STATE).is_file() and not (to / ANSWERS).exists() and is_free(to):
        (to / STATE).unlink()  # of a command that ended before it had any answer
    run = pipeline.run = open_run(cfg, partial(inputs, cfg, pipeline.source), to)
    try:
        say(console, [*run.notes, *notes])
        if run.finished:
            there = (from_here(run.folder), WHOLE)
            console.print(line(there, " is finished already; there is nothing to resume"))
            return read_json(run.folder / SUMMARY)
        with (
            console.log.kept_in(run.folder, cfg, resumed=run.resumed),
            told_if_stopped(pipeline),
            going_on_later(run.folder),
        ):
            return _generate(pipeline, places)
    finally:
        run.release()


def prompts_of(source: Source, split: str, count: int | None) -> list[Prompt]:
    """The distinct prompts of a split, or of all; at most `count`, spread over them."""
    prompts = dict.fromkeys(p for part in SPLITS[split] for p in source.prompts(part))
    return spread(list(prompts), count or len(prompts))


def _path(place: str) -> str | None:
    return None if place == REFERENCE else place


def _generate(pipeline: Pipeline, places: dict[str, str]) -> dict[str, Any]:
    cfg, run, console = pipeline.cfg, pipeline.run, pipeline.console
    file = run.folder / ANSWERS
    prompts = prompts_of(pipeline.source, cfg.split, cfg.prompts)
    names = [part for name in places for part in (", ", (name, NAME))][1:]
    asked = f": {counted(cfg.samples, 'answer')} each to {counted(len(prompts), 'prompt')} of "
    console.print(line(*names, asked, (cfg.data.name, NAME), "; in ", (from_here(file), WHOLE)))
    fit_to_players(pipeline, list(map(_path, places.values())))
    say_limits(console, pipeline.limits)
    done = keep_whole(file, prompts)
    if done:
        console.print(f"{counted(done, 'prompt')} answered before, {len(prompts) - done} to go")
    if done < len(prompts):
        players = {name: _loaded(pipeline, place, prompts) for name, place in places.items()}
        options = {"samples": cfg.samples, "seed": cfg.seed, "at_once": cfg.batch_size}
        with Counting(console, "prompts", len(prompts) - done) as counting:
            for count, row in enumerate(answer(players, prompts, **options, skip=done), 1):
                append_whole(file, answers_line(row))
                counting(count)
    numbers = _numbers(file)
    summary = write_summary(
        run,
        cfg,
        numbers,
        data={**pipeline.source.counts, **pipeline.limits.options()},
        stages=pipeline.stages,
    )
    run.save(finished=True)
    told = f"{counted(numbers['answers'], 'answer')}, of {numbers['tokens']:.1f} tokens on average"
    cut = f"{1 - numbers['stopped']:.1%} were cut at {pipeline.limits.tokens[1]} tokens"
    say(console, [f"{told}; {cut}", line("answers  ", (from_here(file), WHOLE))])
    return summary


def _loaded(pipeline: Pipeline, place: str, prompts: list[Prompt]) -> Player:
    """A policy that is ready to answer these prompts."""
    cfg = pipeline.cfg
    path = pipeline.reference() if place == REFERENCE else (place, None)
    player = Player(*path, pipeline, cfg.temperature, cfg.batch_size)
    if cfg.selfcheck:
        player.check(prompts)
    say(pipeline.console, player.choose_sampler(cfg.hardware.get("sampler", "auto"), prompts))
    return player


def _numbers(file: Path) -> dict[str, float]:
    """How many there are, what share of the answers ended by themselves, their mean length."""
    prompts = answers = stopped = tokens = 0
    for row in answers_in(file):
        prompts += 1
        answers += len(row.answers)
        stopped += sum(answer.stopped for answer in row.answers)
        tokens += sum(answer.tokens for answer in row.answers)
    return {
        "prompts": prompts,
        "answers": answers,
        "stopped": stopped / answers,
        "tokens": tokens / answers,
    }

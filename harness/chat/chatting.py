"""A chat from the loading of its policy to its end."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from datamodules.records import Prompt
from harness.chat.speech import Voice
from harness.chat.talk import Talk
from harness.chat.votes import Votes
from harness.feedback.store import FILE
from harness.generation.player import Player, check_players
from harness.parts.choices import Choices
from harness.parts.players import names_of, short_name
from harness.pipeline.pipeline import Pipeline
from harness.quiet import quiet_transformers
from harness.reports.console import make_console, say
from harness.reports.plain_console import NAME, PlainConsole, line
from harness.runs.folder import Run, today
from harness.runs.used_stages import REFERENCE
from lightning_modules.errors import OptionError
from lightning_modules.models.loading import fetch_config
from lightning_modules.models.usable import positions
from lightning_modules.options.paths import model_folder

# For a model whose config does not say how much it can read.
UNKNOWN_POSITIONS = 4096
CHECKED = ("What is the capital of France?", "Name a fruit.")


# Makes a conversation for who votes in it, and leads it until it has an end.
Lead = Callable[[Callable[[str], Talk], PlainConsole], None]


def chat_chosen(choices: Choices, lead: Lead, notes: Sequence[str] = ()) -> None:
    """Load `cfg.policy` and have `lead` talk with it. `notes` say where the options come from."""
    quiet_transformers()
    pipeline = Pipeline(choices, make_console(alone=True))
    cfg, console = pipeline.cfg, pipeline.console
    pipeline.run = Run(Path(), {}, "", lock=None, date=today(cfg))  # nothing is written
    against = None if cfg.against == REFERENCE else cfg.against
    players = [("policy", cfg.policy), *([("against", against)] if against else [])]
    check_players(pipeline, players, ())
    say(console, notes)
    names = names_of([cfg.policy, against or REFERENCE])
    if against == cfg.policy:
        names = [short_name(against), f"{short_name(against)} (2)"]

    def voice(number: int, path: str | Path, revision: str | None) -> Voice:
        return Voice(names[number], _player(pipeline, path, revision), number, cfg.seed)

    @cache
    def other() -> Voice:
        path = (against, None) if against else _reference(pipeline)
        say(console, [f"loading {names[1]}"])
        return voice(1, *path)

    speaker = voice(0, cfg.policy, None)

    def begin(annotator: str) -> Talk:
        votes = Votes(Path(cfg.store).expanduser() / FILE, annotator)
        return Talk(speaker, other, votes, cfg.system)

    limit = speaker.player.encoder.max_response_tokens
    how = f", temperature {cfg.temperature:g}, up to {limit} tokens an answer"
    console.print(line((names[0], NAME), how))
    lead(begin, console)


def _player(pipeline: Pipeline, path: str | Path, revision: str | None) -> Player:
    """A policy that reads as much of a conversation as it can."""
    cfg = pipeline.cfg
    room = positions(fetch_config(model_folder(path), revision)) or UNKNOWN_POSITIONS
    response = min(cfg.max_tokens, room // 2)
    tokens = (room - response, response)
    player = Player(path, revision, pipeline, cfg.temperature, tokens=tokens)
    if cfg.selfcheck:
        player.check([Prompt.from_text(text) for text in CHECKED])
    return player


def _reference(pipeline: Pipeline) -> tuple[str | Path, str | None]:
    """What the policy's run began from; OptionError where nobody knows, or it is not there."""
    model, origin = pipeline.language_model, pipeline.origin
    if model.embedded and not (origin and "sft" in origin.stages):
        raise OptionError(
            f"policy={pipeline.cfg.policy}: its reference is not known, or is gone; start"
            " with against=<a run, a folder or a hub id>"
        )
    return pipeline.reference()

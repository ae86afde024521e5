"""What a person should hear before anything is trained: what the data set recommends, and that a
toy is no match for real data.
"""

import re
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.text import Text

from datamodules.sources.landmarks import Landmarks
from harness.parts.parts import Parts
from harness.pipeline.planning import learns
from harness.reports.console import say, warn
from harness.reports.plain_console import WHOLE, line
from harness.runs.command import typed_overrides
from harness.typed import program, word
from lightning_modules.policy import PolicyModule
from lightning_modules.sft import SFT

# How an option refers to what the data set recommends, unless a budget says something else.
REFERENCE = re.compile(r"(?:\$\{budget:(\w+),)?\$\{data\.recommended\.\w+\}+")
# A pretrained model in the place of a toy, and what is typed for a toy alone.
PRETRAINED = ("model=smollm_135m", "adapter=lora")
OF_A_TOY = re.compile(r"[+~]*(model|adapter|resume)([./@=]|$)")


def say_advice(console: Console, parts: Parts) -> None:
    """What the data set recommends and is followed in, and whether the model suits the data."""
    cfg = parts.cfg
    if followed := recommended(cfg, list(_trainings(parts))):
        suits = cfg.data.recommended.get("suits", "a toy on this data")
        if not parts.language_model.embedded:
            suits += "; for a pretrained model they are a first guess"
        told = ", ".join(f"{option}={value}" for option, value in followed.items())
        say(
            console,
            [f"data={cfg.data.name} recommends {told} (for {suits}); change them as you like"],
        )
    if parts.language_model.embedded and not isinstance(parts.source, Landmarks):
        warn(console, [_about_toy(parts)])


def recommended(cfg: DictConfig, trainings: list[str]) -> dict[str, Any]:
    """The options of these sections of the config in which the data set's recommendation counts,
    with their values.
    """
    found = {}
    for place in trainings:
        section = OmegaConf.select(cfg, place)
        for name, written in OmegaConf.to_container(section, resolve=False).items():
            reference = REFERENCE.fullmatch(written) if isinstance(written, str) else None
            if reference and OmegaConf.select(cfg, f"budget.{reference[1]}") is None:
                found[f"{place}.{name}"] = section[name]
    return found


def _trainings(parts: Parts) -> Iterator[str]:
    """The sections of the config by which something will be trained, unless it is cached."""
    yield "algo"
    if parts.language_model.embedded and not isinstance(parts.algorithm, SFT):
        yield "stages.sft"
    if isinstance(parts.algorithm, PolicyModule) and learns(parts.reward):
        yield "stages.reward_model"


def _about_toy(parts: Parts) -> Text:
    size = parts.language_model.parameters()
    rows = len(parts.source.taught("train"))
    unit = "rows" if parts.source.thumbs("train") else "comparisons"
    typed = (word(o) for o in typed_overrides() if not OF_A_TOY.match(o))
    return line(
        f"model={parts.cfg.model.name} is a toy of {size / 1e6:.1f} million parameters, trained"
        f" from nothing: it does not learn a language from {rows:,} {unit}, and what it"
        " writes will make no sense. With a pretrained model:\n  ",
        (" ".join((program(), *PRETRAINED, *typed)), WHOLE),
    )

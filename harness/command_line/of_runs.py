"""A command line that names a run whose options it begins with: `task=evaluate policy=<run>`."""

import re
from collections.abc import Sequence
from pathlib import Path

from harness.command_line import option_files
from harness.overrides import BLANKS, OVERRIDE
from harness.runs.command import hydra_of, run_of

# The options of a task that name such a run, the first one that does is meant.
NAMING = {
    "evaluate": ("policy", "against", "reward.path"),
    "export": ("run",),
    "generate": ("policy", "policies"),
    "label": ("policies",),
    "chat": ("policy", "against"),
}
GROUPS = ("algo", "model", "adapter", "data", "reward")
WITHIN = re.compile(r"(algo|stages|model|adapter|data|reward)\.[\w.]+=")


def with_options_of_run(arguments: Sequence[str]) -> list[str]:
    """The arguments so that Hydra, which composes the defaults, takes an option that only the run's
    choices have: `data.limit=9`, where that run has files. The task finds its place.
    """
    given = _given(arguments)
    if _run(given) is None:
        return list(arguments)
    return [
        f"++{argument}" if (m := WITHIN.match(argument)) and m[1] not in given else argument
        for argument in arguments
    ]


def choices_of_run(arguments: Sequence[str]) -> list[str]:
    """What the run that the arguments name has chosen of the groups that they do not choose from,
    by what is kept of its command; `[]` if they name none.
    """
    given = _given(arguments)
    run = _run(given)
    if run is None:
        return []
    choices = hydra_of(run).get("choices", {})
    there = {group: choices.get(group) for group in GROUPS if group not in given}
    if given.get("task") == "evaluate" and given.get("policy") is None:
        there = {"data": there.get("data")}  # of a reward model
    return [f"{g}={c}" for g, c in there.items() if c in option_files.choices(g)]


def _given(arguments: Sequence[str]) -> dict[str, str]:
    return {m[2]: m[3] for argument in arguments if (m := OVERRIDE.fullmatch(argument))}


def _run(given: dict[str, str]) -> Path | None:
    """The run that is named, also as one of several values of a sweep, a list or a dictionary."""
    values = [given.get(name, "") for name in NAMING.get(given.get("task", ""), ())]
    parts = [part for value in values for part in (value, *value.split(","))]
    parts += [part.partition(":")[2] for part in parts]
    places = [part.strip(BLANKS + "'\"[]{}") for part in parts]
    return next((run for place in places if (run := run_of(place))), None)

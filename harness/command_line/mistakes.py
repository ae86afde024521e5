"""A command line looked through before Hydra has it: every mistake is told before a job starts.

The config is composed once for each combination of choices (algo=ppo,a2c). Values are then given to
it one after another, so that a message can name the one that is wrong.
"""

import copy
import itertools
import math
from argparse import Namespace
from collections.abc import Iterator, Sequence

from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from harness.command_line import option_files
from harness.command_line.choices import require_choice, require_plugins
from harness.command_line.composing import Composer
from harness.command_line.flags import parse_overrides
from harness.command_line.kinds import defaults_of, require_kinds, require_sections
from harness.command_line.names import ratio
from harness.command_line.unknown import options_of, refuse_unknown
from harness.overrides import means_multirun
from lightning_modules.errors import OptionError

MOST_COMPOSED = 24  # combinations of choices
MOST_VALUES = 100  # of one option
# Names below these are free, or of a library: + adds one, and ~ leaves one out.
OPEN = ("hydra", "adapter.config", "model.config", "model.template_arguments", "reward")
OPEN += ("algo.optimizer", "stages.sft.optimizer", "stages.reward_model.optimizer")
OPEN += ("algo.adaptive_beta", "callbacks", "hardware", "judge.extra")
CLOSED = ("algo", "stages", "model", "reward", "judge", "data")
LISTED = ("experiment",)  # groups of which several may be chosen at once
SAME = 0.8  # an added name so like one that is there is a misspelt one

Values = list[Override]  # what one option is given: a value, or one after another in a sweep


def refuse_mistakes(flags: Namespace) -> list[DictConfig]:
    """Raise OptionError for the first thing that cannot be meant; returns what is composed: the
    config, or of a sweep one for each combination of choices.
    """
    composer = Composer(flags)
    overrides = parse_overrides(flags.overrides)
    swept = flags.multirun or any(map(means_multirun, flags.overrides))
    for override in overrides:
        if override.is_sweep_override() and not swept:
            raise OptionError(_several(composer, override))
    choices, values = _parted(composer, overrides)
    if swept:
        first = composer.compose([each[0].input_line for each in choices])
        _require_listed(first, overrides)
        more_choices, more_values = _parted(composer, _of_sweeper(first, overrides))
        choices, values = choices + more_choices, values + more_values
    return [_looked_through(composer, each, values, swept) for each in _combinations(choices)]


def _looked_through(
    composer: Composer, choices: Sequence[Override], values: Sequence[Values], swept: bool
) -> DictConfig:
    """The config of these choices, given all values."""
    config = composer.compose([override.input_line for override in choices])
    require_plugins(config, choices)
    _require_package(config)
    if not swept:
        _require_one_run(config)
    for each in values:
        for override in each:
            # What is added for one value of a sweep is not there for the next.
            given = config if override is each[-1] else copy.deepcopy(config)
            _require_known(composer, given, override)
            composer.apply(given, override)
            if len(each) > 1:
                require_kinds(given)
    require_sections(config)
    _require_known_names(composer, config)
    require_kinds(config)
    return config


def _require_one_run(config: DictConfig) -> None:
    """Raise OptionError if a preset is for a sweep, and this is none."""
    chosen = config.hydra.runtime.choices
    if config.hydra.mode == RunMode.MULTIRUN:
        return
    if sweep := chosen.get("sweep"):
        raise OptionError(f"sweep={sweep}: is for a sweep; add -m before the options")
    if params := config.hydra.sweeper.get("params"):
        one = chosen.get("experiment")  # none where a list was given
        raise OptionError(
            f"experiment{f'={one}' if one else ''}: goes through values of {', '.join(params)};"
            " add -m before the options"
        )


def _require_package(config: DictConfig) -> None:
    """Raise OptionError if a preset of one's own is put where nothing reads it."""
    if isinstance(config.get("experiment"), DictConfig):
        chosen = config.hydra.runtime.choices.get("experiment")
        raise OptionError(
            f"experiment={chosen}: nothing in it would be read; its first line has to be"
            " # @package _global_"
        )


def _several(composer: Composer, override: Override) -> str:
    key, listed = override.get_key_element(), override.input_line.partition("=")[2]
    takes_list = override.is_choice_sweep() and (key in LISTED or not composer.is_group(key))
    as_list = f"; a list is written {key}=[{listed}]" if takes_list else ""
    return (
        f"{override.input_line}: several values are gone through with -m: python run.py -m"
        f" {override.input_line}{as_list}"
    )


def _values(override: Override) -> Values:
    """An override as those of its single values; none where they cannot be listed."""
    if not override.is_sweep_override():
        return [override]
    if not override.is_discrete_sweep():
        return []
    texts = itertools.islice(override.sweep_string_iterator(), MOST_VALUES)
    return parse_overrides([f"{override.get_key_element()}={text}" for text in texts])


def _parted(composer: Composer, overrides: Sequence[Override]) -> tuple[list[Values], list[Values]]:
    """What is chosen of groups, and what is given to options. OptionError for a choice that is not
    there.
    """
    choices: list[Values] = []
    values: list[Values] = []
    for override in overrides:
        override.config_loader = composer.loader  # for glob(*)
        each = _values(override)
        chooses = composer.is_group(override.key_or_group)
        chooses = chooses and not any(isinstance(one.value(), dict) for one in each)
        if chooses:
            for one in each:
                require_choice(composer, one, takes_list=override.key_or_group in LISTED)
        if each:
            (choices if chooses else values).append(each)
    return choices, values


def _require_listed(config: DictConfig, overrides: Sequence[Override]) -> None:
    """Raise OptionError for an interval where the sweeper only goes through values."""
    if config.hydra.runtime.choices["hydra/sweeper"] != "basic":
        return
    for override in overrides:
        if override.is_sweep_override() and not override.is_discrete_sweep():
            raise OptionError(
                f"{override.input_line}: is searched by sweep=optuna; without it list the values,"
                f" {override.get_key_element()}=1,2,3"
            )


def _of_sweeper(config: DictConfig, typed: Sequence[Override]) -> list[Override]:
    """What a preset sweeps over (experiment=ladder, sweep=optuna), unless it is typed too."""
    params = config.hydra.sweeper.get("params") or {}
    names = {override.key_or_group for override in typed}
    return parse_overrides([f"{name}={v}" for name, v in params.items() if name not in names])


def _combinations(choices: Sequence[Values]) -> Iterator[tuple[Override, ...]]:
    """All combinations, if they are few; else so many that each choice is in one."""
    if math.prod(map(len, choices)) <= MOST_COMPOSED:
        return itertools.product(*choices)
    longest = max(map(len, choices))
    return (tuple(each[i % len(each)] for each in choices) for i in range(longest))


def _require_known(composer: Composer, config: DictConfig, override: Override) -> None:
    """Raise OptionError unless the option is there or, where names are free, may be added."""
    key, given = override.key_or_group, override.input_line
    known = options_of(config)
    is_open = _is_open(key)
    if override.is_delete():
        if key not in known:
            refuse_unknown(composer, config, key, given)
        if not is_open:
            raise OptionError(f"{given}: it cannot be left out; give it a value, {key}=...")
    elif key in known:
        if override.is_add() and not override.is_force_add():
            raise OptionError(f"{given}: it is there already; write {given.lstrip('+')}")
        _require_section(config, override)
    elif not (override.is_add() and is_open) or _is_misspelt(key, known):
        refuse_unknown(composer, config, key, given)


def _is_misspelt(key: str, known: Sequence[str]) -> bool:
    section, _, last = key.rpartition(".")
    there = [name.rpartition(".") for name in known]
    return any(s == section and ratio(last, name) >= SAME for s, _, name in there)


def _require_section(config: DictConfig, override: Override) -> None:
    """Raise OptionError if several options shall be one value."""
    key, value = override.key_or_group, override.value()
    node = OmegaConf.select(config, key)
    if not isinstance(node, DictConfig) or value is None or isinstance(value, dict):
        return
    names = [f"{key}.{name}" for name in node if not str(name).startswith("_")]
    if names and key != "algo.optimizer":  # which says more when it is checked
        raise OptionError(f"{override.input_line}: is several options: give {', '.join(names)}")


def _require_known_names(composer: Composer, config: DictConfig) -> None:
    """Raise OptionError for what a file of one's own (an experiment) has written and nobody reads:
    an option that its section has not, or a misspelt name at the root.
    """
    files = {part for name, _ in defaults_of(config) for part in _with_sections(name)}
    sections = {name for name in files if "." not in name}
    closed = set(CLOSED) - _of_ones_own(config)
    chosen = config.hydra.runtime.choices.get("experiment")
    where = f"experiment={chosen}: " if chosen else ""
    for name in options_of(config):
        section = name.partition(".")[0]
        if section in (*sections, *CLOSED):
            is_known = section not in closed or name in files or _is_open(name)
        else:
            is_known = not any(ratio(section, other) >= SAME for other in sections)
        if not (is_known or name.rpartition(".")[2].startswith("_") or section == "hydra"):
            refuse_unknown(composer, config, name, f"{where}{name}")


def _of_ones_own(config: DictConfig) -> set[str]:
    """The sections that a file outside of conf/ fills: what it may hold is not known here."""
    keys = [str(key) for key, choice in config.hydra.runtime.choices.items() if choice is not None]
    return {
        (package or group).partition(".")[0]
        for key in keys
        for group, _, package in [key.partition("@")]
        if not option_files.read(group, str(config.hydra.runtime.choices[key])).options
    }


def _with_sections(name: str) -> Iterator[str]:
    """a, a.b and a.b.c of a.b.c."""
    parts = name.split(".")
    return (".".join(parts[:n]) for n in range(1, len(parts) + 1))


def _is_open(name: str) -> bool:
    return f"{name}.".startswith(tuple(f"{place}." for place in OPEN))

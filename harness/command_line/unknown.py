"""The message for an option that there is not: which one is meant, and under which choice it is."""

from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from harness.command_line import option_files
from harness.command_line.composing import Composer
from harness.command_line.kinds import defaults_of
from harness.command_line.names import ELSEWHERE, likeness, suggestions
from harness.runs.secrets import hide_override
from lightning_modules.errors import OptionError

SURE = 0.9  # so near that an option of this run is meant, whatever other choices have
ALL = "python run.py --cfg job lists all of this run"


def refuse_unknown(composer: Composer, config: DictConfig, key: str, given: str) -> None:
    """Raise OptionError: `given` names the option `key`, which this config has not."""
    given = f"{key}=..." if key.startswith("judge.") else hide_override(given)  # it may be a key
    value = given.partition("=")[2]
    if f"stages.{key}" in options_of(config):
        told = _did_you_mean([f"stages.{key}={value}"])
    else:
        told = _explanation(composer, config, key, value)
    raise OptionError(f"{given}: {told}")


def options_of(config: DictConfig) -> list[str]:
    """The names of all options of a composed config, those of sections and of Hydra too."""
    return list(_names(OmegaConf.to_container(config, resolve=False)))


def _names(section: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(section, dict):
        for name, value in section.items():
            yield f"{prefix}{name}"
            yield from _names(value, f"{prefix}{name}.")


def _explanation(composer: Composer, config: DictConfig, key: str, value: str) -> str:
    is_of_hydra = key.startswith("hydra.")
    known = [name for name in _leaves(config) if name.startswith("hydra.") == is_of_hydra]
    known = [name for name in known if not f"{name}.".startswith(f"{key}.")]
    section, _, last = key.rpartition(".")
    if section in known:
        return _one_option(config, section)
    if library := _library(config, section):
        near = suggestions(key, [name for name in known if name.startswith(f"{section}.")])
        handed = f"{library} is given what stands in {section}; to give it more: +{key}={value}"
        return _did_you_mean(near) if near else f"there is no such option; {handed}"
    if not is_of_hydra:
        if _is_meant(elsewhere := ELSEWHERE.get(last, ""), known):
            return _did_you_mean([f"{elsewhere}={value}"])
        if meant := _choice(composer, key, value):
            return _did_you_mean([meant])
    near = suggestions(key, known)
    others = {} if is_of_hydra else _of_other_choices(config)
    if key in others:
        return f"is an option of {_where(key, others, config)}"
    is_sure = bool(near) and likeness(last, near[0].rpartition(".")[2]) >= SURE
    elsewhere = suggestions(key, list(others))
    if elsewhere and not is_sure and _is_nearer(key, elsewhere[0], near):
        where = _where(elsewhere[0], others, config)
        return f"there is no such option; did you mean {elsewhere[0]}? That is one of {where}"
    if near:
        return _did_you_mean(near)
    if meant := [group for group in composer.groups() if last in composer.choices(group)]:
        return _did_you_mean([f"{meant[0]}={last}"])
    there = [name.rpartition(".")[2] for name in known if name.rpartition(".")[0] == section]
    listed = f"{section} has {', '.join(there)}" if section and there else ALL
    return f"there is no such option; {listed}"


def _one_option(config: DictConfig, name: str) -> str:
    """The explanation for a part of an option that has a single value now."""
    files = dict(defaults_of(config))
    told = f" ({files[name].text} {files[name].comment})" if name in files else ""
    return f"{name} is given as a whole, {name}=...{told}"


def _leaves(config: DictConfig) -> list[str]:
    """The options that have a value, but for what builds them (`_target_`)."""
    names = [n for n in options_of(config) if not n.rpartition(".")[2].startswith("_")]
    sections = {name.rpartition(".")[0] for name in names}
    return [name for name in names if name not in sections]


def _library(config: DictConfig, section: str) -> str:
    """The class of a library that gets the options of a section; "" if it is not of a library."""
    node = OmegaConf.select(config, section) if section else None
    target = str(node.get("_target_", "")) if isinstance(node, DictConfig) else ""
    ours = ("harness.", "datamodules.", "lightning_modules.", "hydra")
    return "" if target.startswith(ours) else target


def _is_meant(elsewhere: str, known: Sequence[str]) -> bool:
    """Whether what another framework's name leads to is there, or is chosen along with it."""
    return bool(elsewhere) and ("=" in elsewhere or elsewhere in (*known, "hydra.run.dir"))


def _did_you_mean(meant: Sequence[str]) -> str:
    first, *more = meant
    others = f" (or {', '.join(more)})" if more else ""
    return f"there is no such option; did you mean {first}?{others}"


def _is_nearer(key: str, other: str, near: Sequence[str]) -> bool:
    last = key.rpartition(".")[2]
    here = max((likeness(last, name.rpartition(".")[2]) for name in near), default=0.0)
    return likeness(last, other.rpartition(".")[2]) > here


def _choice(composer: Composer, key: str, value: str) -> str:
    """What is chosen by `alg=ppo` and `lora=true`: algo=ppo, adapter=lora; "" if it is nothing."""
    last = key.replace("/", ".").rpartition(".")[2]
    groups = composer.groups()
    near = {group: likeness(last, group.rpartition("/")[2]) for group in groups}
    alike = sorted((g for g in groups if near[g] >= 0.6), key=lambda group: -near[group])
    for group in alike:
        if composer.has_choice(group, value):
            return f"{group}={value}"
    if "." not in key and alike and near[alike[0]] >= 0.75:
        return f"{alike[0]}=..., one of {', '.join(composer.choices(alike[0]))}"
    of = [group for group in groups if value == "true" and last in composer.choices(group)]
    return f"{of[0]}={last}" if of else ""


def _of_other_choices(config: DictConfig) -> dict[str, list[str]]:
    """Options that other choices would bring, each with these choices (group=choice)."""
    found: dict[str, list[str]] = {}
    chosen = config.hydra.runtime.choices
    for group in {str(name).partition("@")[0] for name in chosen}:
        if group.startswith("hydra") or "/" in group:
            continue
        for choice in option_files.choices(group):
            file = option_files.read(group, choice)
            if choice == chosen.get(group) or (file.is_global and group != "task"):
                continue
            for option in file.options.values():
                if option.is_section:
                    continue
                name = option.name if file.is_global else f"{group}.{option.name}"
                found.setdefault(name, []).append(f"{group}={choice}")
    return found


def _where(name: str, others: dict[str, list[str]], config: DictConfig) -> str:
    group = others[name][0].partition("=")[0]
    return f"{', '.join(others[name])}, and this is {group}={config.hydra.runtime.choices[group]}"

"""What can be chosen of a group, and the message for what cannot: `algo=pppo`, `model=./folder`."""

from collections.abc import Sequence
from importlib.util import find_spec

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from harness.command_line.composing import OF_PLUGINS, PLUGINS, Composer, needs_plugin, no_choice
from lightning_modules.errors import OptionError


def require_choice(composer: Composer, override: Override, *, takes_list: bool) -> None:
    """Raise OptionError unless what an override chooses of its group is there; `takes_list`:
    several may be chosen.
    """
    group, given, value = override.key_or_group, override.input_line, override.value()
    if override.is_delete():
        there = ", ".join(composer.choices(group))
        raise OptionError(f"{given}: it cannot be left out; give {group}=..., one of {there}")
    if value is None:
        raise OptionError(f"{given}: to choose nothing, leave it out")
    if isinstance(value, list) and not takes_list:
        listed = ",".join(map(str, value))
        raise OptionError(
            f"{given}: one is chosen, {group}=...; several are gone through with"
            f" -m {group}={listed}"
        )
    for choice in value if isinstance(value, list) else [value]:
        if not composer.has_choice(group, str(choice)) and not group.startswith(OF_PLUGINS):
            raise OptionError(_no_choice(composer, group, str(choice)))


def require_plugins(config: DictConfig, chosen: Sequence[Override]) -> None:
    """Raise OptionError if the launcher or the sweeper lacks the library that it is for."""
    choices = config.hydra.runtime.choices
    for group in OF_PLUGINS:
        library = PLUGINS.get(str(choices.get(group)))
        if library and find_spec(library) is None:
            raise OptionError(needs_plugin([override.input_line for override in chosen], library))


def _no_choice(composer: Composer, group: str, choice: str) -> str:
    """The message for a choice that there is not. A place has an option of its own."""
    is_place = any(mark in choice for mark in "/.:~")
    reward = "reward=function reward.path" if ":" in choice else "reward=checkpoint reward.path"
    options = {
        "model": "model=pretrained model.pretrained",
        "data": "data=files data.path",
        "reward": reward,
    }
    if is_place and group in options:
        return f"{group}={choice}: there is no such choice; write {options[group]}={choice}"
    folder = choice.rpartition("/")[0]
    inner = [f"{folder}/{name}" for name in composer.choices(f"{group}/{folder}")] if folder else []
    return no_choice(group, choice, inner or composer.choices(group))

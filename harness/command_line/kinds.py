"""Whether each option has a value of the kind that it wants, wherever its rules are.

Of algorithms, models and rewards the options' own classes say it; of everything else the default in
the file of conf/ does and, where that leaves it open, the tables here.
"""

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.checks.config import OPTIONS, check_kinds, require_kind
from harness.command_line import option_files
from harness.command_line.option_files import Option
from harness.overrides import written
from lightning_modules.errors import OptionError
from lightning_modules.options.judges import check_key_name, check_url, refuse_key

TELLING = (bool, int, float)  # a default that is text, or null, does not say what else may be given
LEARNERS = ("sft", "reward_model", "policy", "policy_one_update")
KINDS = {
    **{f"data.{rows}": int for rows in ("train_demonstrations", "train_pairs", "val_pairs")},
    "data.limit": int | None,
    "data.workers": int | None,
    "prompts": int | None,
    "temperature": float | None,
    "data.max_prompt_tokens": int | None,
    "data.max_response_tokens": int | None,
    "pairs": int | None,
    "callbacks.checkpoint_minutes": float | None,
    "callbacks.keep_checkpoints": int | str,  # a number, or all
    **{f"model.lr.{task}": float | None for task in LEARNERS},
}
CHOICES = {
    "early_stop": ("null", "gold"),
    "hardware.accelerator": ("auto", "cpu", "gpu", "cuda", "mps", "tpu"),
    "hardware.sampler": ("auto", "plain", "bucketed"),
    "logger.mode": ("null", "online", "offline", "disabled"),
}
DEVICES = "hardware.devices"


def require_kinds(config: DictConfig) -> None:
    """Raise OptionError for the first option of a composed config that has another kind of value
    than it wants. What cannot be looked up (`${...}`) is told when it is needed.
    """
    try:
        job = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
        plain = OmegaConf.to_container(job, resolve=True)
    except OmegaConfBaseException:
        return
    for name, kind in (_told_by_defaults(config, plain) | KINDS).items():
        value = _at(plain, name)
        if value is not _ABSENT and value != "???":
            require_kind(name, value, kind)
    for name, allowed in CHOICES.items():
        value = _at(plain, name)
        if value is not _ABSENT and written(value) not in (*allowed, "None"):
            raise OptionError(f"{name}={written(value)}: must be one of {', '.join(allowed)}")
    _require_devices(_at(plain, DEVICES))
    check_kinds(plain)
    _refuse_keys(plain.get("judge"))


def _refuse_keys(judge: Any) -> None:
    """OptionError if an option holds what is secret, before anything repeats it."""
    if not isinstance(judge, dict):
        return
    if judge.get("key_from") is not None:
        check_key_name(judge["key_from"])
    if judge.get("base_url") is not None:
        check_url(judge["base_url"])
    for name in ("model", "extra"):
        refuse_key(f"judge.{name}", judge.get(name))


def _told_by_defaults(config: DictConfig, plain: dict[str, Any]) -> dict[str, type]:
    """Kinds by the defaults in the files, but where a class of options says more."""
    return {
        name: type(option.value)
        for name, option in defaults_of(config)
        if type(option.value) in TELLING
        and name != DEVICES
        and _target(plain, name.rpartition(".")[0]) not in OPTIONS
    }


def _target(plain: dict[str, Any], section: str) -> Any:
    """What a section builds."""
    return _at(plain, f"{section}._target_") if section else None


def require_sections(config: DictConfig) -> None:
    """Raise OptionError if a value stands where a group's options belong."""
    for key in config.hydra.runtime.choices:
        group, _, package = str(key).partition("@")
        section = OmegaConf.select(config, package or group.replace("/", "."))
        if not group.startswith("hydra") and not isinstance(section, DictConfig | None):
            name = package or group
            raise OptionError(f"{name}={written(section)}: is a group; choose with {group}=...")


def defaults_of(config: DictConfig) -> Iterator[tuple[str, Option]]:
    """The options of the files that a config was composed of, by their names in it."""
    for option in option_files.read("", "config").options.values():
        yield option.name, option
    for key, choice in config.hydra.runtime.choices.items():
        group, _, package = str(key).partition("@")
        if group.startswith("hydra") or choice is None:
            continue
        file = option_files.read(group, str(choice))
        place = "" if file.is_global else f"{package or group.replace('/', '.')}."
        for option in file.options.values():
            yield f"{place}{option.name}", option


_ABSENT = object()


def _at(plain: Any, name: str) -> Any:
    for part in name.split("."):
        if not isinstance(plain, dict) or part not in plain:
            return _ABSENT
        plain = plain[part]
    return plain


def _require_devices(devices: Any) -> None:
    """A number of devices, or which: [0, 1], "0,1"; or auto."""
    listed = devices if isinstance(devices, list) else str(devices).split(",")
    numbers = all(str(each).strip().removeprefix("-").isdecimal() for each in listed)
    if devices not in (_ABSENT, "auto") and not numbers:
        raise OptionError(
            f"{DEVICES}={written(devices)}: must be how many, or which (hardware.devices=[0,1]),"
            " or auto"
        )

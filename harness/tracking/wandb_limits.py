"""What W&B takes: refused where a person typed it, cut where it only follows from names.

Neither W&B nor torch is imported, so that a mistake is told before anything begins.
"""

from collections.abc import Mapping
from typing import Any

from harness.tracking.wandb_account import chosen_mode
from lightning_modules.errors import OptionError
from lightning_modules.options.require import require

TAG, NAME, PROJECT = 64, 128, 128
NOT_IN_PROJECT = "/\\#?%:"
OPTIONS = ("_target_", "name", "project", "entity", "mode", "group", "tags", "artifacts")
TARGET = "harness.tracking.wandb_run.wandb_run"


def check_logger(logger: Mapping[str, Any]) -> None:
    """Raise OptionError for what W&B would refuse in the middle of a run."""
    if logger.get("_target_") != TARGET:
        return
    if unknown := sorted(logger.keys() - set(OPTIONS)):
        raise OptionError(
            f"logger.{unknown[0]}: logger=wandb has no such option; it has {', '.join(OPTIONS[2:])}"
        )
    chosen_mode(logger.get("mode"))
    for option, longest in (("project", PROJECT), ("entity", NAME), ("group", NAME)):
        value = logger.get(option)
        rule = f"must be text of 1 to {longest} characters, or null"
        good = value is None or (_is_word(value) and 0 < len(str(value).strip()) <= longest)
        require(good, f"logger.{option}", value, rule)
    for option, forbidden in (("project", NOT_IN_PROJECT), ("entity", "/")):
        value = str(logger.get(option))
        rule = f"must have none of {' '.join(forbidden)}"
        require(not set(value) & set(forbidden), f"logger.{option}", value, rule)
    tags = logger.get("tags")
    for tag in tag_list(tags):
        good = _is_word(tag) and 0 < len(str(tag)) <= TAG
        require(good, "logger.tags", tags, f"each must be text of 1 to {TAG} characters")


def tag_list(tags: Any) -> list[Any]:
    """`logger.tags` as a list: it may be null, and one alone needs no brackets."""
    if tags is None:
        return []
    return [tags] if _is_word(tags) or isinstance(tags, Mapping) else list(tags)


def fitting(text: Any, longest: int) -> str:
    """A name as W&B takes it: text that can be sent, cut to so many characters."""
    return sendable(str(text)).strip()[:longest].strip()


def sendable(value: Any) -> Any:
    """A value of the config without halves of characters, which have no UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, Mapping):
        return {sendable(str(key)): sendable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [sendable(each) for each in value]
    return value


def _is_word(value: Any) -> bool:
    """Text, or a number as YAML reads `logger.project=2024`."""
    return isinstance(value, str | int | float) and not isinstance(value, bool)

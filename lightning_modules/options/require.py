"""Checks of what a user may set, made in constructors: before any model is built or trained."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from lightning_modules.errors import OptionError


def require(ok: bool, option: str, value: Any, rule: str) -> None:
    """Raise OptionError unless `ok`: "algo.gamma=1.5: must lie in [0, 1]"."""
    if not ok:
        raise OptionError(f"{option}={value}: {rule}")


def require_at_least(minimum: float, prefix: str, **options: float) -> None:
    """Raise OptionError for the first option whose value is below `minimum`."""
    for option, value in options.items():
        require(value >= minimum, f"{prefix}.{option}", value, f"must be at least {minimum}")


def require_package(name: str, extra: str, option: str, value: Any) -> None:
    """Raise OptionError unless a package is installed that comes with one of our extras."""
    rule = f"needs {name}, which is not installed: pip install 'rlhf-ladder[{extra}]'"
    require(find_spec(name) is not None, option, value, rule)


def one_of(choices: Sequence[str | None]) -> str:
    """The rule of an option with few values: "must be one of null, head, copy"."""
    return f"must be one of {', '.join(choice or 'null' for choice in choices)}"

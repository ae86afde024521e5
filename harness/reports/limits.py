"""What a person should know of the limits of tokens: which they are, why, and what they cut."""

from collections.abc import Iterator

from rich.console import Console

from datamodules.limits import SHARE, Limit, Limits
from harness.reports.console import say, warn


def say_limits(console: Console, limits: Limits) -> None:
    """The limits, where one was chosen, and a caution for each that cuts more than it should."""
    both = (limits.prompt, limits.response)
    if not all(limit.given for limit in both):
        told = (f"{limit.what}s {limit.tokens:,} tokens ({_why(limit, limits)})" for limit in both)
        options = ", ".join(f"{limit.option}=" for limit in both)
        say(console, [f"limits: {', '.join(told)}; other ones: {options}"])
    warn(console, _cautions(limits))


def _cautions(limits: Limits) -> Iterator[str]:
    for limit, other in ((limits.prompt, limits.response), (limits.response, limits.prompt)):
        if limit.cut <= 1 - SHARE:
            continue
        room = ""
        if limits.positions is not None and limit.fits + other.tokens > limits.positions:
            room = f", with a model of more than its {limits.positions:,} positions"
        yield (
            f"{limit.cut:.1%} of the {limit.what}s are longer than {limit.tokens:,} tokens"
            f" ({_why(limit, limits)}) and are cut; {limit.option}={limit.fits} would leave"
            f" {SHARE:.0%} of them whole{room}"
        )


def _why(limit: Limit, limits: Limits) -> str:
    if limit.given:
        return "as given"
    if limit.tokens >= limit.fits:
        return f"{SHARE:.0%} of the data"
    if limits.positions is not None and sum(limits.tokens) >= limits.positions:
        return f"what the model's {limits.positions:,} positions leave"
    return "the most that is chosen"

"""Which prompts are held out, where a set does not say."""

import hashlib
from collections.abc import Iterable

from datamodules.records import DataError, Prompt


def require_share(held_out: float) -> None:
    """Raise DataError unless the option data.held_out is a share."""
    if not 0 < held_out < 1:
        raise DataError(f"data.held_out={held_out}: must lie between 0 and 1")


def require_limit(limit: int | None) -> None:
    """Raise DataError unless the option data.limit leaves rows for both splits."""
    if limit is not None and limit < 2:
        raise DataError(f"data.limit={limit}: must be at least 2, or null for all rows")


def held_out_prompts(prompts: Iterable[Prompt], share: float) -> set[Prompt]:
    """The prompts whose hash is smallest: the same ones whatever the order of the rows.

    At least one, and never all of them where there are two.
    """
    ordered = sorted(set(prompts), key=_hash)
    count = max(1, min(round(share * len(ordered)), len(ordered) - 1))
    return set(ordered[:count])


def _hash(prompt: Prompt) -> str:
    return hashlib.sha256(repr(prompt.messages).encode()).hexdigest()

"""Which checkpoints of a policy are kept: `callbacks.keep_checkpoints`."""

from typing import Any

from lightning_modules.options.require import require


def checkpoints_kept(keep: Any) -> dict[str, Any]:
    """What Lightning's ModelCheckpoint is told; OptionError unless it is 1 or more, or "all".

    A number of them is the newest ones: those of the most steps.
    """
    whole = isinstance(keep, int) and not isinstance(keep, bool) and keep >= 1
    require(
        whole or keep == "all",
        "callbacks.keep_checkpoints",
        keep,
        "must be a whole number, 1 or above, or all",
    )
    if keep == 1:
        return {}  # Lightning's own way
    if keep == "all":
        return {"save_top_k": -1}
    return {"save_top_k": keep, "monitor": "step", "mode": "max"}

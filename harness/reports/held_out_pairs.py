"""Held-out pairs judged by a reward, and the report on how well it does."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from datamodules.records import DataError, Preference, Prompt
from datamodules.sources.cleaning import NO_LOSS, OF_MORE

Score = Callable[[Sequence[Prompt], Sequence[str]], Tensor]


def judge(
    score: Score,
    pairs: Sequence[Preference],
    folder: Path,
    *,
    title: str,
    left_out: Mapping[str, int],
) -> dict[str, float]:
    """Score held-out pairs and write a report into `folder`; its numbers as val/*.

    `score(prompts, texts)` gives (N, n), a column for each head of an ensemble. Pairs of which a
    response cannot be scored are left out and counted.
    """
    from harness.reports.reward_report import write_report  # matplotlib takes a second to import

    prompts = [pair.prompt for pair in pairs]
    heads = [score(prompts, [getattr(p, half) for p in pairs]) for half in ("chosen", "rejected")]
    chosen, rejected = (h.double().mean(-1) for h in heads)
    kept = ~(chosen.isnan() | rejected.isnan())
    if not kept.any():
        raise DataError(f"{title}: none of the {len(pairs)} held-out pairs could be scored")
    disagreement = None
    if heads[0].shape[1] > 1:
        disagreement = tuple(h.double().std(-1)[kept] for h in heads)
    left_out = dict(left_out) | {"held-out pairs that could not be scored": int((~kept).sum())}
    numbers = write_report(
        folder,
        title=title,
        pairs=[pair for pair, keep in zip(pairs, kept.tolist(), strict=True) if keep],
        chosen=chosen[kept],
        rejected=rejected[kept],
        disagreement=disagreement,
        left_out={what: count for what, count in left_out.items() if _is_loss(what) and count},
    )
    return {f"val/{name}": value for name, value in numbers.items()}


def _is_loss(what: str) -> bool:
    """Counts of what was read and kept are no losses."""
    return what.removeprefix(OF_MORE) not in (*NO_LOSS, "prompts", "responses")

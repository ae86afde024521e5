"""Held-out pairs and thumbs judged by a reward, and the report on how well it does."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from datamodules.records import DataError, Preference, Prompt, Thumb
from datamodules.sources.cleaning import NO_LOSS, OF_MORE
from datamodules.sources.source import Source
from harness.disk.files import write_text
from harness.reports.markdown import one_line

Score = Callable[[Sequence[Prompt], Sequence[str]], Tensor]


def judge_held_out(
    score: Score,
    source: Source,
    folder: Path,
    *,
    title: str,
    left_out: Mapping[str, int],
    bias: float | None = None,
) -> dict[str, float]:
    """Score the held-out pairs and thumbs of `source` and write a report into `folder`; its numbers
    as val/*. `bias` is the score at which a thumb is as likely up as down, if the reward has one.
    """
    pairs, thumbs = source.preferences("val"), source.thumbs("val")
    section, numbers = "", {}
    if thumbs:
        section, numbers, unscored = _of_thumbs(score, thumbs, folder, title, bias)
        left_out = dict(left_out) | {"held-out thumbs that could not be scored": unscored}
    if pairs:
        return judge(score, pairs, folder, title=title, left_out=left_out, note=section) | numbers
    from harness.reports.reward_words import left_out_table

    parts = [f"# {one_line(title)}", section, left_out_table(_losses(left_out))]
    write_text(folder / "report.md", "\n\n".join(parts) + "\n")
    return numbers


def _of_thumbs(
    score: Score, thumbs: Sequence[Thumb], folder: Path, title: str, bias: float | None
) -> tuple[str, dict[str, float], int]:
    """The section of the report on thumbs, its numbers, and how many could not be scored."""
    from harness.reports.thumbs.report import thumbs_section  # matplotlib takes a second

    scores = score([t.prompt for t in thumbs], [t.response for t in thumbs]).double().mean(-1)
    kept = ~scores.isnan()
    if not kept.any():
        raise DataError(f"{title}: none of the {len(thumbs)} held-out thumbs could be scored")
    known = [thumb for thumb, keep in zip(thumbs, kept.tolist(), strict=True) if keep]
    section, numbers = thumbs_section(folder, known, scores[kept], bias)
    return section, {f"val/{name}": value for name, value in numbers.items()}, int((~kept).sum())


def judge(
    score: Score,
    pairs: Sequence[Preference],
    folder: Path,
    *,
    title: str,
    left_out: Mapping[str, int],
    note: str = "",
) -> dict[str, float]:
    """Score held-out pairs and write a report into `folder`; its numbers as val/*.

    `score(prompts, texts)` gives (N, n), a column for each head of an ensemble. Pairs of which a
    response cannot be scored are left out and counted. `note` ends the report.
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
        left_out=_losses(left_out),
        note=note,
    )
    return {f"val/{name}": value for name, value in numbers.items()}


def _losses(counts: Mapping[str, int]) -> dict[str, int]:
    """Counts of what was read and kept are no losses."""
    kept = (*NO_LOSS, "prompts", "responses")
    return {
        what: count
        for what, count in counts.items()
        if what.removeprefix(OF_MORE) not in kept and count
    }

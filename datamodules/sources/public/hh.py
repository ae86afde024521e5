"""HH-RLHF (Bai et al. 2022, arXiv:2204.05862): dialogues with an assistant, compared by people.

Anthropic/hh-rlhf, revision `main`: a folder for each subset, with train.jsonl.gz and test.jsonl.gz
of two transcripts, `chosen` and `rejected`, that share all turns but the last, mostly.
"""

from collections.abc import Sequence
from typing import Any

from datamodules.records import DataError
from datamodules.sources.public.hub import HubSource
from datamodules.sources.public.normalising import Reader, Row, normalised
from datamodules.sources.public.repository import Published
from datamodules.sources.transcripts import split_transcripts

SUBSETS = ("harmless-base", "helpful-base", "helpful-online", "helpful-rejection-sampled")
NO_PAIRS = "red-team-attempts"


class HH(HubSource):
    """Pairs of responses to the last turn of a dialogue."""

    splits = {"train": ("train",), "val": ("test",)}  # noqa: RUF012
    rated = False
    expected = 'chosen and rejected, transcripts "\\n\\nHuman: ...\\n\\nAssistant: ..."'

    def __init__(self, *, name: str = "hh", subset: str | Sequence[str] = "all", **options: Any):
        self.subsets = _subsets(subset)
        patterns = tuple(
            f"{s}/{split}.jsonl.gz" for s in self.subsets for split in ("train", "test")
        )
        super().__init__(Published("Anthropic/hh-rlhf", "main", patterns), name=name, **options)

    def reader(self, columns: set[str]) -> Reader | None:
        return read_transcripts if columns >= {"chosen", "rejected"} else None

    def wants(self, parts: tuple[str, ...]) -> bool:
        folders = [part for part in parts if part in (*SUBSETS, NO_PAIRS)]
        # A copy without the set's folders does not say what it holds.
        return folders[-1] in self.subsets if folders else self.subsets == SUBSETS


def _subsets(subset: str | Sequence[str]) -> tuple[str, ...]:
    chosen = [subset] if isinstance(subset, str) else list(subset)
    if chosen == ["all"]:
        return SUBSETS
    if NO_PAIRS in chosen:
        raise DataError(
            f"data.subset={subset}: {NO_PAIRS} are single dialogues with ratings of harm, no pairs;"
            f" choose from all, {', '.join(SUBSETS)}"
        )
    if not chosen or set(chosen) - set(SUBSETS):
        raise DataError(
            f"data.subset={subset}: must be all, or one or several of {', '.join(SUBSETS)}"
        )
    return tuple(s for s in SUBSETS if s in chosen)


def read_transcripts(row: Row) -> dict[str, Any]:
    """The shared turns, and how each transcript goes on up to its next turn."""
    parts = split_transcripts(row["chosen"], row["rejected"])
    if parts is None:
        raise ValueError("no shared beginning")
    prompt = [turn._asdict() for turn in parts.turns]
    return normalised(prompt, [parts.chosen, parts.rejected], [1.0, 0.0], cut=parts.cut)

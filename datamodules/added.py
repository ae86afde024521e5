"""`data.more`: feedback from further files, that reward models learn from as well."""

from collections.abc import Sequence

from datamodules.records import DataError, Feedback
from datamodules.sources.cleaning import ADDED, OF_MORE
from datamodules.sources.files import Files
from datamodules.sources.source import Added, Source


class MoreFiles(Files):
    """Files that are read as `data=files` reads them; none of their rows is held out."""

    option = "data.more"

    def _read(self) -> dict[str, list[Feedback]]:
        return {"train": self._feedback(self.files), "val": []}


def add_feedback(source: Source, files: str | Sequence[str]) -> None:
    """Let reward models learn from the rows of `files` too, but for those whose prompt `source`
    holds out, which are counted. DataError if a row is malformed, or none is left.
    """
    more = MoreFiles(path=files)
    held_out = {*source.prompts("val"), *(told.prompt for told in source.feedback("val"))}
    rows = more.feedback("train")
    kept = [told for told in rows if told.prompt not in held_out]
    if not kept:
        raise DataError(f"data.more={files}: the prompts of all {len(rows)} rows are held out")
    source.added = Added(kept, more.places, {"sha256": more.identity()["sha256"]})
    source.counts[ADDED] = len(kept)
    if left_out := len(rows) - len(kept):
        source.counts[f"{OF_MORE}prompt is held out"] = left_out
    source.counts.update({f"{OF_MORE}{what}": n for what, n in more.counts.items()})
    source.notes += [f"data.more: {note}" for note in more.notes]
    source.cautions += [f"data.more: {caution}" for caution in more.cautions]

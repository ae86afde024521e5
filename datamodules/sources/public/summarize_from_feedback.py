"""Summaries compared by people (Stiennon et al. 2020, arXiv:2009.01325): TL;DR and CNN/DM.

openai/summarize_from_feedback, config `comparisons`: info (id, post, title, subreddit; or site,
title, article), summaries (two of text, policy, note), choice, worker, batch, split, extra
(confidence). The hub's own loading script runs no more, so this reads the Parquet files that the
hub has made of it: revision refs/convert/parquet, folder comparisons/. The JSON lines of the first
publication (comparisons/batch3.json and so on) have the same fields; there each row says of which
split it is.
"""

from typing import Any

from datamodules.sources.public.hub import HubSource
from datamodules.sources.public.normalising import Reader, Row, normalised
from datamodules.sources.public.repository import Published

PUBLISHED = Published(
    "openai/summarize_from_feedback",
    "refs/convert/parquet",
    ("comparisons/train/*.parquet", "comparisons/validation/*.parquet"),
)
SPLITS = {"train": "train", "valid1": "val", "valid2": "val"}
# The queries of the paper's models (openai/summarize-from-feedback).
TLDR = "SUBREDDIT: r/{subreddit}\n\nTITLE: {title}\n\nPOST: {post}\n\nTL;DR:"
NEWS = "Article:\n{article}\n\nTL;DR:"


class SummarizeFromFeedback(HubSource):
    """Pairs of summaries; how sure the people were is published, but not how much better one is."""

    splits = {"train": ("train",), "val": ("validation", "test")}  # noqa: RUF012
    rated = False
    expected = "info, summaries and choice (config `comparisons`)"

    def __init__(self, *, name: str = "summarize_from_feedback", **options: Any):
        super().__init__(PUBLISHED, name=name, **options)

    def reader(self, columns: set[str]) -> Reader | None:
        return read_comparison if columns >= {"info", "summaries", "choice"} else None

    def wants(self, parts: tuple[str, ...]) -> bool:
        # The other half of the set rates single summaries.
        return not {"axis", "axis_evals"} & set(parts)


def read_comparison(row: Row) -> dict[str, Any]:
    """A post or an article, two summaries, and which of them was chosen."""
    info, choice = row["info"], row["choice"]
    if choice not in (0, 1) or len(row["summaries"]) != 2:
        raise ValueError("not one of two summaries")
    responses = [summary["text"].strip() for summary in row["summaries"]]
    ratings = [float(choice == i) for i in range(2)]
    prompt = [{"role": "user", "content": _query(info)}]
    return normalised(prompt, responses, ratings, SPLITS.get(row.get("split"), ""))


def _query(info: Row) -> str:
    if info.get("post"):
        return TLDR.format(**{k: info[k].strip() for k in ("subreddit", "title", "post")})
    return NEWS.format(article=info["article"].strip())

"""Pairs, rankings and thumbs, for a reward model."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations, groupby, permutations, product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from datamodules.micro_batches import SupervisedDataModule
from datamodules.records import Comparison, DataError, Preference, Prompt, Thumb
from datamodules.sources.source import Source, Split
from datamodules.tokenization.encoder import Encoder

# Of a ranking with ties: how many orders of its responses may be open.
MAX_ORDERS = 120
# A prompt is read once for all its responses where that saves this share of the tokens: a second
# pass through the model is not free.
WORTH_SHARING = 0.05


class Pair(NamedTuple):
    """Two responses of a comparison by their number, the preferred one first, and what is known."""

    chosen: int
    rejected: int
    tied: bool
    strength: float
    probability: float


class EncodedFeedback(NamedTuple):
    """A prompt and its responses as ids, and what was said of the responses."""

    prompt: list[int]
    responses: list[list[int]]
    characters: list[int]  # of each response's text
    pairs: list[Pair]
    orders: list[tuple[int, ...]]  # which the ratings allow, the best response first
    thumb: Thumb | None  # on the only response
    cluster: int  # which of the split's prompts
    resampled: list[int]  # how often it is in each head's sample of the data


class PreferenceDataModule(SupervisedDataModule):
    """Micro-batches of G comparisons and thumbs with R responses, N pairs, at most M orders of K
    responses, and U thumbs.

    `input_ids`, `attention_mask` (R, S): prompt and response, padded on the right. Where it is
    faster they hold the responses alone, and `prompt_ids`, `prompt_mask` (G, P), padded on the
    left, what they continue: response i has prompt `comparison_of_response[i]` (R,).
    `resampled` (G, ensemble) weighs them for each head of an ensemble: how often a bootstrap sample
    has them; 1 for a single head.

    Pairs, all (N,): `chosen` and `rejected` are rows, `tied` says that neither is better;
    `comparison` in [0, G); `strength` and `probability`, NaN where unknown; `chosen_length`,
    `rejected_length` in characters; `cluster`, equal for equal prompts. `orders` (G, M, K) are
    rows, the best first, -1 where there is no more.

    Thumbs, all (U,): `thumb` is a row, `liked` whether it is up, `group` in [0, G); `thumb_length`
    in characters, `thumb_probability`, NaN where unknown, and `thumb_cluster`, as of pairs.

    Comparisons whose responses truncation has made identical say nothing any more: they are left
    out and counted, and so are those that are too long, if the source wants them whole.
    """

    def __init__(
        self,
        source: Source,
        encoder: Encoder,
        batch_size: int,
        micro_batch_tokens: int,
        seed: int,
        ensemble: int = 1,
    ):
        self.counts: Counter[str] = Counter()
        self.ensemble = ensemble
        super().__init__(source, encoder, batch_size, micro_batch_tokens, seed)

    def encode(self, source: Source, split: Split) -> list[EncodedFeedback]:
        feedback = source.taught(split)
        prompts = self.encoder.prompts([told.prompt for told in feedback])
        texts = [text for told in feedback for text in told.responses]
        responses = iter(self.encoder.responses(texts))
        clusters: dict[Prompt, int] = {}
        resampled = self._resampled(len(feedback))
        rows = []
        for i, (told, prompt) in enumerate(zip(feedback, prompts, strict=True)):
            ids = [next(responses) for _ in told.responses]
            is_thumb = isinstance(told, Thumb)
            pairs = [] if is_thumb else _pairs(told, ids)
            if not is_thumb and all(pair.tied for pair in pairs):
                self.counts[f"{split} comparisons identical after truncation"] += 1
                continue
            if source.too_long == "leave_out" and self._is_cut(told.prompt, ids):
                self.counts[f"{split} {'thumbs' if is_thumb else 'comparisons'} too long"] += 1
                continue
            orders = [] if is_thumb else _orders(told.ratings)
            if not orders and not is_thumb:
                self.counts[f"{split} rankings with too many ties for plackett_luce"] += 1
            rows.append(
                EncodedFeedback(
                    prompt=prompt,
                    responses=ids,
                    characters=[len(text) for text in told.responses],
                    pairs=pairs,
                    orders=orders,
                    thumb=told if is_thumb else None,
                    cluster=clusters.setdefault(told.prompt, len(clusters)),
                    resampled=resampled[i].tolist(),
                )
            )
        if not rows:
            raise DataError(
                f"data.max_response_tokens={self.encoder.max_response_tokens}: truncation leaves no"
                f" {split} pair whose responses differ; raise it"
            )
        return rows

    def _is_cut(self, prompt: Prompt, responses: list[list[int]]) -> bool:
        """Whether a comparison is longer than the limits of tokens."""
        stop = self.encoder.stop_id
        return prompt in self.encoder.cut_prompts or any(ids[-1] != stop for ids in responses)

    def _resampled(self, count: int) -> np.ndarray:
        if self.ensemble == 1:
            return np.ones((count, 1), dtype=int)
        # The Poisson bootstrap: each head sees a sample with replacement, whatever the batches.
        return np.random.default_rng(self.seed).poisson(1.0, (count, self.ensemble))

    def length(self, row: EncodedFeedback) -> int:
        return len(row.prompt) + max(map(len, row.responses))

    def sequences(self, row: EncodedFeedback) -> int:
        return len(row.responses)

    def collate(self, rows: list[EncodedFeedback]) -> dict[str, Tensor]:
        first = np.cumsum([0, *(len(row.responses) for row in rows)])  # of each row's responses
        start = torch.from_numpy(first[:-1])
        lengths = torch.tensor([c for row in rows for c in row.characters])
        cluster = torch.tensor([row.cluster for row in rows])
        resampled = torch.tensor([row.resampled for row in rows])
        return (
            self._sequences(rows)
            | _of_pairs(rows, start, lengths, cluster)
            | _of_thumbs(rows, start, lengths, cluster)
            | {"orders": _padded_orders(rows, first), "resampled": resampled}
        )

    def _sequences(self, rows: list[EncodedFeedback]) -> dict[str, Tensor]:
        """What goes through the model: whole conversations, or prompts once and responses."""
        owners = [g for g, row in enumerate(rows) for _ in row.responses]
        responses = [response for row in rows for response in row.responses]
        apart = len(rows) * max(len(r.prompt) for r in rows) + len(responses) * max(
            map(len, responses)
        )
        together = len(responses) * max(map(self.length, rows))
        if apart > (1 - WORTH_SHARING) * together:
            whole = [rows[g].prompt + ids for g, ids in zip(owners, responses, strict=True)]
            ids, mask = self.encoder.pad(whole, "right")
            return {"input_ids": ids, "attention_mask": mask}
        ids, mask = self.encoder.pad(responses, "right")
        prompt_ids, prompt_mask = self.encoder.pad([row.prompt for row in rows], "left")
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "prompt_ids": prompt_ids,
            "prompt_mask": prompt_mask,
            "comparison_of_response": torch.tensor(owners),
        }


def _of_pairs(
    rows: list[EncodedFeedback], start: Tensor, lengths: Tensor, cluster: Tensor
) -> dict[str, Tensor]:
    """What a micro-batch says of pairs; `start` (G,) is each row's first response, `lengths` (R,)
    are characters, `cluster` (G,).
    """
    pairs = [(g, pair) for g, row in enumerate(rows) for pair in row.pairs]
    comparison = _places(g for g, _ in pairs)
    chosen = start[comparison] + _places(p.chosen for _, p in pairs)
    rejected = start[comparison] + _places(p.rejected for _, p in pairs)
    return {
        "comparison": comparison,
        "chosen": chosen,
        "rejected": rejected,
        "tied": torch.tensor([p.tied for _, p in pairs], dtype=torch.bool),
        "strength": torch.tensor([p.strength for _, p in pairs]),
        "probability": torch.tensor([p.probability for _, p in pairs]),
        "chosen_length": lengths[chosen],
        "rejected_length": lengths[rejected],
        "cluster": cluster[comparison],
    }


def _of_thumbs(
    rows: list[EncodedFeedback], start: Tensor, lengths: Tensor, cluster: Tensor
) -> dict[str, Tensor]:
    """The same of thumbs."""
    thumbs = [(g, row.thumb) for g, row in enumerate(rows) if row.thumb]
    group = _places(g for g, _ in thumbs)
    return {
        "thumb": start[group],
        "group": group,
        "liked": torch.tensor([thumb.liked for _, thumb in thumbs], dtype=torch.bool),
        "thumb_probability": torch.tensor([_or_nan(thumb.probability) for _, thumb in thumbs]),
        "thumb_length": lengths[start[group]],
        "thumb_cluster": cluster[group],
    }


def _places(numbers: Iterable[int]) -> Tensor:
    """Places in a tensor, also if there are none."""
    return torch.tensor(list(numbers), dtype=torch.long)


def _pairs(comparison: Comparison, ids: list[list[int]]) -> list[Pair]:
    """All pairs of responses that are still different as ids, the better one first."""
    ratings = comparison.ratings
    known = isinstance(comparison, Preference)
    strength = comparison.strength if known else None
    pairs = []
    for i, j in combinations(range(len(ids)), 2):
        if ids[i] == ids[j]:
            continue
        better, worse = (i, j) if ratings[i] >= ratings[j] else (j, i)
        gap = ratings[better] - ratings[worse]
        pairs.append(
            Pair(
                better,
                worse,
                tied=gap == 0,
                strength=_or_nan(strength if known else gap),
                probability=_or_nan(comparison.probability if known else None),
            )
        )
    return pairs


def _orders(ratings: Sequence[float]) -> list[tuple[int, ...]]:
    """The orders of the responses that the ratings allow; none if ties leave too many open."""
    best_first = sorted(range(len(ratings)), key=lambda i: -ratings[i])
    ties = [list(group) for _, group in groupby(best_first, key=lambda i: ratings[i])]
    if math.prod(math.factorial(len(group)) for group in ties) > MAX_ORDERS:
        return []
    return [sum(parts, ()) for parts in product(*(permutations(group) for group in ties))]


def _padded_orders(rows: list[EncodedFeedback], first: np.ndarray) -> Tensor:
    most = max(1, *(len(row.orders) for row in rows))
    longest = max(len(row.responses) for row in rows)
    orders = torch.full((len(rows), most, longest), -1)
    for g, row in enumerate(rows):
        for m, order in enumerate(row.orders):
            orders[g, m, : len(order)] = torch.tensor(order) + int(first[g])
    return orders


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)

"""How many tokens prompts and responses may have: as given, or as many as fit the data."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from datamodules.records import DataError, Feedback, Prompt
from datamodules.sources.source import Source, best_responses
from datamodules.tokenization.encoder import Encoder

SHARE = 0.95  # of prompts and of responses that a chosen limit leaves whole
MEASURED = 2000  # prompts, and comparisons and thumbs, that are measured, at most
# A longer limit has to be given: memory and the time of sampling grow with it.
MOST = 1024
# What chosen limits are multiples of, so that a few more rows do not move them; below and above.
FINE, COARSE, COARSE_FROM = 8, 32, 128

T = TypeVar("T")


@dataclass(frozen=True)
class Limit:
    """Of prompts or of responses, in tokens; of responses with the stop token."""

    what: str  # prompt or response
    tokens: int
    given: bool
    fits: int  # with this one SHARE of the data stay whole
    cut: float  # share of the data that is longer than `tokens`

    @property
    def option(self) -> str:
        return f"data.max_{self.what}_tokens"


@dataclass(frozen=True)
class Limits:
    """Of prompts and of responses, for a model of so many positions (None: without an end)."""

    prompt: Limit
    response: Limit
    positions: int | None

    @property
    def tokens(self) -> tuple[int, int]:
        return self.prompt.tokens, self.response.tokens

    def options(self) -> dict[str, int]:
        """By the names that they have in the options of data."""
        return dict(zip(("max_prompt_tokens", "max_response_tokens"), self.tokens, strict=True))


def fit_limits(source: Source, encoder: Encoder, positions: int | None) -> Limits:
    """The limits of `source`: those that it gives, and in the place of None what leaves 95% of the
    data whole, as far as the model has positions for a prompt and a response.

    They follow from data, tokenizer and positions alone. Of large data a sample is measured.
    """
    prompts = _sample([*source.prompts("train"), *source.prompts("val")])
    feedback = _sample([*source.feedback("train"), *source.feedback("val")])
    measured = ([_prompt_lengths(prompts, encoder)], _response_lengths(feedback, encoder))
    given = (source.max_prompt_tokens, source.max_response_tokens)
    if not measured[1] and given[1] is None:
        raise DataError(
            "data.max_response_tokens has no value, and the data are prompts alone, which do not"
            " say how long responses are: give data.max_response_tokens=256, for one"
        )
    fits = [max(map(_fitting, groups), default=given[1]) for groups in measured]
    wanted = [fits[0], fits[1]]
    if given[0] is None:
        wanted[0] = max(wanted[0], _room_for_system_turns(source, encoder))
    tokens = _allotted(wanted, given, positions)
    limits = (
        Limit(what, n, own is not None, fit, _share_above(n, groups))
        for what, n, own, fit, groups in zip(
            ("prompt", "response"), tokens, given, fits, measured, strict=True
        )
    )
    return Limits(*limits, positions)


def _share_above(tokens: int, groups: Sequence[np.ndarray]) -> float:
    """Of the lengths that are above a limit, in the group that has most of them."""
    return max((float(np.mean(group > tokens)) for group in groups), default=0.0)


def _sample(rows: Sequence[T]) -> Sequence[T]:
    """All rows, or as many as are measured: the same ones every time, without a period."""
    if len(rows) <= MEASURED:
        return rows
    chosen = np.random.default_rng(0).choice(len(rows), MEASURED, replace=False)
    return [rows[i] for i in sorted(chosen)]


def _prompt_lengths(prompts: Sequence[Prompt], encoder: Encoder) -> np.ndarray:
    conversations = [prompt.messages for prompt in prompts]
    return _lengths(encoder.format.conversations(conversations, generation_prompt=True))


def _response_lengths(feedback: Sequence[Feedback], encoder: Encoder) -> list[np.ndarray]:
    """Of all responses, which a reward model reads, and of those that are demonstrations, if there
    are any: neither is to be cut more than the other.
    """
    every = [text for told in feedback for text in told.responses]
    shown = [text for told in feedback for text in best_responses(told)]
    texts = list(dict.fromkeys(every))
    encoded = encoder.format.responses(texts, [True] * len(texts))
    length = {text: len(ids) + 1 for text, ids in zip(texts, encoded, strict=True)}
    return [np.array([length[text] for text in group]) for group in (every, shown) if group]


def _lengths(rows: Iterable[Sequence[int]]) -> np.ndarray:
    return np.array([len(ids) for ids in rows])


def _fitting(lengths: np.ndarray) -> int:
    """The quantile, rounded up; of a sample two of its standard errors higher."""
    error = np.sqrt(SHARE * (1 - SHARE) / len(lengths)) if len(lengths) >= MEASURED else 0.0
    return _rounded(int(np.quantile(lengths, min(SHARE + 2 * error, 1.0), method="higher")))


def _rounded(tokens: int) -> int:
    step = FINE if tokens <= COARSE_FROM else COARSE
    return -(-tokens // step) * step


def _room_for_system_turns(source: Source, encoder: Encoder) -> int:
    """What a prompt takes whose system turn is the longest and of which all else can be cut: system
    turns stay whole, and a prompt that cannot be cut to the limit ends a run.
    """
    prompts = [p for split in ("train", "val") for p in source.prompts(split)]
    longest = max(prompts, key=lambda p: _system_characters(p))
    return _rounded(encoder.least_tokens(longest)) if _system_characters(longest) else 0


def _system_characters(prompt: Prompt) -> int:
    return sum(len(message.content) for message in prompt.messages if message.role == "system")


def _allotted(
    wanted: Sequence[int], given: tuple[int | None, int | None], positions: int | None
) -> tuple[int, int]:
    """The limits that are given, and of what is wanted instead of the others as much as there are
    positions for: where both are chosen, the shorter one comes first, up to half of them.
    """
    tokens = [min(w, MOST) if g is None else g for w, g in zip(wanted, given, strict=True)]
    if positions is not None and sum(tokens) > positions and None in given:
        first = int(tokens[1] < tokens[0]) if given == (None, None) else given.index(None) ^ 1
        if given[first] is None:
            tokens[first] = min(tokens[first], positions // 2)
        tokens[1 - first] = positions - tokens[first]
    return tokens[0], tokens[1]

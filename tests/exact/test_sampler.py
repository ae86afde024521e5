"""Sampled answers against their exact probabilities."""

import math

import pytest
import torch
from torch import Tensor, nn

from lightning_modules.actor_critic import position_ids
from lightning_modules.generation import generate, sample_tokens
from tests.exact.world import (
    ANSWERS,
    HORIZON,
    PROMPT,
    STOP,
    log_probabilities,
    tiny_lm,
)

SAMPLES = 50_000
# Beyond this a right sampler is found wrong once in 10,000 times; the seed is fixed.
DOUBT = 1e-4
PLACE = {answer: i for i, answer in enumerate(ANSWERS)}


def sampled(
    lm: nn.Module, temperature: float, *, prompts: int = 1, left_padding: int = 0
) -> Tensor:
    """How often each of the 121 answers comes up in SAMPLES of them, to `prompts` equal prompts."""
    ids = torch.tensor([[STOP] * left_padding + list(PROMPT)] * prompts)
    mask = torch.tensor([[False] * left_padding + [True] * len(PROMPT)] * prompts)
    noise = torch.rand(
        SAMPLES, HORIZON, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    sequences, response_mask = generate(
        lm, ids, mask, noise, temperature=temperature, stop_id=STOP, pad_id=STOP
    )
    codes = answer_codes(sequences[:, ids.shape[1] :], response_mask)
    known = answer_codes(
        torch.tensor([list(y) + [0] * (HORIZON - len(y)) for y in ANSWERS]),
        torch.tensor([[t < len(y) for t in range(HORIZON)] for y in ANSWERS]),
    )
    return (codes[:, None] == known).sum(0)


def answer_codes(responses: Tensor, mask: Tensor) -> Tensor:
    """A number for each answer, the same for the same tokens and no other."""
    digits = torch.where(mask, responses + 1, 0)
    return (digits * 5 ** torch.arange(digits.shape[1])).sum(-1)


def p_value(counts: Tensor, logp: Tensor) -> float:
    """Of the G-test: how often a right sampler would be at least as far off.

    Answers expected fewer than five times are taken together, as chi-squared is wrong for them.
    """
    assert int(counts.sum()) == SAMPLES, "an answer came up that does not exist"
    expected, rare = logp.exp() * SAMPLES, logp.exp() * SAMPLES < 5
    cells = torch.cat([counts[~rare], counts[rare].sum()[None]]).double()
    means = torch.cat([expected[~rare], expected[rare].sum()[None]])
    statistic = 2 * (torch.xlogy(cells, cells / means) - cells + means).sum()
    freedom = torch.tensor((len(cells) - 1) / 2, dtype=torch.float64)
    return float(torch.special.gammaincc(freedom, statistic / 2))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("prompts", [1, SAMPLES // 10])
@pytest.mark.parametrize("left_padding", [0, 3])
def test_answers_come_as_often_as_they_should(kind, temperature, prompts, left_padding, measured):
    """One prefill for all samples or for ten; rows that have stopped leave the batch on the way."""
    lm = tiny_lm(kind)
    counts = sampled(lm, temperature, prompts=prompts, left_padding=left_padding)
    p = p_value(counts, log_probabilities(lm, temperature).detach())
    what = f"{kind}, T={temperature}, {prompts} prompts, {left_padding} of padding"
    measured(f"E9 the sampler, log10(1/p) of {SAMPLES:,} samples: {what}", -math.log10(p), 4)


def test_a_slightly_wrong_temperature_is_noticed():
    lm = tiny_lm("llama")
    counts = sampled(lm, 1.05)
    assert p_value(counts, log_probabilities(lm, 1.05).detach()) > DOUBT
    assert p_value(counts, log_probabilities(lm).detach()) < DOUBT


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_with_and_without_a_cache_the_same_noise_gives_the_same_answers(kind):
    lm, rows = tiny_lm(kind), 500
    ids = torch.tensor([[0, *PROMPT]] * rows)
    mask = torch.tensor([[False, True, True]] * rows)
    noise = torch.rand(
        rows, HORIZON, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    )
    sequences, response_mask = generate(
        lm, ids, mask, noise, temperature=0.8, stop_id=STOP, pad_id=0
    )
    going = torch.ones(rows, dtype=torch.bool)
    for t in range(HORIZON):
        logits = lm(
            input_ids=ids, attention_mask=mask, position_ids=position_ids(mask), use_cache=False
        ).logits[:, -1]
        tokens = sample_tokens(logits, 0.8, noise[:, t])
        assert torch.equal(sequences[going, 3 + t], tokens[going])
        assert torch.equal(response_mask[:, t], going)
        going = going & (tokens != STOP)
        ids = torch.cat([ids, tokens[:, None]], dim=1)
        mask = torch.cat([mask, torch.ones(rows, 1, dtype=torch.bool)], dim=1)
    assert 0 < int(going.sum()) < rows

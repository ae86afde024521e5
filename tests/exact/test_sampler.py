"""The sampler against the 121 exact probabilities, and against a sampler without a cache."""

from math import log10

import pytest
import torch

from lightning_modules.rollouts.generation import generate
from tests.exact.world import (
    DTYPE,
    HORIZON,
    PROMPT,
    RESPONSES,
    STOP,
    VOCABULARY,
    log_probabilities,
    tiny_lm,
)

PROMPTS, SAMPLES = 5, 10_000
LONGER = (2, 0, 3, 1, 0)
DOUBT = 1e-4

kinds = pytest.mark.parametrize("kind", ["gpt2", "llama"])
temperatures = pytest.mark.parametrize("temperature", [1.0, 0.7])
paddings = pytest.mark.parametrize("padded", [False, True])


def uniforms(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, HORIZON, generator=generator, dtype=DTYPE)


def sampled(lm, noise, temperature, padded):
    """Codes of the responses to PROMPTS times the same prompt.

    Padded, a longer prompt is answered beside them, so that these need padding on the left.
    """
    rows = [PROMPT] * PROMPTS + [LONGER] * padded
    width = max(map(len, rows))
    ids = torch.tensor([[STOP] * (width - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[False] * (width - len(row)) + [True] * len(row) for row in rows])
    beside = uniforms(len(noise) // PROMPTS * padded, seed=2)
    sequences, real, _ = generate(
        lm,
        ids,
        mask,
        torch.cat([noise, beside]),
        temperature=temperature,
        stop_id=STOP,
        pad_id=STOP,
    )
    return code(sequences[: len(noise), width:], real[: len(noise)])


def code(responses, real):
    """One number for each response, whatever stands after its end."""
    digits = (VOCABULARY + 1) ** torch.arange(responses.shape[1])
    return ((responses + 1) * real * digits).sum(-1)


def sampled_without_cache(lm, noise, temperature):
    """The same noise through whole forward passes of one prompt: no cache, no mask."""
    responses = torch.full(noise.shape, STOP)
    going = torch.ones(len(noise), dtype=torch.bool)
    lengths = torch.full((len(noise),), HORIZON)
    prompt = torch.tensor([PROMPT]).expand(len(noise), -1)
    for t in range(HORIZON):
        with torch.no_grad():
            logits = lm(input_ids=torch.cat([prompt, responses[:, :t]], dim=1)).logits[:, -1]
        reached = torch.softmax(logits / temperature, dim=-1).cumsum(-1) <= noise[:, t, None]
        tokens = reached.sum(-1).clamp(max=VOCABULARY - 1)
        responses[going, t] = tokens[going]
        ended = going & (tokens == STOP)
        lengths[ended] = t + 1
        going &= ~ended
    return code(responses, torch.arange(HORIZON) < lengths[:, None])


ids = torch.tensor([[*y, *[STOP] * (HORIZON - len(y))] for y in RESPONSES])
CODES = code(ids, torch.arange(HORIZON) < torch.tensor([len(y) for y in RESPONSES])[:, None])


def g_test(codes, logp):
    """The p-value of these responses under log-probabilities (121,): a likelihood-ratio test.

    Responses that are expected fewer than 5 times are counted together.
    """
    observed = torch.bincount(codes, minlength=(VOCABULARY + 1) ** HORIZON)[CODES].to(DTYPE)
    assert int(observed.sum()) == len(codes), "something was sampled that is no response"
    counts = len(codes) * logp.detach().exp()
    rare = counts < 5
    observed, counts = (torch.cat([x[~rare], x[rare].sum()[None]]) for x in (observed, counts))
    half_g = torch.special.xlogy(observed, observed / counts).sum()
    return float(torch.special.gammaincc(torch.tensor((len(counts) - 1) / 2).to(DTYPE), half_g))


def surprise(p):
    """-log10 of a p-value, which may be 0."""
    return abs(log10(max(p, 1e-300)))


@kinds
@temperatures
@paddings
def test_responses_come_as_often_as_their_exact_probabilities_say(
    kind, temperature, padded, measured
):
    """10,000 samples for each of 5 prompts of a batch, which are all the same."""
    lm = tiny_lm(kind)
    logp = log_probabilities(lm, temperature)
    codes = sampled(lm, uniforms(PROMPTS * SAMPLES, seed=int(padded)), temperature, padded)
    p_values = [g_test(codes, logp)]
    p_values += [g_test(part, logp) for part in codes.split(SAMPLES)]
    claim = f"E9 {kind}, T={temperature}{', padded' if padded else ''}: -log10 p of the G-test"
    measured(f"{claim}, 50,000 samples", surprise(p_values[0]), surprise(DOUBT))
    worst = min(1.0, PROMPTS * min(p_values[1:]))
    measured(f"{claim}, the worst of 5 prompts", surprise(worst), surprise(DOUBT))


@kinds
def test_the_g_test_sees_a_temperature_that_is_wrong_by_a_tenth(kind, measured):
    lm = tiny_lm(kind)
    codes = sampled(lm, uniforms(PROMPTS * SAMPLES), 1.0, padded=False)
    wrong = g_test(codes, log_probabilities(lm, 1.1))
    measured(f"E9 {kind}: p of a temperature wrong by 10% (to be rejected)", wrong, DOUBT)


@kinds
@temperatures
@paddings
def test_cache_and_padding_and_leaving_change_no_token(kind, temperature, padded, measured):
    lm = tiny_lm(kind)
    noise = uniforms(PROMPTS * 1000, seed=3)
    codes = sampled(lm, noise, temperature, padded)
    assert len(set(codes.tolist())) > 60
    others = sampled_without_cache(lm, noise, temperature)
    claim = f"E9 {kind}, T={temperature}{', padded' if padded else ''}"
    measured(
        f"{claim}: responses of 5000 that differ from those of plain forward passes",
        (codes != others).sum(),
        0,
    )

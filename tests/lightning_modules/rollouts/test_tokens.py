"""One token by inverting its distribution function, in a vocabulary of any size."""

import pytest
import torch

from lightning_modules.rollouts.tokens import BLOCK, WHOLE, sample_tokens

LOW = float("-inf")


@pytest.fixture(params=["whole", "blocks"])
def widened(request):
    """widened(logits): their place in a vocabulary of another size, and where each token is there:
    as they are, or the first at its beginning and the others behind it, in three blocks.
    """
    if request.param == "whole":
        return lambda logits: (logits, list(range(logits.shape[1])))

    def spread(logits):
        places = [0, 5 * BLOCK - 1, 5 * BLOCK, WHOLE - 3, WHOLE + 40][: logits.shape[1]]
        wide = torch.full((len(logits), WHOLE + 41), LOW)
        wide[:, places] = logits.float()
        return wide, places

    return spread


def test_sampling_inverts_the_distribution_function_exactly(widened):
    logits, places = widened(torch.tensor([[1.0, 4.0, 0.0, 3.0, 8.0]]).log())  # 16ths
    uniforms = torch.arange(64, dtype=torch.float64) / 64
    drawn = sample_tokens(logits.expand(64, -1), 1.0, uniforms + 1e-6)
    counts = {0: 4, 1: 16, 3: 12, 4: 32}
    assert drawn.tokens.tolist() == [places[i] for i, n in counts.items() for _ in range(n)]
    expected = [n / 64 for n in counts.values() for _ in range(n)]
    assert drawn.logprobs.exp().tolist() == pytest.approx(expected, rel=1e-6)


def test_temperature_divides_the_logits(widened):
    logits, places = widened(torch.tensor([[1.0, 2.0]]).log())
    logits = logits.expand(100, -1)
    uniforms = (torch.arange(100, dtype=torch.float64) + 0.5) / 100
    for temperature, second in ((0.5, 80), (1.0, 66), (1e-4, 100)):  # 1 : 4, 1 : 2
        tokens = sample_tokens(logits, temperature, uniforms).tokens
        assert abs(int((tokens == places[1]).sum()) - second) <= (temperature == 1.0)


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
def test_impossible_tokens_are_never_drawn_at_either_end(uniform, widened):
    logits, places = widened(torch.tensor([[LOW, LOW, 0.1, 0.2, LOW], [LOW, 5.0, LOW, LOW, LOW]]))
    tokens = sample_tokens(logits, 1.0, torch.tensor([uniform] * 2, dtype=torch.float64)).tokens
    assert tokens.tolist() == [places[2 if uniform == 0 else 3], places[1]]


def test_every_number_near_a_block_s_border_draws_a_token_that_has_a_probability():
    """What is left of a block's probability after its tokens is rounding alone."""
    draws = torch.Generator().manual_seed(0)
    logits = 6 * torch.randn(1, WHOLE + 3 * BLOCK, generator=draws)
    logits[:, BLOCK - 4 :: BLOCK] = logits[:, BLOCK - 3 :: BLOCK] = LOW
    logits[:, BLOCK - 2 :: BLOCK] = logits[:, BLOCK - 1 :: BLOCK] = LOW
    borders = logits.float().softmax(-1).view(-1, BLOCK).sum(-1).double().cumsum(0)[:-1]
    steps = torch.arange(-8, 9, dtype=torch.float64) * 2.0**-53
    uniforms = (
        (borders[:, None] / borders[-1] * (1 - 2**-30) + steps).flatten().clamp(0, 1 - 2**-53)
    )
    tokens = sample_tokens(logits.expand(len(uniforms), -1), 1.0, uniforms).tokens
    assert logits[0, tokens].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_ways_draw_the_same_but_within_rounding_of_a_border(dtype):
    """The same function of the logits: tokens of blocks are those of sums over all of them, unless
    the number stands within float32's rounding of a token's border.
    """
    draws = torch.Generator().manual_seed(1)
    logits = (3 * torch.randn(64, 3 * WHOLE + 17, generator=draws)).to(dtype)
    uniforms = torch.rand(64, generator=draws, dtype=torch.float64)
    drawn = sample_tokens(logits, 0.7, uniforms)
    whole = sample_tokens(logits.double(), 0.7, uniforms)
    assert drawn.tokens.dtype == torch.long
    torch.testing.assert_close(drawn.logprobs, whole.logprobs, rtol=0, atol=1e-5)
    assert (drawn.tokens == whole.tokens).double().mean() > 0.98
    expected = (logits.double() / 0.7).log_softmax(-1).gather(1, drawn.tokens[:, None]).squeeze(1)
    torch.testing.assert_close(drawn.logprobs, expected, rtol=0, atol=1e-5)
    below = (logits.double() / 0.7).softmax(-1).cumsum(-1).gather(1, drawn.tokens[:, None])[:, 0]
    assert (uniforms < below + 1e-6).all()
    assert (uniforms > below - expected.exp() - 1e-6).all()

"""Attention of short sequences on a CPU in bfloat16: another kernel, the same numbers."""

import pytest
import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from lightning_modules.forward.checkpointing import set_checkpointing
from lightning_modules.forward.on_cpu.attention import SHORT, prepare_attention, short_by_products
from lightning_modules.forward.token_outputs import response_outputs

ROUNDING = 2**-7  # of bfloat16, in units of what is rounded


def attended(function, dtype, tokens):
    """What a head says and the gradient by its queries, keys and values; queries see two tokens of
    the past each.
    """
    generator = torch.Generator().manual_seed(0)
    inputs = [
        torch.randn(2, 4, tokens, 8, generator=generator).bfloat16().to(dtype).requires_grad_()
        for _ in range(3)
    ]
    mask = torch.ones(tokens, tokens, dtype=torch.bool).tril().triu(-2).expand(2, 1, -1, -1)
    said, _ = function(torch.nn.Module(), *inputs, mask)
    (said.float() * said.detach().float().sin()).sum().backward()
    return said.detach(), *(x.grad for x in inputs)


@pytest.mark.parametrize("tokens", [20, SHORT + 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_only_short_sequences_in_bfloat16_are_computed_otherwise(dtype, tokens):
    found = attended(short_by_products, dtype, tokens)
    expected = attended(sdpa_attention_forward, dtype, tokens)
    same = [torch.equal(a, b) for a, b in zip(found, expected, strict=True)]
    assert all(same) == (dtype == torch.float32 or tokens > SHORT)
    exact = attended(sdpa_attention_forward, torch.float32, tokens)
    for ours, theirs, true in zip(found, expected, exact, strict=True):
        off, usual = ((x.float() - true).abs().max() for x in (ours, theirs))
        assert off <= usual + ROUNDING * true.abs().max()


def test_a_layer_that_is_computed_again_does_the_same(lm, monkeypatch):
    monkeypatch.setattr(
        AttentionInterface, "_global_mapping", dict(AttentionInterface._global_mapping)
    )
    prepare_attention()
    ids, mask = torch.arange(40).view(2, 20), torch.ones(2, 20, dtype=torch.bool)

    def gradients():
        lm.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            said, _ = response_outputs(lm, ids, mask[:, :8], mask[:, 8:], 1.0)
        said.logprobs.sum().backward()
        return torch.cat([p.grad.flatten() for p in lm.parameters() if p.grad is not None])

    kept = gradients()
    set_checkpointing(lm, True)
    assert torch.equal(gradients(), kept)

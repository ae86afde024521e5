"""The sampler and the log-probabilities say on a GPU what they say on a CPU, and graphs what the
plain loop says.
"""

from copy import deepcopy

import pytest
import torch
from peft import LoraConfig, TaskType

from lightning_modules.forward.token_outputs import response_outputs
from lightning_modules.models.adapters import add_adapter
from lightning_modules.rollouts.generation import generate
from lightning_modules.rollouts.sampler import Sampler
from lightning_modules.rollouts.static_cache import FIXED, Sizes
from lightning_modules.rollouts.tokens import sample_tokens

pytestmark = pytest.mark.gpu


@pytest.fixture
def sampled(lm, encoder, world, device):
    """Responses of both devices to the same prompts with the same noise."""
    ids, mask = encoder.pad(encoder.prompts(world.prompts("train")[:32]), "left")
    noise = torch.Generator().manual_seed(0)
    uniforms = torch.rand(64, 16, generator=noise, dtype=torch.float64)

    def draw(where: torch.device):
        model = deepcopy(lm).to(where)
        given = (ids.to(where), mask.to(where), uniforms.to(where))
        options = {"temperature": 1.0, "stop_id": encoder.stop_id, "pad_id": encoder.pad_id}
        return tuple(x.cpu() for x in generate(model, *given, **options)[:2])

    return draw(torch.device("cpu")), draw(device), mask.repeat_interleave(2, 0)


def test_the_same_noise_gives_the_same_tokens(sampled):
    (here, mask_here), (there, mask_there), _ = sampled
    width = min(here.shape[1], there.shape[1])
    same = (here[:, :width] == there[:, :width]).all(1)
    assert same.double().mean() > 0.95  # a response goes its own way after one token
    length = min(mask_here.shape[1], mask_there.shape[1])
    tokens = mask_here[:, :length] & mask_there[:, :length]
    equal = (here == there)[:, -mask_here.shape[1] :][:, :length] if same.all() else None
    assert equal is None or equal[tokens].double().mean() > 0.99


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 1e-4), (torch.bfloat16, 0.2)])
def test_log_probabilities_are_those_of_the_cpu(lm, sampled, device, dtype, rounding):
    (sequences, response_mask), _, prompt_mask = sampled

    def said(where: torch.device, kind: torch.dtype):
        model = deepcopy(lm).to(where, kind)
        given = (x.to(where) for x in (sequences, prompt_mask, response_mask))
        with torch.no_grad():
            return response_outputs(model, *given, 1.0, entropy=True)[0]

    here, there = said(torch.device("cpu"), torch.float32), said(device, dtype)
    for a, b in ((here.logprobs, there.logprobs), (here.entropy, there.entropy)):
        assert b.dtype == torch.float32
        assert (a - b.cpu()).abs().mean() < rounding


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("sizes", [FIXED, Sizes(powers=True, columns=8)], ids=["large", "small"])
@pytest.mark.parametrize("mixed", [False, True])
def test_graphs_give_the_tokens_of_the_same_buckets_without_them(
    lm, encoder, world, device, sizes, adapted, mixed
):
    """To the bit; and the plain loop's but where rounding stands beside a number of the noise."""
    if adapted:
        lora = LoraConfig(r=2, target_modules="all-linear")
        lm = add_adapter(lm, lora, TaskType.CAUSAL_LM, seed=1)
        for parameter in lm.parameters():
            if parameter.requires_grad:
                parameter.data.normal_(std=0.1)
    lm = lm.to(device).eval()
    ids, mask = encoder.pad(encoder.prompts(world.prompts("train")[:20]), "left")
    noise = torch.rand(40, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    given = (ids.to(device), mask.to(device), noise.to(device))
    options = {"temperature": 1.0, "stop_id": encoder.stop_ids, "pad_id": encoder.pad_id}
    with torch.autocast(device.type, torch.bfloat16, enabled=mixed, cache_enabled=False):
        plain, steps, graphs, again = (
            sampler(lm, *given, **options)
            for sampler in (Sampler(), Sampler(sizes), *[Sampler(sizes, graphs=True)] * 2)
        )
    for found in (graphs, again):
        assert torch.equal(found.sequences, steps.sequences)
        assert torch.equal(found.logprobs, steps.logprobs)
    # In bfloat16 a sixth of the tokens are others, and what comes after one goes its own way.
    first = ids.shape[1] + (2 if mixed else 16)
    width = min(plain.sequences.shape[1], graphs.sequences.shape[1], first)
    same = (plain.sequences[:, :width] == graphs.sequences[:, :width]).all(1)
    assert same.double().mean() > (0.6 if mixed else 0.95)


@pytest.mark.parametrize("rows", [1, 2, 33])
def test_one_token_of_a_large_vocabulary(rows, device):
    """Sums over 128k numbers are added in another order there, and give the same tokens."""
    draws = torch.Generator().manual_seed(rows)
    logits = 3 * torch.randn(rows, 128_256, generator=draws)
    for _ in range(20):
        uniforms = torch.rand(rows, generator=draws, dtype=torch.float64)
        here = sample_tokens(logits, 0.7, uniforms).tokens
        there = sample_tokens(logits.to(device), 0.7, uniforms.to(device)).tokens
        assert torch.equal(here, there.cpu())


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
def test_impossible_tokens_are_never_drawn_at_either_end(uniform, device):
    low = float("-inf")
    logits = torch.tensor([[low, low, 0.1, 0.2, low], [low, 5.0, low, low, low]], device=device)
    uniforms = torch.tensor([uniform] * 2, dtype=torch.float64, device=device)
    assert sample_tokens(logits, 1.0, uniforms).tokens.tolist() == [2 if uniform == 0 else 3, 1]

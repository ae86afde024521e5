"""Log-probabilities in chunks are those of whole logits, with their gradients."""

import pytest
import torch
from peft import LoraConfig, TaskType
from torch import nn
from transformers import AutoModelForCausalLM, CohereConfig, GraniteConfig, LlamaForCausalLM

from lightning_modules.forward import log_probs
from lightning_modules.forward.heads import compute_head_in_float32, finish_of, linear_head
from lightning_modules.forward.log_probs import chunked_head, whole_up_to
from lightning_modules.forward.token_outputs import response_outputs
from lightning_modules.models.adapters import add_adapter
from lightning_modules.models.vocabulary import WithoutText
from tests.lightning_modules.models.families import FAMILIES, USUAL

VOCABULARY = 61
MORE = {  # more ways to make logits
    "cohere": lambda **ids: CohereConfig(**USUAL, logit_scale=0.3, **ids),
    "granite": lambda **ids: GraniteConfig(**USUAL, logits_scaling=3.0, **ids),
}
# Its grouped products have no float64.
IN_FLOAT64 = sorted({*FAMILIES, *MORE} - {"qwen3_moe"})


@pytest.fixture(autouse=True)
def chunks_of_four(monkeypatch):
    monkeypatch.setattr(log_probs, "CHUNK", 4 * VOCABULARY)


def model_of(name: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    ids = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    model = AutoModelForCausalLM.from_config((FAMILIES | MORE)[name](**ids))
    for parameter in model.parameters():
        parameter.data.mul_(2.0)
    return model.to(dtype).eval()


def outputs(lm: nn.Module, whole: bool, *, entropy: bool = True, bfloat16: bool = False):
    """Log-probabilities, entropies, and all gradients of a function of them."""
    generator = torch.Generator().manual_seed(1)
    sequences = torch.randint(3, 40, (3, 12), generator=generator)
    response_mask = torch.ones(3, 7, dtype=torch.bool)
    response_mask[1, 4:] = False
    given = torch.randn(2, 3, 7, generator=generator, dtype=torch.float64)
    lm.zero_grad()
    mixed = torch.autocast("cpu", torch.bfloat16, enabled=bfloat16)
    with whole_up_to(10**9 if whole else 0), mixed:
        found, _ = response_outputs(
            lm, sequences, torch.ones(3, 5, dtype=torch.bool), response_mask, 0.7, entropy=entropy
        )
    loss = (found.logprobs * given[0]).sum()
    if entropy:
        loss = loss + (found.entropy * given[1]).sum()
    loss.backward()
    gradients = {n: p.grad.clone() for n, p in lm.named_parameters() if p.grad is not None}
    return found, gradients


def assert_equal(lm: nn.Module, entropy: bool, tolerance: float = 1e-12) -> None:
    (plain, expected), (found, gradients) = (outputs(lm, x, entropy=entropy) for x in (True, False))
    torch.testing.assert_close(found.logprobs, plain.logprobs, rtol=tolerance, atol=tolerance)
    if entropy:
        torch.testing.assert_close(found.entropy, plain.entropy, rtol=tolerance, atol=tolerance)
    assert gradients.keys() == expected.keys()
    largest = max(g.abs().max() for g in expected.values())
    for name, gradient in expected.items():
        assert (gradients[name] - gradient).abs().max() <= tolerance * largest, name


@pytest.mark.parametrize("frozen", [False, True], ids=["trained head", "frozen head"])
@pytest.mark.parametrize("entropy", [False, True], ids=["", "entropy"])
@pytest.mark.parametrize("name", IN_FLOAT64)
def test_values_and_gradients_are_those_of_whole_logits(name, entropy, frozen):
    lm = model_of(name)
    assert chunked_head(lm, 10**9) is not None
    if frozen:
        linear_head(lm).requires_grad_(False)
    assert_equal(lm, entropy)


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_ids_without_text_have_no_probability_either(name):
    lm = model_of(name)
    lm.register_forward_hook(WithoutText(torch.tensor([0, 40, 60])))
    assert chunked_head(lm, 10**9).finish.never.tolist() == [0, 40, 60]
    assert_equal(lm, True)


def test_whole_logits_are_never_made():
    lm = model_of("llama")
    sizes = []
    lm.lm_head.register_forward_hook(lambda module, args, made: sizes.append(made.numel()))
    finish_of(lm, lm.lm_head)  # tries the head
    sizes.clear()
    outputs(lm, whole=False)
    assert sizes == [0]


def test_adapters_in_the_layers_change_nothing_and_those_in_the_head_are_left_to_the_model():
    lora = {"r": 2, "init_lora_weights": False}
    in_layers = add_adapter(model_of("llama"), LoraConfig(**lora), TaskType.CAUSAL_LM, 0).double()
    assert chunked_head(in_layers, 10**9)
    assert_equal(in_layers, True)
    targets = {"target_modules": ["q_proj", "lm_head"]}
    in_head = LoraConfig(**lora, **targets)
    in_head = add_adapter(model_of("llama"), in_head, TaskType.CAUSAL_LM, 0).double()
    assert chunked_head(in_head, 10**9) is None
    assert_equal(in_head, True)


class Doubled(LlamaForCausalLM):
    """What nobody could know of a model's logits."""

    def forward(self, **options):
        outputs = super().forward(**options)
        outputs.logits = 2 * outputs.logits
        return outputs


def test_a_model_that_does_something_else_to_its_logits_makes_them_whole():
    lm = model_of("llama")
    lm.__class__ = Doubled
    assert chunked_head(lm, 10**9) is None
    assert_equal(lm, True)


def test_responses_without_a_token_have_no_log_probability():
    lm = model_of("llama")
    masks = torch.ones(2, 3, dtype=torch.bool), torch.zeros(2, 2, dtype=torch.bool)
    with whole_up_to(0):
        found, _ = response_outputs(lm, torch.ones(2, 5, dtype=torch.long), *masks, 1.0)
    found.logprobs.sum().backward()
    assert found.logprobs.tolist() == [[0.0] * 2] * 2
    assert all(p.grad is None or not p.grad.any() for p in lm.parameters())


@pytest.mark.parametrize("frozen", [False, True], ids=["trained head", "frozen head"])
def test_under_autocast_both_ways_are_as_near_to_float32(frozen):
    lm = model_of("llama", torch.float32)
    linear_head(lm).requires_grad_(not frozen)
    exact, exact_gradients = outputs(lm, whole=True)
    distances = []
    for whole in (True, False):
        found, gradients = outputs(lm, whole, bfloat16=True)
        assert found.logprobs.dtype == torch.float32
        off = [found.logprobs - exact.logprobs, found.entropy - exact.entropy]
        off += [gradients[name] - gradient for name, gradient in exact_gradients.items()]
        distances.append(torch.stack([x.norm() for x in off]))
    whole, in_chunks = distances
    assert (whole > 0).all()
    assert (in_chunks < 1.5 * whole + 1e-3).all()


def test_a_head_in_float32_computes_in_it_whatever_autocast_says():
    lm = model_of("llama", torch.float32)
    states = torch.randn(5, 32)
    expected = lm.lm_head(states)
    compute_head_in_float32(lm)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(lm.lm_head(states), expected)
    (plain, expected), (found, gradients) = (outputs(lm, x, bfloat16=True) for x in (True, False))
    torch.testing.assert_close(found.logprobs, plain.logprobs, rtol=1e-5, atol=1e-5)
    difference = gradients["lm_head.weight"] - expected["lm_head.weight"]
    assert difference.norm() < 1e-5 * expected["lm_head.weight"].norm()
    lm.to(torch.bfloat16)
    assert lm.lm_head(states.bfloat16()).dtype == torch.float32

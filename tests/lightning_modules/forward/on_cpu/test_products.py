"""Products by the faster library: float64's but for rounding, and of large models alone."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, TaskType
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from lightning_modules.forward import log_probs
from lightning_modules.forward.heads import linear_head
from lightning_modules.forward.log_probs import whole_up_to
from lightning_modules.forward.on_cpu import products
from lightning_modules.forward.on_cpu.products import OneDNNConv1D, OneDNNLinear, linear, use_onednn
from lightning_modules.forward.token_outputs import response_outputs
from lightning_modules.models.adapters import add_adapter, merged
from lightning_modules.models.loading import load_causal_lm, random_causal_lm
from lightning_modules.models.scorers import new_scorer
from tests.lightning_modules.models.families import FAMILIES

pytestmark = pytest.mark.skipif(not products.has_onednn(), reason="no oneDNN, or no MKL beside it")

IDS = {"vocab_size": 61, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
EPS = torch.finfo(torch.float32).eps


@pytest.fixture
def any_model(monkeypatch):
    """All models are large enough."""
    monkeypatch.setattr(products, "FEW_PARAMETERS", 0)


def draw(*shape, of=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape) + of))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("n", [3, 40], ids=["narrower", "wider"])
@pytest.mark.parametrize("shape", [(5, 17), (3, 4, 17), (2, 1, 3, 17), (1, 17)], ids=str)
def test_values_and_gradients_are_those_of_float64(shape, n, bias):
    given = [draw(*shape), draw(n, 17, of=1), *([draw(n)] if bias else [])]
    leaves = [x.clone().requires_grad_() for x in given]
    exact = [x.double().requires_grad_() for x in given]
    y, z = linear(*leaves), F.linear(*exact)
    back = draw(*z.shape, of=2)
    found = [y, *torch.autograd.grad(y, leaves, back)]
    expected = [z, *torch.autograd.grad(z, exact, back.double())]
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == torch.float32
        assert a.is_contiguous()
        assert (a - b).abs().max() <= 17 * EPS * b.abs().max()


@pytest.mark.parametrize(
    "within",
    [torch.device("meta"), torch.autocast("cpu", torch.bfloat16), torch.inference_mode()],
    ids=["meta", "autocast", "inference"],
)
def test_it_is_found_wherever_it_is_asked_for_first(within):
    products.has_onednn.cache_clear()
    with within:
        assert products.has_onednn()


def test_only_what_is_needed_is_computed_and_kept():
    x, weight, kept = draw(5, 7).requires_grad_(), draw(6, 7), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        linear(x, weight).sum().backward()
        linear(x.detach(), weight.requires_grad_()).sum().backward()
    assert kept == [weight.shape, x.shape]
    with torch.no_grad():
        assert linear(x, weight).grad_fn is None


@pytest.mark.parametrize(
    "states",
    [
        draw(9, 10, 7)[:, 2:5],
        draw(7, 8).t(),
        draw(1, 5, 7).expand(4, 5, 7),
        draw(0, 7),
        draw(3, 7).double(),
        draw(3, 7).bfloat16(),
    ],
    ids=["slice", "transposed", "expanded", "empty", "float64", "bfloat16"],
)
def test_states_as_they_come(states):
    weight = draw(6, 7).to(states.dtype)
    expected = F.linear(states, weight)
    assert linear(states, weight).dtype == states.dtype
    torch.testing.assert_close(linear(states, weight), expected)


def test_what_comes_out_may_be_changed_in_place():
    x, weight = draw(2, 3, 7).requires_grad_(), draw(6, 7)
    y = linear(x, weight)
    y[..., 1].zero_()
    y.mul_(2.0).sum().backward()
    expected = 2 * (weight.sum(0) - weight[1])
    torch.testing.assert_close(x.grad, expected.expand(2, 3, 7))


def test_autocast_has_its_way():
    x, layer = draw(3, 7), OneDNNLinear(7, 6)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
        assert torch.equal(y, F.linear(x, layer.weight, layer.bias))
    assert y.dtype == torch.bfloat16


def fast_layers(model):
    return [type(m) for m in model.modules() if isinstance(m, OneDNNLinear | OneDNNConv1D)]


def plain_layers(model):
    return [type(m) for m in model.modules() if type(m) in (nn.Linear, Conv1D)]


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "phi3"])
def test_a_model_says_the_same(name, any_model):
    torch.manual_seed(0)
    plain = AutoModelForCausalLM.from_config(FAMILIES[name](**IDS)).eval()
    model = deepcopy(plain)
    use_onednn(model)
    assert len(fast_layers(model)) == len(plain_layers(plain)) > 8
    assert plain_layers(model) == []
    assert model.state_dict().keys() == plain.state_dict().keys()
    ids = torch.randint(3, 61, (4, 9), generator=torch.Generator().manual_seed(1))
    losses = [lm(input_ids=ids, labels=ids).loss for lm in (model, plain)]
    torch.testing.assert_close(*losses)
    for loss in losses:
        loss.backward()
    for (key, a), b in zip(model.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6, msg=key)


def test_layers_of_adapters_too_and_they_are_merged_and_copied_as_ever(any_model):
    lm = random_causal_lm(FAMILIES["llama"](**IDS), seed=0)
    adapted = add_adapter(
        lm, LoraConfig(r=8, target_modules="all-linear"), TaskType.CAUSAL_LM, seed=1
    )
    assert plain_layers(adapted) == []
    assert len(fast_layers(adapted)) == 3 * 2 * 7 + 1  # base, A and B of each, and the head
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.1)
    ids = torch.arange(3, 19).view(2, 8)
    expected = adapted(input_ids=ids).logits
    torch.testing.assert_close(merged(adapted)(input_ids=ids).logits, expected)
    torch.testing.assert_close(deepcopy(adapted)(input_ids=ids).logits, expected)


def test_every_way_to_a_model_and_toys_are_left_alone(tmp_path, encoder, monkeypatch):
    config = FAMILIES["llama"](**IDS | {"vocab_size": len(encoder.tokenizer)})
    for few, fast in ((10**9, False), (0, True)):
        monkeypatch.setattr(products, "FEW_PARAMETERS", few)
        lm, folder = random_causal_lm(config, seed=0), tmp_path / str(few)
        lm.save_pretrained(folder)
        encoder.tokenizer.save_pretrained(folder)
        scorer = new_scorer(folder, deepcopy(encoder.tokenizer), seed=0)
        for model in (lm, load_causal_lm(folder), scorer):
            assert bool(fast_layers(model)) == fast
            assert len(plain_layers(model)) == (model is scorer if fast else 15)


@pytest.mark.parametrize("many", [False, True], ids=["few", "many"])
@pytest.mark.parametrize("frozen", [False, True], ids=["head", "frozen_head"])
def test_chunks_of_logits_too(frozen, many, any_model, monkeypatch):
    monkeypatch.setattr(log_probs, "CHUNK_ON_CPU", 1)
    monkeypatch.setattr(log_probs, "FEWEST_TOKENS", 6)  # in a chunk
    if many:  # another way to the gradient by the weights
        monkeypatch.setattr(log_probs, "ENOUGH_TOKENS", 2)
    lm = random_causal_lm(FAMILIES["llama"](**IDS, tie_word_embeddings=False), seed=0).eval()
    assert type(linear_head(lm)) is OneDNNLinear
    linear_head(lm).weight.requires_grad_(not frozen)
    exact = deepcopy(lm).double()
    sequences = torch.arange(3, 43).view(4, 10)
    masks = torch.ones(4, 6, dtype=torch.bool), torch.ones(4, 4, dtype=torch.bool)
    found = []
    for model in (lm, exact):
        with whole_up_to(0):
            logprobs = response_outputs(model, sequences, *masks, temperature=0.7)[0].logprobs
        trained = [p for p in model.parameters() if p.requires_grad]
        found.append([logprobs, *torch.autograd.grad((logprobs**2).sum(), trained)])
    for a, b in zip(*found, strict=True):
        assert (a - b).abs().max() <= 1e-4 * max(1.0, b.abs().max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_last_states_reach_the_head_as_rows_of_a_matrix(dtype, monkeypatch):
    """Of a slice with three dimensions PyTorch multiplies each row by a copy of frozen weights."""
    given = []
    for place, name in ((products, "product"), (F, "linear")):
        usual = getattr(place, name)
        spy = lambda rows, *rest, usual=usual: given.append(rows) or usual(rows, *rest)  # noqa: E731
        monkeypatch.setattr(place, name, spy)
    head = OneDNNLinear(64, 50, bias=False).to(dtype).requires_grad_(False)
    assert head(draw(16, 9, 64).to(dtype)[:, -1:]).shape == (16, 1, 50)
    assert [tuple(x.shape) for x in given] == [(16, 64)]

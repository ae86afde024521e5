"""The last layer is computed where its states are read, and nothing else changes."""

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from lightning_modules.forward import last_layer
from lightning_modules.forward.checkpointing import set_checkpointing
from lightning_modules.forward.last_layer import last_layer_from
from lightning_modules.models.actor_critic import ActorCritic, new_value_head
from lightning_modules.models.scalar import ScalarModel
from tests.exact.world import norms_in_float64
from tests.lightning_modules.models.families import FAMILIES, USUAL
from tests.lightning_modules.supervised_parts import DTYPE, exact_lm, exact_scorer

PROMPT, RESPONSE, ROWS = 7, 5, 3
# Layers that are given their cache by its name.
ABLE = ("llama", "qwen2", "qwen3_moe", "gemma2", "phi3", "mistral", "opt", "opt_350m")
# Grouped products have no float64, and in it padding makes Gemma's plain attention NaN.
IN_FLOAT32 = ("qwen3_moe", "gemma2")
IDS = {"vocab_size": 61, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


@pytest.fixture(autouse=True)
def any_layer_is_worth_it(monkeypatch):
    monkeypatch.setattr(last_layer, "FEW_WEIGHTS", 0)


def family(name):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(FAMILIES[name](**IDS))
    for parameter in model.parameters():
        parameter.data.mul_(2.0)
    if name not in IN_FLOAT32:
        norms_in_float64(model)
    return model.to(torch.float32 if name in IN_FLOAT32 else DTYPE).eval()


def inputs(padding=3):
    generator = torch.Generator().manual_seed(1)
    sequences = torch.randint(3, 40, (ROWS, PROMPT + RESPONSE), generator=generator)
    prompt_mask = torch.arange(PROMPT) >= torch.tensor([[0], [padding], [1 if padding else 0]])
    response_mask = torch.arange(RESPONSE) < torch.tensor([[5], [2], [4]])
    return sequences * torch.cat([prompt_mask, response_mask], 1), prompt_mask, response_mask


def said(model, *given, **options):
    """Log-probabilities and values, and all gradients of a function of them."""
    found = model(*given, 0.7, **options)
    parts = [x for x in (found.logprobs, found.values) if x is not None]
    weights = torch.arange(1.0, found.logprobs.numel() + 1).view_as(found.logprobs).sin()
    trained = [p for p in model.parameters() if p.requires_grad]
    loss = sum((weights * x + x**2).sum() for x in parts)
    gradients = torch.autograd.grad(loss, trained, allow_unused=True)
    return [x.detach() for x in parts] + [g for g in gradients if g is not None]


def same_without(model, monkeypatch, *given, **options):
    found = said(model, *given, **options)
    monkeypatch.setattr(last_layer, "FEW_WEIGHTS", 10**9)
    expected = said(model, *given, **options)
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        rounding = 1e-12 if b.dtype == DTYPE else 1e-5
        assert (a - b).abs().max() <= rounding * max(1.0, float(b.abs().max()))


def rows_seen(module, name, call):
    """How many places the feed-forward layer of each layer sees."""
    seen = []
    layers = [m for n, m in module.named_modules() if n.endswith(name)]
    hooks = [m.register_forward_pre_hook(lambda m, a: seen.append(a[0].shape[1])) for m in layers]
    call()
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("padding", [3, 0], ids=["padded", "unpadded"])
@pytest.mark.parametrize("name", ABLE)
def test_families_say_the_same_with_the_same_gradients(name, padding, monkeypatch):
    lm = family(name)
    with last_layer_from(lm, 4) as skipped:
        assert skipped == 4
    same_without(ActorCritic(lm), monkeypatch, *inputs(padding))


@pytest.mark.parametrize("critic", ["copy", "head"])
def test_values_too(critic, monkeypatch, architecture, encoder):
    lm = exact_lm(architecture, encoder).to(DTYPE)
    if critic == "copy":
        model = ActorCritic(lm, critic=ScalarModel(exact_scorer(architecture, encoder)).to(DTYPE))
    else:
        model = ActorCritic(lm, value_head=new_value_head(lm).to(DTYPE))
    same_without(model, monkeypatch, *inputs())


@pytest.mark.parametrize("name", ["gpt2", "bloom", "gemma3_with_vision"])
def test_models_that_cannot_are_left_as_they_are(name):
    with last_layer_from(family(name), 4) as skipped:
        assert skipped == 0


def test_the_last_layer_sees_responses_alone_and_the_others_all():
    lm, given = family("llama"), inputs()
    ActorCritic(lm)(*given, 1.0)  # tries the model
    seen = rows_seen(lm, "mlp", lambda: ActorCritic(lm)(*given, 1.0))
    assert seen == [PROMPT + RESPONSE - 1, RESPONSE]


def test_shared_prompts_end_with_the_keys_and_values_of_the_last_layer(monkeypatch):
    lm, (sequences, prompt_mask, response_mask) = family("llama"), inputs()
    sequences[:, :PROMPT], prompt_mask[:] = sequences[0, :PROMPT], True
    given, prompt_of = (sequences, prompt_mask, response_mask), torch.zeros(ROWS).long()
    model = ActorCritic(lm)
    model(*given, 1.0, prompt_of=prompt_of)
    seen = rows_seen(lm, "mlp", lambda: model(*given, 1.0, prompt_of=prompt_of))
    assert seen == [PROMPT - 1, RESPONSE, RESPONSE]
    same_without(model, monkeypatch, *given, prompt_of=prompt_of)


def test_with_checkpointing_too(monkeypatch):
    lm = family("llama")
    set_checkpointing(lm, True)
    same_without(ActorCritic(lm), monkeypatch, *inputs())


class Mixing(torch.nn.Module):
    """A feed-forward layer that looks at the place before."""

    def forward(self, states):
        return states + states.roll(1, dims=1)


def test_a_layer_that_looks_at_other_places_by_other_means_is_computed_as_a_whole():
    lm = LlamaForCausalLM(LlamaConfig(**USUAL, **IDS)).eval()
    lm.model.layers[-1].mlp = Mixing()
    with last_layer_from(lm, 4) as skipped:
        assert skipped == 0


def test_a_layer_is_itself_again_after_an_error():
    lm = family("llama")
    with pytest.raises(ValueError, match="mine"), last_layer_from(lm, 4):
        raise ValueError("mine")
    assert "forward" not in lm.model.layers[-1].__dict__


def test_small_layers_are_computed_as_a_whole(monkeypatch):
    monkeypatch.undo()
    with last_layer_from(family("llama"), 4) as skipped:
        assert skipped == 0

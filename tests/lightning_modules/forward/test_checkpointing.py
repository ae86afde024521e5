"""Activation checkpointing: the same gradients from less that is kept."""

import pickle
from copy import deepcopy

import pytest
import torch
from peft import LoraConfig, TaskType
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    Qwen2Config,
)

from lightning_modules.errors import ModelError
from lightning_modules.forward.checkpointing import can_checkpoint, set_checkpointing
from lightning_modules.forward.shared_prompts import SharedPrompt
from lightning_modules.models.actor_critic import ActorCritic, new_value_head
from lightning_modules.models.adapters import VALUE_ADAPTER, add_adapter, add_value_adapter
from lightning_modules.models.scalar import ScalarModel
from tests.exact.world import tiny_lm

SIZES = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 40,
    "pad_token_id": 0,
}
CONFIGS = {
    "llama": LlamaConfig(**SIZES, attention_dropout=0.3),
    "qwen2": Qwen2Config(**SIZES, attention_dropout=0.3),
    # The window is shorter than the sequences.
    "gemma2": Gemma2Config(**SIZES, head_dim=4, sliding_window=4),
    "gpt2": GPT2Config(vocab_size=40, n_embd=16, n_layer=3, n_head=4, pad_token_id=0),
}
LORA = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
PROMPT, RESPONSE = 5, 7
# Gemma 2's attention takes softmax in float32, where the least number of float64 is no number.
DTYPES = {"gemma2": torch.float32}


def made(kind: str, *, lora: bool, auto=AutoModelForCausalLM) -> nn.Module:
    config = deepcopy(CONFIGS[kind])
    config.num_labels = 1
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = auto.from_config(config)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3)
    model = model.eval()
    if lora:
        task = TaskType.CAUSAL_LM if auto is AutoModelForCausalLM else TaskType.SEQ_CLS
        model = add_adapter(model, LORA, task, seed=1)
    return model.to(DTYPES.get(kind, torch.float64)).eval()


def actor_critic(kind: str, critic: str) -> ActorCritic:
    lora = critic == "adapter"
    lm = made(kind, lora=lora)
    if critic == "copy":
        own = made(kind, lora=False, auto=AutoModelForSequenceClassification)
        return ActorCritic(lm, critic=ScalarModel(own))
    if lora:
        add_value_adapter(lm, LORA, seed=2)
    head = new_value_head(lm).to(lm.dtype)
    nn.init.normal_(head.weight)
    return ActorCritic(lm, head, value_adapter=VALUE_ADAPTER if lora else None)


def rows() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids and masks of ragged rows, padded on both sides."""
    ids = torch.randint(1, 40, (3, PROMPT + RESPONSE), generator=torch.Generator().manual_seed(3))
    prompt_mask = torch.arange(PROMPT) >= torch.tensor([0, 3, 1])[:, None]
    response_mask = torch.arange(RESPONSE) < torch.tensor([7, 2, 5])[:, None]
    return ids * torch.cat([prompt_mask, response_mask], 1), prompt_mask, response_mask


def loss_of(model: ActorCritic) -> torch.Tensor:
    said = model(*rows(), 0.7, entropy=True)
    weights = torch.arange(RESPONSE).sin()
    return ((said.logprobs + 0.1 * said.entropy + said.values.tanh()) * weights).sum()


def gradients(model: nn.Module, loss: torch.Tensor) -> list[torch.Tensor | None]:
    model.zero_grad()
    loss.backward()
    return [p.grad for p in model.parameters() if p.requires_grad]


def equal(ones: list, others: list) -> bool:
    """To the bit, and not for want of gradients."""
    assert max(float(g.abs().max()) for g in ones if g is not None) > 1e-3
    return all(
        (a is None and b is None) or torch.equal(a, b) for a, b in zip(ones, others, strict=True)
    )


def kept_bytes(model: nn.Module, loss) -> int:
    """What autograd keeps between a forward and a backward pass, without weights."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def keep(x):
        if x.untyped_storage().data_ptr() not in weights:
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        held = loss(model)
    del held
    return sum(kept.values())


@pytest.mark.parametrize("critic", ["head", "adapter", "copy"])
@pytest.mark.parametrize("kind", CONFIGS)
def test_gradients_are_the_same_to_the_bit_and_less_is_kept(kind, critic):
    """In evaluation mode; with two adapters, of which the value function's is not on any more when
    the backward pass comes.
    """
    model = actor_critic(kind, critic)
    expected, before = gradients(model, loss_of(model)), kept_bytes(model, loss_of)
    set_checkpointing(model, True)
    assert equal(expected, gradients(model, loss_of(model)))
    # Of three layers one is kept, and the inputs of the others.
    assert kept_bytes(model, loss_of) < 0.65 * before
    set_checkpointing(model, False)
    assert kept_bytes(model, loss_of) == before


@pytest.mark.parametrize("lora", [False, True], ids=["plain", "lora"])
@pytest.mark.parametrize("kind", CONFIGS)
def test_through_a_cache_that_grows_too(kind, lora):
    """Prompts that are read once for all their responses, as reward models are trained."""
    model = ScalarModel(made(kind, lora=lora, auto=AutoModelForSequenceClassification))
    ids, prompt_mask, response_mask = rows()
    owner = torch.tensor([0, 1, 1])
    prompt = SharedPrompt(ids[:2, :PROMPT], prompt_mask[:2], owner)

    def loss(model):
        return (
            model.heads(ids[:, PROMPT:], response_mask, prompt).flatten() * torch.arange(1.0, 4)
        ).sum()

    expected, before = gradients(model, loss(model)), kept_bytes(model, loss)
    set_checkpointing(model, True)
    assert equal(expected, gradients(model, loss(model)))
    assert kept_bytes(model, loss) < 0.75 * before


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_dropout_is_drawn_again_as_it_was(kind):
    model = ActorCritic(made(kind, lora=False)).train()

    def loss(model):
        torch.manual_seed(5)
        return model(*rows(), 1.0).logprobs.sum()

    expected = gradients(model, loss(model))
    assert not equal(expected, gradients(model.eval(), loss(model)))
    set_checkpointing(model.train(), True)
    assert equal(expected, gradients(model, loss(model)))


def test_under_autocast_and_through_copies():
    model = actor_critic("llama", "adapter").float()
    names = list(model.state_dict())

    def loss(model):
        with torch.autocast("cpu", torch.bfloat16):
            return loss_of(model)

    expected = gradients(model, loss(model))
    set_checkpointing(model, True)
    assert equal(expected, gradients(model, loss(model)))
    assert list(model.state_dict()) == names
    for other in (deepcopy(model), pickle.loads(pickle.dumps(model))):
        less = kept_bytes(model, loss)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1.0)  # the copies have layers of their own
        assert equal(expected, gradients(other, loss(other)))
        assert kept_bytes(other, loss) == less
        with torch.no_grad():
            for parameter, old in zip(model.parameters(), other.parameters(), strict=True):
                parameter.copy_(old)


def test_without_gradients_a_layer_is_called_as_it_is(monkeypatch):
    model = ActorCritic(made("llama", lora=False))
    set_checkpointing(model, True)
    monkeypatch.setattr("lightning_modules.forward.checkpointing.checkpoint", None)
    with torch.no_grad():
        model(*rows(), 1.0)
    with pytest.raises(TypeError):
        model(*rows(), 1.0)


def test_a_model_whose_layers_are_not_known_is_told():
    model = ActorCritic(tiny_lm("recurrent"))
    assert not can_checkpoint(model)
    set_checkpointing(model, False)
    with pytest.raises(ModelError, match=r"hardware\.checkpointing=true: .* no layers"):
        set_checkpointing(model, True)

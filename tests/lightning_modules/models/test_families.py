"""What holds for models of every family: values, positions, ids without text."""

import pytest
import torch
from peft import LoraConfig, TaskType
from transformers import FalconConfig, WhisperConfig

from lightning_modules.forward.token_outputs import response_outputs
from lightning_modules.models.actor_critic import ActorCritic, new_value_head
from lightning_modules.models.adapters import add_adapter, merged
from lightning_modules.models.loading import check_causal_lm, load_causal_lm
from lightning_modules.models.usable import positions
from lightning_modules.models.vocabulary import ids_without_text
from lightning_modules.rollouts.generation import generate
from lightning_modules.rollouts.tokens import sample_tokens
from tests.lightning_modules.models.families import (
    FAMILIES,
    family_config,
    family_folder,
    family_model,
)
from tests.tolerances import of_model

SPARE = 7


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture
def batch(encoder):
    """Sequences of two prompts, padded on the left, and two responses, padded on the right."""
    size = len(encoder.tokenizer)
    sequences = torch.randint(6, size, (2, 14), generator=torch.Generator().manual_seed(0))
    prompt_mask = torch.ones(2, 8, dtype=torch.bool)
    prompt_mask[1, :3] = False
    response_mask = torch.ones(2, 6, dtype=torch.bool)
    response_mask[0, 4:] = False
    return sequences, prompt_mask, response_mask


@torch.no_grad()
def test_values_are_the_same_with_and_without_log_probabilities(family, encoder, batch):
    """Both read the states that the model's own head reads, whatever their width."""
    lm = family_model(family, encoder.tokenizer)
    model = ActorCritic(lm, new_value_head(lm))
    assert model.value_head.in_features == lm.get_output_embeddings().in_features
    torch.nn.init.normal_(model.value_head.weight)
    together, alone = model(*batch, 0.7).values, model.values(*batch)
    assert together.abs().max() > 0
    torch.testing.assert_close(together, alone, rtol=0, atol=of_model(lm))
    _, hidden = response_outputs(lm, *batch, 0.7, hidden=True)
    logits = lm.get_output_embeddings()(hidden)
    cap = getattr(lm.config.get_text_config(), "final_logit_softcapping", None)
    logits = cap * torch.tanh(logits / cap) if cap else logits
    said = response_outputs(lm, *batch, 1.0)[0].logprobs
    expected = logits.log_softmax(-1).gather(-1, batch[0][:, 8:, None]).squeeze(-1)
    torch.testing.assert_close(said, expected * batch[2], rtol=0, atol=of_model(lm))


def test_every_family_has_its_positions(family, encoder):
    config = family_config(family, encoder.tokenizer)
    assert positions(config) == (None if family == "bloom" else 128)


def test_a_limit_has_many_names():
    assert positions(FalconConfig(max_position_embeddings=64)) == 64
    assert positions(FalconConfig(max_position_embeddings=64, alibi=True)) is None
    assert positions(WhisperConfig(max_target_positions=32)) == 32


@torch.no_grad()
def test_ids_without_text_are_never_sampled(family, encoder, batch, tmp_path):
    """Also of models that know more ids: the logits of the others stay as they were."""
    folder = family_folder(family, encoder.tokenizer, tmp_path / "lm", SPARE)
    check_causal_lm(folder)
    lm, known = load_causal_lm(folder), set(range(len(encoder.tokenizer)))
    without = ids_without_text(lm)
    rows = len(encoder.tokenizer) + SPARE
    # Tokenizers of some families add a token of their own when they are loaded.
    assert len(without) in (SPARE - 1, SPARE)
    assert set(without) == set(range(rows - len(without), rows))
    plain = family_model(family, encoder.tokenizer, SPARE)
    sequences, prompt_mask, _ = batch
    ids = sequences[:, :8]
    expected, said = (m(input_ids=ids).logits for m in (plain, lm))
    kept = rows - len(without)
    torch.testing.assert_close(said[..., :kept], expected[..., :kept], rtol=0, atol=of_model(lm))
    assert expected[..., kept:].softmax(-1).max() > 0
    assert (said.softmax(-1)[..., kept:] == 0).all()
    # The largest number below 1 draws the last token that has a probability.
    last = sample_tokens(said[:, -1], 1.0, torch.full((2,), 1 - 1e-16, dtype=torch.float64)).tokens
    assert (last < kept).all()
    noise = torch.rand(2, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sampled, mask, _ = generate(
        lm, ids, prompt_mask, noise, temperature=3.0, stop_id=encoder.stop_id, pad_id=encoder.pad_id
    )
    assert set(sampled[:, 8:][mask].tolist()) <= known | set(range(kept))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("adapter", [False, True])
def test_what_has_no_text_has_no_probability_in_updates_either(
    dtype, adapter, encoder, batch, tmp_path
):
    """Log-probabilities are those of the ids that are left, and gradients and entropies finite."""
    lm = load_causal_lm(family_folder("llama", encoder.tokenizer, tmp_path / "lm", SPARE)).to(dtype)
    kept = len(encoder.tokenizer)
    if adapter:
        lora = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
        lm = add_adapter(lm, lora, TaskType.CAUSAL_LM, seed=0).eval()
    outputs, _ = response_outputs(lm, *batch, 0.5, entropy=True)
    (outputs.logprobs.sum() + outputs.entropy.sum()).backward()
    assert all(p.grad.isfinite().all() for p in lm.parameters() if p.requires_grad)
    assert outputs.entropy.isfinite().all()
    assert ids_without_text(lm) == ids_without_text(merged(lm)) == list(range(kept, kept + SPARE))
    with torch.no_grad():
        sequences, *masks = batch
        full = torch.cat(masks, 1)
        places = (full.long().cumsum(-1) - 1).clamp(min=0)
        logits = lm(input_ids=sequences, attention_mask=full, position_ids=places).logits
        left = logits[:, 7:-1, :kept].to(outputs.logprobs.dtype) / 0.5
    distribution = torch.distributions.Categorical(logits=left)
    mask = batch[2]
    for actual, expected in (
        (outputs.logprobs, distribution.log_prob(sequences[:, 8:])),
        (outputs.entropy, distribution.entropy()),
    ):
        # Two passes; the temperature of 0.5 doubles what they differ by.
        close = {"rtol": 0, "atol": 2 * of_model(lm)}
        torch.testing.assert_close(actual[mask].detach(), expected[mask], **close)


def test_saved_weights_know_nothing_of_it(encoder, tmp_path):
    folder = family_folder("llama", encoder.tokenizer, tmp_path / "lm", SPARE)
    lm = load_causal_lm(folder)
    plain = family_model("llama", encoder.tokenizer, SPARE).state_dict()
    assert lm.state_dict().keys() == plain.keys()
    assert all(torch.equal(weight, plain[name]) for name, weight in lm.state_dict().items())


def test_a_model_that_fits_its_tokenizer_is_left_alone(encoder, tmp_path):
    lm = load_causal_lm(family_folder("llama", encoder.tokenizer, tmp_path / "lm"))
    assert ids_without_text(lm) == []
    assert not lm._forward_hooks


def test_a_model_without_a_tokenizer_is_left_alone(encoder, tmp_path):
    family_model("gpt2", encoder.tokenizer).save_pretrained(tmp_path / "lm")
    assert ids_without_text(load_causal_lm(tmp_path / "lm")) == []

"""What the sampler draws is what one plain forward pass draws, in every family; what cannot be used
is refused.
"""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertLMHeadModel,
    MambaConfig,
    Phi3Config,
)

from datamodules.prompts import spread
from datamodules.tokenization.encoder import Encoder
from datamodules.tokenization.loading import train_tokenizer
from harness.checks import plain_pass
from harness.checks.audit import CheckError, Sample
from harness.checks.plain_pass import check_causality, check_drawn_again, check_model
from lightning_modules.rewards.reward import Responses
from lightning_modules.rollouts.generation import generate
from tests.lightning_modules.models.families import FAMILIES, USUAL, family_model

LOW = 1e-4  # nats a token, of float32


@pytest.fixture
def prompts(world):
    """Of different lengths, so that most rows are padded."""
    return spread(world.prompts("train"), 6)


def sampled(lm, encoder, prompts, tokens=40, samples=1, temperature=1.0) -> Sample:
    """Responses and the noise that they were drawn with."""
    ids, mask = encoder.pad(encoder.prompts(prompts), "left")
    assert not mask.all()
    noise = torch.rand(
        len(ids) * samples, tokens, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    stops = {"stop_id": encoder.stop_ids, "pad_id": encoder.pad_id}
    sequences, real, _ = generate(lm, ids, mask, noise, temperature=temperature, **stops)
    mask = mask.repeat_interleave(samples, 0)
    responses = Responses(prompts * samples, sequences, mask, real, real.any(1), encoder.decode)
    return Sample(None, responses, prompts, noise)


def drawn_again(lm, sample, temperature) -> float:
    """The share of tokens that agree; 0 if that is refused."""
    try:
        return check_drawn_again(lm, sample, temperature, LOW, coarse=False)
    except CheckError:
        return 0.0


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_sampled_token_is_drawn_again(family, encoder, prompts, temperature):
    lm = family_model(family, encoder.tokenizer)
    sample = sampled(lm, encoder, prompts, samples=2, temperature=temperature)
    assert int(sample.responses.response_mask.sum()) > 100
    assert drawn_again(lm, sample, temperature) > 0.999
    check_causality(lm, sample, LOW)


def test_other_noise_draws_other_tokens(encoder, prompts):
    """So the agreement above is not that of a model that always says the same."""
    lm = family_model("llama", encoder.tokenizer)
    sample = sampled(lm, encoder, prompts)
    sample.uniforms.copy_(1 - sample.uniforms)
    with pytest.raises(CheckError, match="others than one plain"):
        check_drawn_again(lm, sample, 1.0, LOW, coarse=False)


def test_a_cache_by_another_name_is_refused_before_anything_is_trained(encoder, prompts):
    config = MambaConfig(
        vocab_size=len(encoder.tokenizer),
        hidden_size=32,
        state_size=8,
        num_hidden_layers=2,
        initializer_range=0.5,
        eos_token_id=encoder.stop_id,
        pad_token_id=encoder.pad_id,
    )
    torch.manual_seed(0)
    lm = AutoModelForCausalLM.from_config(config).eval()
    refusal = r"nothing can be sampled from Mamba|MambaForCausalLM does not use the sampler's cache"
    with pytest.raises(CheckError, match=refusal):
        check_model(lm, encoder, prompts, LOW, coarse=False)


def test_a_model_that_sees_what_comes_is_refused(encoder, prompts):
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
    config = BertConfig(vocab_size=len(encoder.tokenizer), num_attention_heads=2, **sizes)
    torch.manual_seed(0)
    lm = BertLMHeadModel(config).eval()
    for parameter in lm.parameters():
        parameter.data.mul_(3.0)
    ids, mask = encoder.pad(encoder.prompts(prompts), "left")
    real = torch.ones(len(ids), 0, dtype=torch.bool)
    responses = Responses(prompts, ids, mask, real, real.any(1), encoder.decode)
    with pytest.raises(CheckError, match="BertLMHeadModel reads in both directions"):
        check_causality(lm, Sample(None, responses, prompts, None), LOW)


def test_sound_models_pass_by_themselves(encoder, prompts, monkeypatch):
    seen = []
    monkeypatch.setattr(plain_pass, "check_causality", lambda lm, sample, _: seen.append(sample))
    check_model(family_model("gpt2", encoder.tokenizer), encoder, prompts, LOW, coarse=False)
    assert seen[0].responses.response_mask.shape[1] <= plain_pass.FEW_TOKENS


def grows(original: int, encoder) -> AutoModelForCausalLM:
    """A model whose rotations are others for texts of more than `original` tokens."""
    scaling = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    config = Phi3Config(
        **USUAL,
        vocab_size=len(encoder.tokenizer),
        original_max_position_embeddings=original,
        rope_scaling=scaling,
        pad_token_id=encoder.pad_id,
        eos_token_id=encoder.stop_id,
    )
    torch.manual_seed(0)
    lm = AutoModelForCausalLM.from_config(config).eval()
    for parameter in lm.parameters():
        parameter.data.mul_(3.0)
    return lm


def test_a_model_is_sampled_from_up_to_the_length_that_prompts_and_limit_allow(world):
    """Its cache fails it from token 49 on, which a few tokens after short prompts do not reach."""
    encoder = Encoder(train_tokenizer(world.texts(), 512), 32, 40)
    prompts = world.prompts("train")
    lengths = [len(ids) for ids in encoder.prompts(prompts)]
    few = spread(prompts, plain_pass.PROMPTS)
    assert max(len(ids) for ids in encoder.prompts(few)) + plain_pass.FEW_TOKENS <= 48
    lm = grows(48, encoder)
    check_drawn_again(lm, plain_pass.sample_alone(lm, encoder, few), 1.0, LOW, coarse=False)
    with pytest.raises(CheckError, match=r"longrope.* more than 48 tokens.*max_response_tokens"):
        check_model(lm, encoder, prompts, LOW, coarse=False)
    check_model(grows(max(lengths) + 40, encoder), encoder, prompts, LOW, coarse=False)


def test_the_longest_prompt_is_found(encoder, world):
    prompts = world.prompts("train")
    lengths = [len(ids) for ids in encoder.prompts(prompts)]
    (found,) = encoder.prompts([plain_pass.longest(encoder, prompts)])
    assert len(found) == max(lengths)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named(encoder, prompts, value):
    lm = family_model("llama", encoder.tokenizer)
    lm.model.layers[0].mlp.up_proj.weight.data[0, 0] = value
    with pytest.raises(CheckError, match=r"log-probabilities of a response are not finite"):
        check_model(lm, encoder, prompts, LOW, coarse=False)

"""Models that say something else in a padded batch than of each row alone are not fitted."""

import pytest
import torch
from peft import LoraConfig, TaskType
from transformers import (
    AutoModelForSequenceClassification,
    BartConfig,
    BartForCausalLM,
    BertConfig,
    BertGenerationConfig,
    BertGenerationDecoder,
    BertLMHeadModel,
    JambaConfig,
    OpenAIGPTConfig,
    Qwen3NextConfig,
    RobertaConfig,
    RobertaForCausalLM,
    WhisperConfig,
    WhisperForCausalLM,
)

from harness.checks.supervised_pass import (
    check_hidden_states,
    check_log_probabilities,
    choose_shared_prompts,
    rows_like,
)
from lightning_modules.errors import ModelError
from lightning_modules.forward.shared_prompts import SharedPrompt
from lightning_modules.models.adapters import add_adapter
from lightning_modules.models.scalar import ScalarModel
from tests.lightning_modules.models.families import (
    FAMILIES,
    NEOX,
    USUAL,
    family_config,
    family_model,
)
from tests.tolerances import of_model

BERT = {**NEOX, "is_decoder": True}
IDS = [20, 9, 33, 12, 7, 81, 64, 22, 15]
ROWS = rows_like(IDS, 48)
# Families without a cache of keys and values that a prompt could leave for its responses.
OTHER_CACHES = {
    "jamba": lambda n: JambaConfig(
        vocab_size=n,
        **USUAL,
        num_experts=2,
        attn_layer_period=2,
        attn_layer_offset=1,
        mamba_d_state=4,
        mamba_expand=2,
        use_mamba_kernels=False,
        pad_token_id=0,
    ),
    "qwen3_next": lambda n: Qwen3NextConfig(
        vocab_size=n,
        **USUAL,
        head_dim=8,
        layer_types=["linear_attention", "full_attention"],
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=16,
        pad_token_id=0,
    ),
    "openai-gpt": lambda n: OpenAIGPTConfig(
        vocab_size=n, n_embd=32, n_layer=2, n_head=4, n_positions=128, pad_token_id=0
    ),
}


def far_from_uniform(model):
    for parameter in model.parameters():
        parameter.data.mul_(3.0)
    return model.eval()


def scorer(config):
    torch.manual_seed(0)
    config.num_labels = 2
    return far_from_uniform(AutoModelForSequenceClassification.from_config(config))


def test_rows_are_of_three_lengths_and_short():
    assert [len(row) for row in ROWS] == [16, 8, 6]
    assert ROWS[0][:9] == IDS
    assert ROWS[0][:8] == ROWS[1]
    assert ROWS[2] == ROWS[0][::-1][:6]
    assert [len(row) for row in rows_like([5], 4)] == [4, 2, 2]
    assert [len(row) for row in rows_like([5], 1)] == [3, 1, 2]


@pytest.mark.parametrize("family", FAMILIES)
def test_families_that_can_be_fitted(family, encoder):
    check_log_probabilities(family_model(family, encoder.tokenizer), encoder, ROWS)
    model = scorer(family_config(family, encoder.tokenizer))
    check_hidden_states(model, encoder, ROWS)
    scalar = ScalarModel(model)
    assert choose_shared_prompts(scalar, encoder, ROWS) == []
    assert scalar.shares_prompts


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_in_16_bits(dtype, encoder):
    for family in ("llama", "gpt2", "qwen3_moe"):
        lm = family_model(family, encoder.tokenizer).to(dtype)
        check_log_probabilities(lm, encoder, ROWS)
        check_hidden_states(
            scorer(family_config(family, encoder.tokenizer)).to(dtype), encoder, ROWS
        )


def test_positions_that_are_not_those_of_the_tokens(encoder):
    """RoBERTa's own begin after its padding id."""
    config = RobertaConfig(vocab_size=len(encoder.tokenizer), **BERT)
    torch.manual_seed(0)
    lm = far_from_uniform(RobertaForCausalLM(config))
    with pytest.raises(ModelError, match=r"RobertaForCausalLM says something else .*positions"):
        check_log_probabilities(lm, encoder, ROWS)
    lm = far_from_uniform(BertLMHeadModel(BertConfig(vocab_size=len(encoder.tokenizer), **BERT)))
    check_log_probabilities(lm, encoder, ROWS)


def test_a_model_that_does_not_heed_its_mask(encoder, monkeypatch):
    """One that averages over all tokens of a row, padding included."""
    model = scorer(family_config("llama", encoder.tokenizer))
    before = model.model.forward

    def leaking(*args, **options):
        outputs = before(*args, **options)
        outputs.last_hidden_state = (
            outputs.last_hidden_state + outputs.last_hidden_state.mean(1)[:, None]
        )
        return outputs

    check_hidden_states(model, encoder, ROWS)
    monkeypatch.setattr(model.model, "forward", leaking)
    with pytest.raises(ModelError, match="LlamaForSequenceClassification says something else"):
        check_hidden_states(model, encoder, ROWS)


def test_a_model_that_reads_in_both_directions(encoder):
    config = BertGenerationConfig(vocab_size=len(encoder.tokenizer), **NEOX)
    torch.manual_seed(0)
    lm = far_from_uniform(BertGenerationDecoder(config))
    with pytest.raises(ModelError, match=r"BertGenerationDecoder reads in both directions"):
        check_log_probabilities(lm, encoder, ROWS)


def test_a_model_that_takes_other_arguments(encoder):
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    size = {"d_model": 16, "decoder_layers": 1, "encoder_layers": 1, **ids}
    size |= {"decoder_attention_heads": 2, "encoder_attention_heads": 2}
    config = WhisperConfig(vocab_size=len(encoder.tokenizer), max_target_positions=64, **size)
    with pytest.raises(ModelError, match=r"WhisperForCausalLM cannot be read in padded batches"):
        check_log_probabilities(WhisperForCausalLM(config).eval(), encoder, ROWS)
    bart = BartForCausalLM(BartConfig(vocab_size=len(encoder.tokenizer), **size))
    check_log_probabilities(far_from_uniform(bart), encoder, ROWS)


def test_nan_is_not_within_rounding(encoder):
    lm = family_model("llama", encoder.tokenizer)
    lm.lm_head.weight.data[7] = float("nan")
    with pytest.raises(ModelError, match="by nan"):
        check_log_probabilities(lm, encoder, ROWS)


@pytest.mark.parametrize("adapter", [False, True])
@pytest.mark.parametrize("family", OTHER_CACHES)
def test_prompts_are_read_again_where_no_cache_lends_them(family, adapter, encoder):
    """Scores and gradients are those of whole conversations, one by one."""
    model = scorer(OTHER_CACHES[family](len(encoder.tokenizer)))
    check_hidden_states(model, encoder, ROWS)
    scalar = ScalarModel(model)
    (note,) = choose_shared_prompts(scalar, encoder, ROWS)
    assert type(model).__name__ in note
    if adapter:
        lora = LoraConfig(r=2, target_modules=".*proj|.*c_attn", init_lora_weights=False)
        scalar.model = add_adapter(model, lora, TaskType.SEQ_CLS, seed=0).eval()
    prompts, owner = ([5, 6, 7, 8, 9], [12, 13]), [0, 0, 1]
    responses = ([20, 21, 22], [23], [24, 25, 26, 27, 28])
    prompt = SharedPrompt(*encoder.pad(prompts, "left"), torch.tensor(owner))
    scores = scalar.heads(*encoder.pad(responses, "right"), prompt)
    rows = [torch.tensor([[*prompts[g], *r]]) for g, r in zip(owner, responses, strict=True)]
    alone = torch.cat([scalar.heads(row, torch.ones_like(row).bool()) for row in rows])
    assert alone.std(0).min() > 1e-3
    assert (scores - alone).abs().max() < of_model(model) * alone.abs().max().clamp(min=1)
    trained = [p for p in scalar.parameters() if p.requires_grad]
    weights = torch.tensor([[1.0, -2.0], [0.5, 3.0], [-1.0, 1.0]])
    found, expected = (
        torch.cat(
            [
                g.flatten()
                for g in torch.autograd.grad((weights * x).sum(), trained, allow_unused=True)
                if g is not None
            ]
        )
        for x in (scores, alone)
    )
    assert expected.norm() > 0
    assert (found - expected).norm() < 1e-3 * expected.norm()

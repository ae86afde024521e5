"""Models that are built, loaded, adapted and refused."""

import json
from functools import partial

import pytest
import torch
from peft import LoraConfig, PeftModel, TaskType
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BertLMHeadModel,
    GPT2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

from lightning_modules.errors import ModelError, OptionError
from lightning_modules.models.actor_critic import new_value_head
from lightning_modules.models.adapters import (
    VALUE_ADAPTER,
    active_adapters,
    adapter_parameters,
    add_adapter,
    add_value_adapter,
    merged,
)
from lightning_modules.models.language_model import LanguageModel
from lightning_modules.models.loading import LoadOptions, fetch_config, load_causal_lm
from lightning_modules.models.parameters import frozen, parameter_counts
from lightning_modules.models.scalar import ScalarModel
from lightning_modules.models.scorers import choose_padding, load_scorer, new_scorer
from lightning_modules.options.identities import pretrained_identity
from tests.tolerances import of_model

TINY = {
    "llama": partial(
        LlamaConfig,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
    ),
    "gpt2": partial(GPT2Config, n_embd=16, n_layer=1, n_head=2, n_positions=64),
}
LORA = LoraConfig(r=4, target_modules="all-linear")


@pytest.fixture
def language_model(architecture):
    return LanguageModel(
        name=architecture, pretrained=None, vocab_size=512, config=TINY[architecture], lr={}
    )


@pytest.fixture
def folder(lm, encoder, tmp_path):
    """The causal language model as a folder, with its tokenizer."""
    lm.save_pretrained(tmp_path / "lm")
    encoder.tokenizer.save_pretrained(tmp_path / "lm")
    return tmp_path / "lm"


@pytest.fixture
def ids(encoder):
    size = len(encoder.tokenizer)
    return torch.randint(6, size, (3, 9), generator=torch.Generator().manual_seed(0))


def pad_is_eos():
    """A tokenizer of 500 words without a padding token of its own."""
    words = {f"w{i}": i for i in range(499)} | {"<|end|>": 499}
    core = Tokenizer(models.WordLevel(words, unk_token="w0"))
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|end|>", pad_token="<|end|>", unk_token="w0"
    )


def shake(model, name):
    """Give the weights named so values that count."""
    torch.manual_seed(5)
    for key, parameter in model.named_parameters():
        if name in key:
            torch.nn.init.normal_(parameter, std=0.2)


def close(actual, expected, model):
    """Equal, but for rounding in this model."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=of_model(model))


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# -- options --------------------------------------------------------------------------------------


def test_a_model_needs_weights_or_a_config():
    with pytest.raises(OptionError, match=r"model\.pretrained"):
        LanguageModel(name="x", pretrained=None)


@pytest.mark.parametrize("vocab_size", [None, 299])
def test_a_toy_needs_room_for_bytes_and_special_tokens(vocab_size):
    with pytest.raises(OptionError, match=rf"model\.vocab_size={vocab_size}: .*300"):
        LanguageModel(name="x", pretrained=None, vocab_size=vocab_size, config=TINY["llama"])


def test_sequences_must_fit_into_the_positions(language_model):
    language_model.check(64)
    with pytest.raises(OptionError, match=r"max_response_tokens=65: .* has 64 positions"):
        language_model.check(65)


def test_a_folder_is_checked_by_its_config(folder):
    language_model = LanguageModel(name="mine", pretrained=str(folder))
    assert not language_model.embedded
    language_model.check(128)
    with pytest.raises(OptionError, match="mine has 128 positions"):
        language_model.check(129)


# -- toys -----------------------------------------------------------------------------------------


def test_a_toy_depends_on_its_seed_alone(language_model, encoder):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = language_model.build(encoder.tokenizer, 0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert same(first, language_model.build(encoder.tokenizer, 0))
    assert not same(first, language_model.build(encoder.tokenizer, 1))


def test_a_toy_has_its_tokenizers_vocabulary(language_model, encoder):
    config = language_model.build(encoder.tokenizer, 0).config
    assert config.vocab_size == len(encoder.tokenizer)
    assert (config.pad_token_id, config.eos_token_id) == (encoder.pad_id, encoder.stop_id)


def test_identity_is_json_and_tells_toys_apart(language_model, architecture):
    other = partial(TINY[architecture], num_attention_heads=4)
    changed = LanguageModel(name="x", pretrained=None, vocab_size=512, config=other)
    same_again = LanguageModel(
        name="renamed", pretrained=None, vocab_size=512, config=TINY[architecture]
    )
    assert json.dumps(language_model.identity()) == json.dumps(same_again.identity())
    assert language_model.identity() != changed.identity()


def test_identity_of_a_folder_changes_with_its_files(folder):
    before = pretrained_identity(folder)
    assert before == LanguageModel(name="x", pretrained=str(folder)).identity()
    (folder / "config.json").write_text(
        (folder / "config.json").read_text(encoding="utf-8") + "\n", encoding="utf-8"
    )
    assert pretrained_identity(folder) != before


# -- what cannot be had ---------------------------------------------------------------------------


def test_a_hub_id_that_cannot_be_reached():
    told = r"^nobody/nothing: .*HF_HUB_OFFLINE.*a local folder in its place"
    with pytest.raises(ModelError, match=told):
        fetch_config("nobody/nothing")


@pytest.mark.parametrize("path", ["/no/such/folder", "./no/such/folder", "a/b/c"])
def test_a_folder_that_is_missing(path):
    with pytest.raises(ModelError, match=f"^{path}: no such folder"):
        load_causal_lm(path)


@pytest.mark.parametrize("config", [None, "{}", "{not json"])
def test_a_folder_that_is_no_model(tmp_path, config):
    if config:
        (tmp_path / "config.json").write_text(config, encoding="utf-8")
    with pytest.raises(ModelError, match=f"^{tmp_path}: not a complete model folder"):
        fetch_config(tmp_path)


@pytest.mark.parametrize("load", [load_causal_lm, load_scorer])
def test_a_folder_whose_weights_are_missing(folder, load):
    config = json.loads((folder / "config.json").read_text(encoding="utf-8")) | {
        "id2label": {"0": "score"}
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=str(folder)):
        load(folder)


# -- scorers --------------------------------------------------------------------------------------


def test_a_causal_lm_is_loaded_in_evaluation_mode(lm, folder, ids):
    model = load_causal_lm(folder)
    assert not model.training
    close(model(ids).logits, lm(ids).logits, lm)


def test_a_causal_lm_is_no_reward_model(folder):
    with pytest.raises(ModelError, match=f"^{folder}: not a reward model.* with 2"):
        load_scorer(folder)


def test_a_scalar_head_that_would_be_random_is_refused(folder, tmp_path):
    scorer = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    scorer.save_pretrained(tmp_path / "scorer")
    weights = load_file(tmp_path / "scorer" / "model.safetensors")
    del weights["score.weight"]
    save_file(weights, tmp_path / "scorer" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"random.*score\.weight"):
        load_scorer(tmp_path / "scorer")


def test_a_classifier_of_two_classes_is_refused(folder, tmp_path):
    two = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
    two.save_pretrained(tmp_path / "two")
    with pytest.raises(ModelError, match=r"not a reward model.* with 2"):
        load_scorer(tmp_path / "two")


def test_a_new_scorer_keeps_the_trunk_and_draws_its_head_by_seed(lm, folder, encoder):
    first, again, other = (new_scorer(folder, encoder.tokenizer, seed=s) for s in (0, 0, 1))
    assert same(first.base_model, lm.base_model)
    assert torch.equal(first.score.weight, again.score.weight)
    assert not torch.equal(first.score.weight, other.score.weight)
    assert not first.training


def test_a_new_head_has_the_variance_of_stiennon(folder, encoder):
    weights = [new_scorer(folder, encoder.tokenizer, seed=s).score.weight for s in range(10)]
    variance = float(torch.cat(weights).detach().square().mean())
    # Mean of 320 squares, each with variance 2 sigma^4: four standard errors.
    assert variance * 33 == pytest.approx(1, abs=4 * (2 / 320) ** 0.5)


def test_a_tokenizer_with_a_padding_token_is_left_alone(folder, encoder):
    before = len(encoder.tokenizer), encoder.pad_id
    model = new_scorer(folder, encoder.tokenizer, seed=0)
    assert (len(encoder.tokenizer), encoder.pad_id) == before
    assert model.config.pad_token_id == encoder.pad_id


@pytest.mark.parametrize(
    ("rows", "special", "expected"),
    [
        (501, {}, "<|pad|>"),  # a row is free
        (500, {}, "w0"),  # the unknown token
        (500, {"bos_token": "w7"}, "w7"),
        (500, {"pad_token": "w9"}, "w9"),  # its own
    ],
)
def test_a_scorer_is_padded_with_what_ends_no_conversation(rows, special, expected):
    """And what has an embedding: no row is added, whatever the tokenizer has."""
    tokenizer = pad_is_eos()
    tokenizer.add_special_tokens(special)
    before = tokenizer.get_vocab().keys() | {"<|pad|>"}
    choose_padding(tokenizer, rows)
    assert tokenizer.pad_token == expected
    assert tokenizer.pad_token_id < rows
    assert tokenizer.eos_token_id == 499
    assert tokenizer.get_vocab().keys() <= before


def test_without_special_tokens_the_byte_0_pads():
    words = {"a": 0, "<0x00>": 1, "<|end|>": 2, "<|turn|>": 3}
    core = Tokenizer(models.WordLevel(words, unk_token="a"))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|end|>", pad_token="<|turn|>"
    )
    choose_padding(tokenizer, 4, stop_ids=(2, 3))
    assert tokenizer.pad_token == "<0x00>"


def test_a_padding_token_without_an_embedding_is_replaced():
    tokenizer = pad_is_eos()
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    assert tokenizer.pad_token_id == 500
    choose_padding(tokenizer, 500)
    assert tokenizer.pad_token_id < 500
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


@pytest.mark.parametrize("vocab_size", [500, 512])
def test_an_adapter_of_a_scorer_fits_its_base_in_plain_peft(architecture, tmp_path, vocab_size):
    tokenizer = pad_is_eos()
    torch.manual_seed(0)
    config = TINY[architecture](
        vocab_size=vocab_size, eos_token_id=499, bos_token_id=None, pad_token_id=None
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "lm")
    base = new_scorer(tmp_path / "lm", tokenizer, seed=0)
    assert base.get_input_embeddings().num_embeddings == vocab_size
    adapted = add_adapter(base, LORA, TaskType.SEQ_CLS, seed=0).eval()
    shake(adapted, "lora_B")
    shake(adapted, "modules_to_save")
    adapted.save_pretrained(tmp_path / "adapter")
    merged(adapted).save_pretrained(tmp_path / "model")
    pad = tokenizer.pad_token_id
    ids = torch.tensor([[7, 8, 499, 9, 499], [17, 18, 499, pad, pad]])
    mask = torch.tensor([[1] * 5, [1, 1, 1, 0, 0]]).bool()
    fresh = AutoModelForSequenceClassification.from_pretrained(tmp_path / "lm", num_labels=1)
    fresh.config.pad_token_id = pad
    loaded = PeftModel.from_pretrained(fresh, tmp_path / "adapter").eval()
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    with torch.no_grad():
        expected = ScalarModel(adapted).score(ids, mask)
        for other in (loaded, plain):
            close(other(input_ids=ids, attention_mask=mask).logits[:, 0], expected, plain)


@pytest.mark.parametrize("tokens", ["its own", "pad is eos"])
def test_an_exported_scorer_says_the_same_in_plain_transformers(
    architecture, encoder, tmp_path, tokens
):
    tokenizer = encoder.tokenizer if tokens == "its own" else pad_is_eos()
    language_model = LanguageModel(
        name="x", pretrained=None, vocab_size=512, config=TINY[architecture]
    )
    language_model.build(tokenizer, 0).save_pretrained(tmp_path / "lm")
    model = new_scorer(tmp_path / "lm", tokenizer, seed=0)
    model.save_pretrained(tmp_path / "rm")
    stop, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    ids = torch.tensor([[7, 8, stop, 9, stop], [17, 18, stop, pad, pad]])
    mask = torch.tensor([[1] * 5, [1, 1, 1, 0, 0]]).bool()
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "rm").eval()
    with torch.no_grad():
        expected = plain(ids, attention_mask=mask).logits[:, 0]
        for scorer in (model, load_scorer(tmp_path / "rm")):
            scores = ScalarModel(scorer).score(ids, mask)
            close(scores, expected, plain)


# -- heads and adapters ---------------------------------------------------------------------------


def test_a_new_value_head_values_every_state_0(lm):
    head = new_value_head(lm.to(torch.bfloat16))
    assert head.weight.dtype == torch.float32
    assert (head(torch.randn(5, 32)) == 0).all()


@pytest.mark.parametrize(
    ("task", "expected"), [(TaskType.CAUSAL_LM, {"lora"}), (TaskType.SEQ_CLS, {"lora", "score"})]
)
def test_only_adapters_and_a_scalar_head_are_trained(lm, folder, encoder, task, expected):
    base = lm if task == TaskType.CAUSAL_LM else new_scorer(folder, encoder.tokenizer, seed=0)
    model = add_adapter(base, LORA, task, seed=0)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert {"lora" if "lora_" in name else name.split(".")[-4] for name in trained} == expected
    count, of_trained = parameter_counts(model)
    assert 0 < of_trained < count / 2
    assert LORA.task_type is None
    assert LORA.modules_to_save is None


def test_adapters_depend_on_their_seed_alone_and_begin_without_effect(lm, folder, ids):
    with torch.no_grad():
        before = lm(ids).logits
    adapted = [
        add_adapter(load_causal_lm(folder), LORA, TaskType.CAUSAL_LM, seed=s) for s in (0, 0, 1)
    ]
    assert same(adapted[0], adapted[1])
    assert not same(adapted[0], adapted[2])
    close(adapted[0].eval()(ids).logits, before, lm)


def test_a_merged_policy_says_what_the_adapted_one_says(lm, ids):
    adapted = add_adapter(lm, LORA, TaskType.CAUSAL_LM, seed=0).eval()
    shake(adapted, "lora_B")
    with torch.no_grad():
        expected = adapted(ids).logits
        plain = merged(adapted)
        assert type(plain) is type(adapted.get_base_model())
        close(plain(ids).logits, expected, adapted)
        torch.testing.assert_close(adapted(ids).logits, expected, rtol=0, atol=0)
        with adapted.disable_adapter():
            assert (adapted(ids).logits - expected).abs().max() > 0.1


def test_a_merged_scorer_keeps_its_trained_head_through_a_folder(folder, encoder, ids, tmp_path):
    base = new_scorer(folder, encoder.tokenizer, seed=0)
    adapted = add_adapter(base, LORA, TaskType.SEQ_CLS, seed=0).eval()
    shake(adapted, "lora_B")
    shake(adapted, "modules_to_save")
    mask = torch.ones_like(ids, dtype=torch.bool)
    with torch.no_grad():
        expected = ScalarModel(adapted).score(ids, mask)
        merged(adapted).save_pretrained(tmp_path / "rm")
        scores = ScalarModel(load_scorer(tmp_path / "rm")).score(ids, mask)
    close(scores, expected, adapted)


def test_a_model_without_adapters_is_its_own_merge(lm):
    assert merged(lm) is lm


def test_frozen_models_neither_learn_nor_drop_out(lm):
    model = frozen(lm.train())
    assert not any(m.training for m in model.modules())
    assert parameter_counts(model)[1] == 0


def test_shared_parameters_are_counted_once(lm):
    count, trained = parameter_counts(lm, lm)
    assert count == trained == sum(p.numel() for p in lm.parameters())


def test_a_causal_lm_of_the_hub_format_stays_plain(language_model, encoder, tmp_path):
    model = language_model.build(encoder.tokenizer, 0)
    model.save_pretrained(tmp_path)
    assert same(AutoModelForCausalLM.from_pretrained(tmp_path), model)


# -- a value adapter beside the policy's -----------------------------------------------------------


@pytest.fixture
def two_adapters(lm):
    """The policy's adapter and the value function's, both far from 0."""
    model = add_adapter(lm, LORA, TaskType.CAUSAL_LM, seed=0).eval()
    add_value_adapter(model, LORA, seed=1)
    shake(model, "lora_B")
    return model.eval()


def test_a_value_adapter_is_trained_too_and_begins_without_effect(lm, ids):
    model = add_adapter(lm, LORA, TaskType.CAUSAL_LM, seed=0).eval()
    shake(model, "lora_B")
    with torch.no_grad(), model.disable_adapter():
        base = model(ids).logits
    before = [name for name, p in model.named_parameters() if p.requires_grad]
    add_value_adapter(model, LORA, seed=1)
    assert model.active_adapters == ["default"]
    after = [name for name, p in model.named_parameters() if p.requires_grad]
    twins = [name.replace("default", VALUE_ADAPTER) for name in before]
    assert set(after) == {*before, *twins}
    with torch.no_grad(), active_adapters(model, VALUE_ADAPTER):
        close(model(ids).logits, base, model)
    assert LORA.task_type is None


def test_a_value_adapter_depends_on_its_seed_alone(folder):
    def drawn(policy_seed, seed):
        model = add_adapter(load_causal_lm(folder), LORA, TaskType.CAUSAL_LM, seed=policy_seed)
        add_value_adapter(model, LORA, seed)
        return torch.cat([p.flatten() for p in adapter_parameters(model, VALUE_ADAPTER)])

    assert torch.equal(drawn(0, 1), drawn(5, 1))
    assert not torch.equal(drawn(0, 1), drawn(0, 2))


def test_merging_folds_in_the_policys_own_adapter_alone(two_adapters, ids):
    with torch.no_grad():
        expected = two_adapters(ids).logits
        with active_adapters(two_adapters, VALUE_ADAPTER):
            assert (two_adapters(ids).logits - expected).abs().max() > 0.1
        plain = merged(two_adapters)
        close(plain(ids).logits, expected, two_adapters)
        # The original is not touched, and still has both.
        torch.testing.assert_close(two_adapters(ids).logits, expected, rtol=0, atol=0)
    assert set(two_adapters.peft_config) == {"default", VALUE_ADAPTER}
    assert not any("lora_" in name for name in plain.state_dict())


def test_an_adapter_is_told_from_a_layer_of_the_same_name():
    """In BERT's attention, and RWKV's, there is a layer called `value`."""
    config = BertConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        is_decoder=True,
    )
    model = add_adapter(BertLMHeadModel(config), LORA, TaskType.CAUSAL_LM, seed=0)
    layer = ".attention.self.value."
    assert any(layer in name for name, _ in model.named_parameters())
    add_value_adapter(model, LORA, seed=1)
    names = {id(p): name for name, p in model.named_parameters()}
    found = {names[id(p)] for p in adapter_parameters(model, VALUE_ADAPTER)}
    assert found
    assert all(name.endswith(f".{VALUE_ADAPTER}.weight") for name in found)
    assert not any(p.requires_grad for n, p in model.named_parameters() if "lora_" not in n)


def test_what_adapters_train_is_float32_on_a_bfloat16_base(folder, encoder):
    """The scalar head too: small steps are lost in bfloat16's 8 bits."""
    scorer = new_scorer(folder, encoder.tokenizer, seed=0, how=LoadOptions(torch.bfloat16))
    adapted = add_adapter(scorer, LORA, TaskType.SEQ_CLS, seed=0)
    kinds = {p.dtype for p in adapted.parameters() if p.requires_grad}
    assert kinds == {torch.float32}
    assert any("score" in name for name, p in adapted.named_parameters() if p.requires_grad)
    ids = torch.arange(3, 9)[None]
    model = ScalarModel(adapted)
    alone = model(ids, torch.ones_like(ids))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(ids, torch.ones_like(ids))
    assert alone.dtype == mixed.dtype == torch.float32
    torch.testing.assert_close(alone, mixed, rtol=0.05, atol=0.05)

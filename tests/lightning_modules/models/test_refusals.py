"""Folders that are not a causal LM with all its weights and its tokenizer: each is told apart."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    BertLMHeadModel,
    ByT5Tokenizer,
    CTRLConfig,
    CTRLLMHeadModel,
    DistilBertConfig,
    DistilBertForMaskedLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    RobertaConfig,
    RobertaForMaskedLM,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTModel,
    XLNetConfig,
)

from lightning_modules.errors import ModelError, OptionError
from lightning_modules.models.language_model import LanguageModel
from lightning_modules.models.loading import check_causal_lm, load_causal_lm
from lightning_modules.models.scorers import check_new_scorer, check_scorer, load_scorer, new_scorer
from lightning_modules.models.usable import refuse_kind
from lightning_modules.models.weights import head_names
from lightning_modules.options.paths import model_folder
from tests.lightning_modules.models.families import (
    FAMILIES,
    USUAL,
    family_config,
    family_folder,
    family_model,
)

SMALL = {key: value for key, value in USUAL.items() if key != "num_key_value_heads"}


@pytest.fixture
def folder(encoder, tmp_path):
    return family_folder("llama", encoder.tokenizer, tmp_path / "lm")


def rename(folder, new_name):
    """The folder with other names of its weights; None drops one."""
    file = folder / "model.safetensors"
    renamed = {new_name(name): weight for name, weight in load_file(file).items()}
    renamed.pop(None, None)
    save_file(renamed, file, {"format": "pt"})


def reconfigure(folder, **changes):
    file = folder / "config.json"
    file.write_text(
        json.dumps(json.loads(file.read_text(encoding="utf-8")) | changes), encoding="utf-8"
    )


def refused_by(path, *checks):
    """What all of them say."""
    said = set()
    for check in checks:
        with pytest.raises(ModelError) as caught:
            check(path)
        said.add(str(caught.value))
    assert len(said) == 1
    return said.pop()


# -- weights --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "hint"),
    [
        ("_orig_mod.", "torch.compile"),
        ("module.", "DataParallel"),
        ("pretrained_model.", "value head"),
        ("inner.", "another one"),
    ],
)
def test_names_from_within_a_wrapper(folder, prefix, hint):
    count = len(load_file(folder / "model.safetensors"))
    rename(folder, lambda name: prefix + name)
    said = refused_by(folder, check_causal_lm, load_causal_lm)
    assert said.startswith(f"{folder}: ")
    assert f"{count} of the model are not in the files" in said
    assert f"{count} in the files are not the model's" in said
    assert "lm_head.weight" in said
    assert f"{prefix}lm_head.weight" in said
    assert hint in said


def test_files_of_pickled_weights_are_looked_at_too(folder):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    check_causal_lm(folder)
    torch.save({f"_orig_mod.{k}": v for k, v in weights.items()}, folder / "pytorch_model.bin")
    assert "torch.compile" in refused_by(folder, check_causal_lm, load_causal_lm)


def test_a_layer_that_is_missing_or_left_over(folder):
    reconfigure(folder, num_hidden_layers=1)
    assert "leaves out layers 1" in refused_by(folder, check_causal_lm, load_causal_lm)
    reconfigure(folder, num_hidden_layers=3)
    said = refused_by(folder, check_causal_lm, load_causal_lm)
    assert "of layers 2" in said
    assert "9 of the model are not in the files" in said
    assert "in the files are not" not in said


def test_one_weight_that_is_missing(folder):
    name = "model.layers.1.self_attn.q_proj.weight"
    rename(folder, lambda each: None if each == name else each)
    said = refused_by(folder, check_causal_lm, load_causal_lm)
    assert f"1 of the model are not in the files and would be random ({name})" in said


def test_weights_of_another_shape(folder, encoder):
    reconfigure(folder, vocab_size=100)
    said = refused_by(folder, check_causal_lm, load_causal_lm)
    assert f"lm_head.weight ({len(encoder.tokenizer)}, 32), the model's (100, 32)" in said


def test_a_model_saved_without_its_head(folder, tmp_path):
    AutoModel.from_pretrained(folder).save_pretrained(tmp_path / "trunk")
    said = refused_by(tmp_path / "trunk", load_causal_lm)
    assert "lm_head.weight" in said
    assert "without its head" in said


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "opt_350m"])
def test_a_head_that_is_the_embeddings_is_not_missed(family, encoder, tmp_path):
    trunk = family_model(family, encoder.tokenizer)
    assert trunk.config.tie_word_embeddings
    trunk.base_model.save_pretrained(tmp_path)
    encoder.tokenizer.save_pretrained(tmp_path)
    ids = torch.tensor([[5, 6, 7]])
    check_causal_lm(tmp_path)
    assert torch.equal(load_causal_lm(tmp_path)(ids).logits, trunk(ids).logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_complete_is_taken(family, encoder, tmp_path):
    folder = family_folder(family, encoder.tokenizer, tmp_path)
    check_causal_lm(folder)
    check_new_scorer(folder)
    weights = family_model(family, encoder.tokenizer).state_dict()
    loaded = load_causal_lm(folder).state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in loaded.items())


def test_a_classifier_is_no_causal_lm(folder, tmp_path):
    scorer = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    scorer.save_pretrained(tmp_path / "rm")
    assert "a classifier" not in str(tmp_path)
    said = refused_by(tmp_path / "rm", load_causal_lm)
    assert "score.weight" in said
    assert "reward model" in said


def test_a_reward_model_is_complete_or_refused(folder, encoder, tmp_path):
    new_scorer(folder, encoder.tokenizer, seed=0).save_pretrained(tmp_path / "rm")
    encoder.tokenizer.save_pretrained(tmp_path / "rm")
    check_scorer(tmp_path / "rm")
    rename(tmp_path / "rm", lambda name: f"_orig_mod.{name}")
    assert "torch.compile" in refused_by(tmp_path / "rm", check_scorer, load_scorer)


def test_a_reward_model_is_built_on_complete_weights_alone(folder, encoder):
    rename(folder, lambda name: None if ".layers.1." in name else name)
    with pytest.raises(ModelError, match=r"9 of the model .*of layers 1"):
        new_scorer(folder, encoder.tokenizer, seed=0)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:9000]), "damaged or cut short"),
        (
            lambda file: file.write_text(
                "version https://git-lfs.github.com/spec/v1\noid sha256:0",
                encoding="utf-8",
            ),
            r"model\.safetensors is a pointer of git-lfs",
        ),
        (lambda file: file.write_bytes(b""), "damaged or cut short"),
        (lambda file: file.unlink(), "not a complete model folder"),
    ],
)
def test_files_of_weights_that_are_damaged(folder, damage, said):
    damage(folder / "model.safetensors")
    for check in (check_causal_lm, load_causal_lm):
        with pytest.raises(ModelError, match=said):
            check(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_numbers_are_named(value, folder, encoder):
    name, file = "model.layers.1.mlp.down_proj.weight", folder / "model.safetensors"
    weights = load_file(file)
    weights[name][3, 5] = value
    save_file(weights, file, {"format": "pt"})
    said = refused_by(
        folder, load_causal_lm, lambda path: new_scorer(path, encoder.tokenizer, seed=0)
    )
    assert said.startswith(f"{folder}: 1 of its weights contain NaN or infinity ({name})")
    check_causal_lm(folder)  # names and shapes alone


def test_a_head_that_files_call_otherwise(encoder, tmp_path):
    """GPT-NeoX's is embed_out in files and lm_head in the model; a scorer needs neither."""
    folder = family_folder("gpt_neox", encoder.tokenizer, tmp_path)
    lm = family_model("gpt_neox", encoder.tokenizer)
    in_files = load_file(folder / "model.safetensors")
    assert set(in_files) - set(lm.state_dict()) == {"embed_out.weight"}
    assert head_names(lm.config) == {"embed_out.weight", "lm_head.weight"}
    check_new_scorer(folder)
    scorer = new_scorer(folder, encoder.tokenizer, seed=0)
    assert torch.equal(
        scorer.gpt_neox.layers[1].mlp.dense_h_to_4h.weight,
        in_files["gpt_neox.layers.1.mlp.dense_h_to_4h.weight"],
    )
    # What is no head is still not left over.
    in_files["gpt_neox.extra.weight"] = torch.zeros(2)
    save_file(in_files, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"left out \(gpt_neox\.extra\.weight\)"):
        check_new_scorer(folder)


@pytest.mark.parametrize("family", FAMILIES)
def test_new_scorers_have_the_backbone_and_leave_the_head(family, encoder, tmp_path):
    folder = family_folder(family, encoder.tokenizer, tmp_path)
    check_new_scorer(folder)
    lm, scorer = load_causal_lm(folder), new_scorer(folder, encoder.tokenizer, seed=0)
    ids = torch.tensor([[5, 6, 7, 8]])
    said, expected = (m.base_model(input_ids=ids).last_hidden_state for m in (scorer, lm))
    assert torch.equal(said, expected)


# -- what is in the folder ------------------------------------------------------------------------


def test_a_file_where_a_folder_is_meant(folder):
    with pytest.raises(ModelError, match="is a file; give the folder"):
        check_causal_lm(folder / "model.safetensors")


def test_an_empty_folder(tmp_path):
    with pytest.raises(ModelError, match=r"there is no config\.json in it, but nothing"):
        check_causal_lm(tmp_path)


def test_a_run_that_is_not_finished(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ModelError, match=r"not finished.*task=export run=<this folder>"):
        check_causal_lm(tmp_path)


@pytest.mark.parametrize("changes", ["{broken", '{"num_hidden_layers": "two"}'])
def test_a_config_that_cannot_be_read(folder, changes):
    if changes == "{broken":
        (folder / "config.json").write_text(changes, encoding="utf-8")
    else:
        reconfigure(folder, **json.loads(changes))
    with pytest.raises(
        ModelError, match=r"not a complete model folder: .*(JSON|num_hidden_layers)"
    ):
        check_causal_lm(folder)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"hidden_act": "nonsense"}, "nonsense"),
        ({"rope_parameters": {"rope_type": "nope", "rope_theta": 1e4}}, "nope"),
    ],
)
def test_a_config_with_words_that_nobody_knows(changes, named, folder):
    reconfigure(folder, **changes)
    said = refused_by(
        folder,
        check_causal_lm,
        load_causal_lm,
        check_new_scorer,
        lambda path: LanguageModel(name="x", pretrained=str(path)).parameters(),
    )
    assert f"cannot build what its config.json describes: it knows no '{named}'" in said


@pytest.mark.parametrize(("text", "why"), [("{ broken", "cannot be read"), ("[1]", "by name")])
def test_a_generation_config_that_cannot_be_read(text, why, folder):
    """It says where responses stop."""
    check_causal_lm(folder)
    (folder / "generation_config.json").write_text(text, encoding="utf-8")
    said = refused_by(folder, check_causal_lm, load_causal_lm)
    assert said.startswith(f"{folder}/generation_config.json: ")
    assert why in said


def test_code_that_a_model_brings_is_not_run(folder):
    reconfigure(
        folder, model_type="own", auto_map={"AutoConfig": "x.Y", "AutoModelForCausalLM": "x.Z"}
    )
    with pytest.raises(ModelError, match="brings code of its own"):
        check_causal_lm(folder)


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2"])
def test_a_folder_without_a_tokenizer(family, encoder, tmp_path):
    """For some families Transformers would make up an empty one."""
    family_model(family, encoder.tokenizer).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="there is no tokenizer in this folder"):
        check_causal_lm(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match="tokenizer"):
        check_causal_lm(tmp_path)


def test_a_tokenizer_without_a_vocabulary(encoder, tmp_path):
    """As ByT5's, which reads bytes; it was saved all the same."""
    family_model("llama", encoder.tokenizer).save_pretrained(tmp_path)
    ByT5Tokenizer().save_pretrained(tmp_path)
    with pytest.raises(
        ModelError, match=r"tokenizer_config\.json in this folder but no vocabulary"
    ):
        check_causal_lm(tmp_path)


def test_tokens_that_have_no_embedding(encoder, folder, tmp_path):
    """Padding may be beyond, as it is masked, and so may what no template writes."""
    rows = len(encoder.tokenizer)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.add_special_tokens({"extra_special_tokens": ["<image>"]})
    tokenizer.save_pretrained(folder)
    check_causal_lm(folder)
    tokenizer.add_tokens(["hello"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match=f"{rows} embeddings, such as 'hello' with id {rows + 2}"):
        check_causal_lm(folder)


def test_a_turn_token_that_has_no_embedding(folder, encoder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|im_start|>"]})
    tokenizer.chat_template = "<|im_start|>" + tokenizer.chat_template
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match=r"'<\|im_start\|>' with id"):
        check_causal_lm(folder)


def test_an_adapter_names_its_base_and_the_model_beside_it(folder, tmp_path):
    adapter = tmp_path / "run" / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "adapter_config.json").write_text(
        '{"base_model_name_or_path": "some/base"}', encoding="utf-8"
    )
    with pytest.raises(ModelError, match=r"an adapter of some/base.*merge_and_unload"):
        check_causal_lm(adapter)
    shutil.copytree(folder, tmp_path / "run" / "model")
    with pytest.raises(ModelError, match=rf"{tmp_path}/run/model is the same"):
        check_causal_lm(adapter)


def test_a_run_stands_for_its_model(folder, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(folder, run / "model")
    assert model_folder(run) == str(run / "model")
    assert model_folder(folder) == str(folder)
    assert model_folder("some/hub-id") == "some/hub-id"
    assert LanguageModel(name="x", pretrained=str(run)).pretrained == str(run / "model")
    check_causal_lm(run)
    assert load_causal_lm(run).config.vocab_size


# -- kinds of models ------------------------------------------------------------------------------

NOT_CAUSAL = {
    "t5": lambda n: T5ForConditionalGeneration(
        T5Config(vocab_size=n, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    ),
    "bart": lambda n: BartForConditionalGeneration(
        BartConfig(vocab_size=n, d_model=16, encoder_layers=1, decoder_layers=1)
    ),
    "bert": lambda n: BertForMaskedLM(BertConfig(vocab_size=n, **SMALL)),
    "roberta": lambda n: RobertaForMaskedLM(RobertaConfig(vocab_size=n, **SMALL)),
    "distilbert": lambda n: DistilBertForMaskedLM(
        DistilBertConfig(vocab_size=n, dim=16, n_layers=1, n_heads=2, hidden_dim=16)
    ),
    "vit": lambda n: ViTModel(
        ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    ),
}


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("t5", "an encoder and a decoder"),
        ("bart", "an encoder and a decoder"),
        ("bert", "sees what comes after"),
        ("roberta", "sees what comes after"),
        ("distilbert", "no causal LM"),
        ("vit", "no causal LM"),
    ],
)
def test_what_does_not_write_from_left_to_right(kind, why, encoder, tmp_path):
    NOT_CAUSAL[kind](len(encoder.tokenizer)).save_pretrained(tmp_path)
    encoder.tokenizer.save_pretrained(tmp_path)
    said = refused_by(tmp_path, check_causal_lm, load_causal_lm)
    assert f"of type {kind} " in said
    assert why in said


def test_a_bert_that_decodes_is_taken(encoder, tmp_path):
    config = BertConfig(vocab_size=len(encoder.tokenizer), is_decoder=True, **SMALL)
    BertLMHeadModel(config).save_pretrained(tmp_path)
    encoder.tokenizer.save_pretrained(tmp_path)
    check_causal_lm(tmp_path)


def test_configs_that_look_both_ways():
    with pytest.raises(ModelError, match="sees what comes after"):
        refuse_kind("x", Gemma3TextConfig(use_bidirectional_attention=True))
    refuse_kind("x", Gemma3TextConfig())
    for config in (LlamaConfig(is_causal=False), XLNetConfig()):
        with pytest.raises(ModelError, match="sees what comes after"):
            refuse_kind("x", config)


def test_what_no_reward_model_can_be_built_on(encoder, tmp_path):
    config = MambaConfig(
        vocab_size=len(encoder.tokenizer), hidden_size=16, state_size=4, num_hidden_layers=1
    )
    MambaForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="of type mamba, so no reward model"):
        check_new_scorer(tmp_path)
    with pytest.raises(ModelError, match="of type mamba, so no reward model"):
        new_scorer(tmp_path, encoder.tokenizer, seed=0)


@pytest.mark.parametrize("kind", ["bert", "ctrl"])
def test_classifiers_that_do_not_score_the_end(kind, encoder, tmp_path):
    """Theirs would be random in other places than the head."""
    size, ids = len(encoder.tokenizer), {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    model = {
        "bert": lambda: BertLMHeadModel(
            BertConfig(vocab_size=size, is_decoder=True, **SMALL, **ids)
        ),
        "ctrl": lambda: CTRLLMHeadModel(
            CTRLConfig(vocab_size=size, n_embd=16, dff=16, n_layer=1, n_head=2, **ids)
        ),
    }[kind]()
    model.save_pretrained(tmp_path)
    encoder.tokenizer.save_pretrained(tmp_path)
    said = refused_by(
        tmp_path, check_new_scorer, lambda path: new_scorer(path, encoder.tokenizer, seed=0)
    )
    assert f"can be built here on a model of type {kind}" in said
    assert "random" not in said


@pytest.mark.parametrize("pad", [-1, 10**6])
def test_a_padding_id_that_no_embedding_has_is_forgotten(pad, folder, encoder):
    reconfigure(folder, pad_token_id=pad)
    check_causal_lm(folder)
    model = load_causal_lm(folder)
    assert model.config.pad_token_id is None
    assert model.get_input_embeddings().padding_idx is None
    assert new_scorer(folder, encoder.tokenizer, seed=0).config.pad_token_id == encoder.pad_id


@pytest.mark.parametrize("family", FAMILIES)
def test_positions_of_every_family_are_minded(family, encoder, tmp_path):
    folder = family_folder(family, encoder.tokenizer, tmp_path)
    model = LanguageModel(name="mine", pretrained=str(folder))
    model.check(128)
    if family == "bloom":
        model.check(10**6)
        return
    with pytest.raises(OptionError, match="mine has 128 positions"):
        model.check(129)


def test_the_check_reads_no_weights(folder, monkeypatch):
    """Of a model of any size it takes a moment."""
    made = []
    original = LlamaForCausalLM.__init__

    def remember(self, config):
        original(self, config)
        made.append(self)

    monkeypatch.setattr(LlamaForCausalLM, "__init__", remember)
    check_causal_lm(folder)
    assert made
    assert {p.device.type for model in made for p in model.parameters()} == {"meta"}


def test_configs_are_those_of_the_families(encoder):
    types = {family_config(name, encoder.tokenizer).model_type for name in FAMILIES}
    assert len(types) == len(FAMILIES) - 1  # two are of OPT


@pytest.mark.parametrize(
    "name", ["v[2]", "{x}", "it's é", "é", "a b", "../x", "~/x", "/x", "a/b/c", "x:1", "-x", "a..b"]
)
def test_a_name_that_no_hub_has_gets_no_advice_on_the_network(name):
    for check in (check_causal_lm, check_scorer):
        with pytest.raises(ModelError, match="no such folder, and not a hub id either") as error:
            check(name)
        assert "HF_HUB_OFFLINE" not in str(error.value)


@pytest.mark.parametrize("name", ["gpt-none", "some.one/no_model-2"])
def test_a_name_that_the_hub_may_have_gets_it_whatever_the_option(name, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="check the name, the network and HF_HUB_OFFLINE") as error:
        check_causal_lm(name)
    assert "model.pretrained" not in str(error.value)

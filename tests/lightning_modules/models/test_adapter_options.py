"""Options of LoRA that do not suit a model: said before anything is trained."""

import pytest
from peft import LoraConfig, TaskType
from transformers import AutoModelForSequenceClassification

from lightning_modules.errors import OptionError
from lightning_modules.models.adapters import add_adapter, check_adapter
from lightning_modules.models.language_model import LanguageModel
from tests.lightning_modules.models.families import FAMILIES, family_folder, family_model


@pytest.fixture
def model(encoder, tmp_path):
    return LanguageModel(
        name="mine", pretrained=str(family_folder("llama", encoder.tokenizer, tmp_path))
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"target_modules": ["nope"]}, r"adapter\.config\.target_modules=nope: Llama.*q_proj"),
        ({"target_modules": ["q_proj", "nope"]}, r"adapter\.config\.target_modules=nope"),
        ({"target_modules": ["proj"]}, r"adapter\.config\.target_modules=proj"),
        ({"target_modules": ".*nope"}, r"adapter\.config: LoRA cannot be put on LlamaForCausalLM"),
        ({"target_parameters": ["x"]}, r"adapter\.config\.target_parameters=x"),
        ({"modules_to_save": ["x"]}, r"adapter\.config\.modules_to_save=x"),
        ({"target_modules": ["q_proj"], "layers_to_transform": [7]}, r"adapter\.config: .*\[7\]"),
        ({"r": 0}, r"adapter\.config: .*positive"),
    ],
)
def test_what_does_not_suit_is_named(options, said, model):
    lora = LoraConfig(**{"r": 2, "target_modules": "all-linear", **options})
    with pytest.raises(OptionError, match=said):
        check_adapter(model.skeleton(), lora, TaskType.CAUSAL_LM)


@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["q_proj", "mlp.down_proj"], "modules_to_save": ["lm_head", "score"]},
        {"target_modules": "all-linear", "use_dora": True},
        {"target_modules": "all-linear", "init_lora_weights": "pissa"},
        {"target_modules": ".*layers.0.*q_proj", "bias": "all"},
        {"target_modules": ["q_proj"], "layers_to_transform": [1], "use_rslora": True},
        {"target_modules": "all-linear", "exclude_modules": ["q_proj"]},
        {"target_modules": ["q_proj"], "target_parameters": ["up_proj.weight"]},
    ],
)
def test_what_suits_is_taken_and_left_as_it_is(options, model):
    lora = LoraConfig(r=2, **options)
    before = lora.to_dict()
    check_adapter(model.skeleton(), lora, TaskType.CAUSAL_LM)
    check_adapter(model.skeleton(AutoModelForSequenceClassification), lora, TaskType.SEQ_CLS)
    assert lora.to_dict() == before


def test_a_scorer_has_no_head_for_tokens(model):
    """A causal LM has: the policy would take what its reward model cannot."""
    lora = LoraConfig(r=2, target_modules=["lm_head"])
    check_adapter(model.skeleton(), lora, TaskType.CAUSAL_LM)
    scorer = model.skeleton(AutoModelForSequenceClassification)
    with pytest.raises(OptionError, match="LoRA cannot be put on LlamaForSequenceClassification"):
        check_adapter(scorer, lora, TaskType.SEQ_CLS)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_check_holds_no_weights(family, encoder, tmp_path):
    folder = family_folder(family, encoder.tokenizer, tmp_path)
    skeleton = LanguageModel(name="mine", pretrained=str(folder)).skeleton()
    check_adapter(skeleton, LoraConfig(r=2, target_modules="all-linear"), TaskType.CAUSAL_LM)
    found = [name for name, _ in skeleton.named_parameters() if ".lora_A." in name]
    assert found
    assert {p.device.type for p in skeleton.parameters()} == {"meta"}


def test_the_adapter_itself_says_it_in_one_line_too(encoder):
    lora = LoraConfig(r=2, target_modules=["nope"])
    with pytest.raises(OptionError, match="LoRA cannot be put on LlamaForCausalLM"):
        add_adapter(family_model("llama", encoder.tokenizer), lora, TaskType.CAUSAL_LM, seed=0)

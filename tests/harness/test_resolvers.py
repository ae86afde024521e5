"""What a model is called, and what a toy's learning rates are worth to other models."""

import pytest

from tests.test_conf import composed


@pytest.fixture
def folders(tmp_path, monkeypatch):
    for place in ("my_model", "a_run/model"):
        (tmp_path / place).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "my_model")


@pytest.mark.parametrize("model", ["llama", "gpt2", "pretrained"])
@pytest.mark.parametrize(
    ("pretrained", "name"),
    [
        (".", "my_model"),
        ("../my_model", "my_model"),
        ("../my_model/", "my_model"),
        ("../a_run/model", "a_run"),
        ("../a_run/model/.", "a_run"),
        ("../a_run", "a_run"),
        ("some_org/Some-1.5B", "Some-1.5B"),
        ("some_org/model", "model"),
        ("gpt2", "gpt2"),
    ],
)
def test_a_pretrained_model_is_called_as_its_folder_or_its_name_on_the_hub(
    folders, model, pretrained, name
):
    assert composed(f"model={model}", f"model.pretrained={pretrained}").model.name == name


@pytest.mark.parametrize("model", ["llama", "gpt2"])
def test_a_toy_has_its_own_name(model):
    assert composed(f"model={model}").model.name == model


def test_a_name_that_is_given_stays():
    assert composed("model.pretrained=x/y", "model.name=mine").model.name == "mine"
    preset = composed("model=smollm_135m", "model.pretrained=/a/local/copy")
    assert preset.model.name == "smollm_135m"


@pytest.mark.parametrize("model", ["llama", "gpt2"])
def test_toys_take_ten_times_the_rate_with_adapters_but_for_what_has_none(model):
    """The supervised stage of a toy trains all of its weights."""
    full, lora = composed(f"model={model}"), composed(f"model={model}", "adapter=lora")
    assert lora.algo.optimizer.lr == pytest.approx(10 * full.algo.optimizer.lr)
    for name, factor in (("sft", 1), ("reward_model", 10)):
        rates = [cfg.stages[name].optimizer.lr for cfg in (full, lora)]
        assert rates[1] == pytest.approx(factor * rates[0])


@pytest.mark.parametrize("adapter", ["none", "lora"])
@pytest.mark.parametrize("model", ["llama", "gpt2", "pretrained", "smollm_135m", "llama_8b"])
def test_no_pretrained_model_takes_the_rates_of_a_toy(model, adapter):
    cfg = composed(f"model={model}", f"adapter={adapter}", "model.pretrained=x")
    assert cfg.algo.optimizer.lr is None
    assert {stage.optimizer.lr for stage in cfg.stages.values()} == {None}


@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_a_rate_that_is_given_is_used_as_it_is(adapter):
    options = (f"adapter={adapter}", "model.pretrained=x", "model.lr.policy=1e-4")
    assert composed(*options).algo.optimizer.lr == 1e-4
    assert composed(f"adapter={adapter}", "algo.optimizer.lr=1e-4").algo.optimizer.lr == 1e-4

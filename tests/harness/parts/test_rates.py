"""Learning rates that are null become numbers where a model is built, and nowhere else."""

from dataclasses import asdict

import pytest
from omegaconf import OmegaConf
from rich.console import Console
from transformers import T5Config

from harness.parts.choices import Choices
from harness.parts.parts import Parts
from harness.parts.rates import with_rates
from harness.parts.recipes import recipe
from harness.runs.identity import identity
from lightning_modules.errors import ModelError
from lightning_modules.models.language_model import LanguageModel
from lightning_modules.models.parameters import parameter_counts
from lightning_modules.options.learning_rates import suited_rates


@pytest.fixture
def folder(lm, encoder, tmp_path):
    lm.save_pretrained(tmp_path / "mine")
    encoder.tokenizer.save_pretrained(tmp_path / "mine")
    return tmp_path / "mine"


def lr_of(module) -> float:
    return module.options.optimizer.keywords["lr"]


def test_the_number_of_parameters_is_that_of_the_loaded_model(lm, folder):
    counted = LanguageModel(name="mine", pretrained=str(folder)).parameters()
    assert counted == parameter_counts(lm)[0]


def test_what_is_no_causal_language_model_is_refused(tmp_path):
    T5Config(num_layers=1).save_pretrained(tmp_path)
    with pytest.raises(
        ModelError, match=r"of type t5 cannot be trained here: it has an encoder and a decoder"
    ):
        LanguageModel(name="mine", pretrained=str(tmp_path)).parameters()


@pytest.mark.parametrize("adapter", ["none", "lora"])
@pytest.mark.parametrize(
    ("algorithm", "task"),
    [
        ("ppo", "policy"),
        ("a2c", "policy_one_update"),
        ("reinforce", "policy_one_update"),
        ("sft", "sft"),
        ("reward_model", "reward_model"),
    ],
)
def test_each_training_takes_the_rate_of_its_task(
    configure, tmp_path, lm, folder, algorithm, task, adapter
):
    options = (f"algo={algorithm}", f"adapter={adapter}", f"model.pretrained={folder}")
    cfg = configure(tmp_path, *options)
    rates = asdict(suited_rates(parameter_counts(lm)[0], lora=adapter == "lora"))
    parts = Parts(Choices(cfg), Console(quiet=True))
    assert lr_of(parts.algorithm) == rates[task]
    for name, module in parts.stage_modules.items():
        assert lr_of(module) == rates[name]
        assert recipe(parts, name)["training"]["optimizer"]["lr"] == rates[name]
    # As it is read from a finished run's folder: nothing refers to anything.
    written = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    assert with_rates(written, parts.language_model).algo.optimizer.lr == rates[task]


def test_the_runs_own_config_keeps_the_null(configure, tmp_path, folder):
    cfg = configure(tmp_path, f"model.pretrained={folder}")
    before = identity(OmegaConf.to_container(cfg, resolve=True))
    parts = Parts(Choices(cfg), Console(quiet=True))
    assert identity(OmegaConf.to_container(parts.cfg, resolve=True)) == before
    assert before["algo"]["optimizer"]["lr"] is None


@pytest.mark.parametrize("option", ["model.lr.policy", "algo.optimizer.lr"])
def test_a_rate_that_is_given_is_used_and_the_others_are_filled(
    configure, tmp_path, folder, option
):
    cfg = configure(tmp_path, f"model.pretrained={folder}", "adapter=lora", f"{option}=1.25e-4")
    parts = Parts(Choices(cfg), Console(quiet=True))
    assert lr_of(parts.algorithm) == 1.25e-4
    assert lr_of(parts.stage_modules["reward_model"]) > 1e-3


def test_a_preset_of_ones_own_may_have_no_rates(configure, tmp_path, folder):
    cfg = configure(tmp_path, f"model.pretrained={folder}")
    OmegaConf.update(cfg, "model.lr", {}, merge=False)
    OmegaConf.update(cfg, "algo.optimizer.lr", None)
    for stage in cfg.stages.values():
        stage.optimizer.lr = None
    assert lr_of(Parts(Choices(cfg), Console(quiet=True)).algorithm) == 1e-4


def test_toys_are_not_counted(configure, tmp_path, monkeypatch):
    monkeypatch.setattr(LanguageModel, "parameters", lambda self: 1 / 0)
    parts = Parts(Choices(configure(tmp_path, "adapter=lora")), Console(quiet=True))
    assert lr_of(parts.algorithm) == 3e-3
    assert lr_of(parts.stage_modules["sft"]) == 2e-3

import pytest
import torch
from omegaconf import DictConfig

from harness.parts.hardware import (
    check_attention_runs,
    check_hardware,
    frozen_dtype,
    make_trainer,
    precision,
)
from lightning_modules.errors import OptionError


def hardware(**options) -> DictConfig:
    defaults = {
        "name": "auto",
        "accelerator": "auto",
        "devices": 1,
        "strategy": "auto",
        "precision": "auto",
    }
    return DictConfig(defaults | options)


@pytest.mark.parametrize(
    ("has_gpu", "accelerator", "expected", "dtype"),
    [
        (True, "auto", "bf16-mixed", torch.bfloat16),
        (True, "cpu", "32-true", torch.float32),
        (False, "auto", "32-true", torch.float32),
    ],
)
def test_bf16_on_a_gpu_and_float32_elsewhere(has_gpu, accelerator, expected, dtype, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert precision(hardware(accelerator=accelerator)) == expected
    assert frozen_dtype(hardware(accelerator=accelerator)) == dtype


def test_a_precision_that_is_asked_for_is_taken():
    assert precision(hardware(precision="64-true")) == "64-true"


@pytest.mark.parametrize(
    ("asked", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_frozen_weights_may_have_another_precision_than_what_is_computed(asked, dtype, tmp_path):
    for kind in ("32-true", "bf16-mixed"):
        assert frozen_dtype(hardware(precision=kind, frozen_precision=asked)) == dtype
    options = hardware(accelerator="cpu", frozen_precision=asked)
    assert make_trainer(options, default_root_dir=tmp_path).precision == "32-true"


def test_flash_attention_is_for_gpus_and_16_bits(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    check_attention_runs(hardware(), "flash_attention_2")
    check_attention_runs(hardware(accelerator="cpu"), "sdpa")
    for wrong in ({"accelerator": "cpu"}, {"precision": "32-true"}):
        with pytest.raises(OptionError, match="flash_attention_2: runs on a GPU in 16 bits"):
            check_attention_runs(hardware(**wrong), "flash_attention_2")


def test_no_gpu_is_said_before_anything_else(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(OptionError, match="hardware=gpu: torch sees no GPU"):
        check_hardware(hardware(name="gpu", accelerator="gpu"))


def test_options_override_what_is_shared():
    trainer = make_trainer(hardware(accelerator="cpu"), max_epochs=7, log_every_n_steps=3)
    assert (trainer.max_epochs, trainer.log_every_n_steps) == (7, 3)

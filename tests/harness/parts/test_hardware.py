import pytest
import torch
from omegaconf import DictConfig

from harness.parts.hardware import check_hardware, frozen_dtype, make_trainer, precision
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


def test_no_gpu_is_said_before_anything_else(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(OptionError, match="hardware=gpu: torch sees no GPU"):
        check_hardware(hardware(name="gpu", accelerator="gpu"))


def test_options_override_what_is_shared():
    trainer = make_trainer(hardware(accelerator="cpu"), max_epochs=7, log_every_n_steps=3)
    assert (trainer.max_epochs, trainer.log_every_n_steps) == (7, 3)

import pytest
import torch
from omegaconf import DictConfig

from harness.parts.hardware import (
    check_attention_runs,
    check_hardware,
    frozen_dtype,
    make_trainer,
    with_precision,
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


class Model:
    """What of a language model precision depends on."""

    def __init__(self, parameters: int | None):
        self.embedded, self.count = parameters is None, parameters

    def parameters(self) -> int:
        return self.count


REAL, SMALL, TOY = Model(135_000_000), Model(3_000_000), Model(None)


@pytest.mark.parametrize(
    ("accelerator", "has_gpu", "has_bfloat16", "model", "expected"),
    [
        ("auto", True, False, TOY, "bf16-mixed"),
        ("cpu", True, False, REAL, "32-true"),
        ("auto", False, False, REAL, "32-true"),
        ("auto", False, True, REAL, "bf16-mixed"),
        ("cpu", True, True, REAL, "bf16-mixed"),
        ("cpu", True, True, SMALL, "32-true"),
        ("cpu", True, True, TOY, "32-true"),
    ],
)
def test_bf16_where_it_is_fast_and_the_model_not_small(
    accelerator, has_gpu, has_bfloat16, model, expected, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has_bfloat16})
    given = hardware(accelerator=accelerator)
    found = with_precision(given, model)
    assert (found.precision, given.precision) == (expected, "auto")
    assert frozen_dtype(found) == (torch.bfloat16 if "16" in expected else torch.float32)


def test_a_precision_that_is_asked_for_is_taken():
    assert with_precision(hardware(precision="64-true"), REAL).precision == "64-true"


@pytest.mark.parametrize(
    ("asked", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_frozen_weights_may_have_another_precision_than_what_is_computed(asked, dtype, tmp_path):
    for kind in ("32-true", "bf16-mixed"):
        assert frozen_dtype(hardware(precision=kind, frozen_precision=asked)) == dtype
    options = hardware(accelerator="cpu", precision="32-true", frozen_precision=asked)
    assert make_trainer(options, default_root_dir=tmp_path).precision == "32-true"


def test_flash_attention_is_for_gpus_and_16_bits(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    in_16_bits = {"precision": "bf16-mixed"}
    check_attention_runs(hardware(**in_16_bits), "flash_attention_2")
    check_attention_runs(hardware(accelerator="cpu"), "sdpa")
    for wrong in (in_16_bits | {"accelerator": "cpu"}, {"precision": "32-true"}):
        with pytest.raises(OptionError, match="flash_attention_2: runs on a GPU in 16 bits"):
            check_attention_runs(hardware(**wrong), "flash_attention_2")


def test_no_gpu_is_said_before_anything_else(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(OptionError, match="hardware=gpu: torch sees no GPU"):
        check_hardware(hardware(name="gpu", accelerator="gpu"))


def test_options_override_what_is_shared():
    trainer = make_trainer(
        hardware(accelerator="cpu", precision="32-true"), max_epochs=7, log_every_n_steps=3
    )
    assert (trainer.max_epochs, trainer.log_every_n_steps) == (7, 3)

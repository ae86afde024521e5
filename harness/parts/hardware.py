"""The chosen hardware: whether it is there, precision, settings of the device, the Trainer."""

from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.plugins.environments import LightningEnvironment

from harness.runs.checkpoints import WholeCheckpoints
from lightning_modules.forward.free_memory import keep_freed_memory
from lightning_modules.forward.on_cpu.attention import prepare_attention
from lightning_modules.models.language_model import LanguageModel
from lightning_modules.options.require import require

AUTO = "auto"
# Parameters of a model below which rounding would show and casts take what faster products gain.
SMALL = 50_000_000


def check_hardware(hardware: DictConfig) -> None:
    """Raise OptionError if this machine has no such device."""
    require(
        hardware.accelerator != "gpu" or torch.cuda.is_available(),
        "hardware",
        hardware.name,
        "torch sees no GPU here; hardware=cpu needs none",
    )


def on_gpu(hardware: DictConfig) -> bool:
    """Whether this hardware option means CUDA on this machine."""
    return hardware.accelerator != "cpu" and torch.cuda.is_available()


def prepare_device(hardware: DictConfig) -> None:
    """Settings of the libraries for the device, for the whole process.

    cuDNN's attention makes a plan for every new shape, which took some 60 ms on an H200; rollouts
    and their updates have a new shape nearly every time. PyTorch's own kernels need none.
    """
    if on_gpu(hardware):
        torch.backends.cuda.enable_cudnn_sdp(False)
    else:
        prepare_attention()
        keep_freed_memory()


def precision(hardware: DictConfig, language_model: LanguageModel) -> str:
    """The Trainer's precision: bf16 on a GPU unless the config says otherwise, and on a CPU that
    computes in bfloat16 if the model is none of the small ones; else float32.
    """
    if hardware.precision != AUTO:
        return hardware.precision
    if on_gpu(hardware):
        return "bf16-mixed"
    small = language_model.embedded or language_model.parameters() < SMALL
    return "bf16-mixed" if cpu_has_bfloat16() and not small else "32-true"


def with_precision(hardware: DictConfig, language_model: LanguageModel) -> DictConfig:
    """A copy of the hardware option in which the precision is what it is for this model here. As
    with learning rates, a run's own config keeps `auto`.
    """
    return OmegaConf.merge(hardware, {"precision": precision(hardware, language_model)})


def cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 itself; others compute it slower than float32."""
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(known.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def frozen_dtype(hardware: DictConfig) -> torch.dtype:
    """What frozen weights are kept in: of the reference, of reward models, of what adapters are on.
    Trained ones stay float32, so that no update is lost.
    """
    given = hardware.get("frozen_precision")
    rounded = hardware.precision.startswith("bf16") if given is None else given == "bfloat16"
    return torch.bfloat16 if rounded else torch.float32


def check_attention_runs(hardware: DictConfig, attention: str | None) -> None:
    """OptionError where a way to compute attention needs a GPU and 16 bits, and has not both."""
    if attention is None or "flash" not in attention:
        return
    found = "cpu" if not on_gpu(hardware) else hardware.precision
    require(
        on_gpu(hardware) and "16" in found,
        "model.attn_implementation",
        attention,
        f"runs on a GPU in 16 bits alone, and this run would be on {found}; sdpa runs anywhere",
    )


def make_trainer(hardware: DictConfig, **options: Any) -> pl.Trainer:
    """A Trainer with what all runs share; `options` overrides. Of `hardware`, `with_precision`."""
    settings = OmegaConf.to_container(hardware, resolve=True)
    for ours in ("name", "checkpointing", "frozen_precision", "head_precision", "sampler"):
        settings.pop(ours, None)
    if settings["accelerator"] == "auto":  # Apple's GPUs have no float64, which sampling uses
        settings["accelerator"] = "gpu" if torch.cuda.is_available() else "cpu"
    trainer = pl.Trainer(
        **settings
        | {
            # Further processes are launched by this one, not by a scheduler around it.
            "plugins": [LightningEnvironment(), WholeCheckpoints()],
            "log_every_n_steps": 1,
            "num_sanity_val_steps": 0,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "use_distributed_sampler": False,
            # Tensors made under inference_mode cannot be trained on later, and frozen models are
            # shared with a policy in LoRA runs.
            "inference_mode": False,
        }
        | options
    )
    # Signals are heard by harness/signals.py; Lightning's own would begin a collective wherever the
    # program stands.
    trainer._signal_connector.register_signal_handlers = lambda: None
    return trainer

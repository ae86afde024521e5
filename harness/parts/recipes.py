"""The recipe of a stage: everything that shapes its result."""

import platform
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

import datamodules
import lightning_modules
from harness.parts.parts import Parts
from harness.runs.provenance import versions
from harness.runs.stages import code_identity

MODULES = Path(lightning_modules.__path__[0])
# The code whose change retrains a stage; what surrounds the training of one does not.
STAGE_CODE = [
    *Path(datamodules.__path__[0]).rglob("*.py"),
    *MODULES.joinpath("models").glob("*.py"),
    *MODULES.joinpath("forward").glob("*.py"),
    *MODULES.joinpath("objectives").glob("*.py"),
    *(
        MODULES / f"{name}.py"
        for name in (
            "manual",
            "metrics/averages",
            "metrics/intervals",
            "metrics/preferences",
            "metrics/thumbs",
            "reward_model",
            "rewards/learned",
            "sft",
            "supervised",
        )
    ),
    Path(__file__).with_name("score_scale.py"),  # what an export says of its scores
    Path(__file__).with_name("thumbs_bias.py"),
]


def recipe(parts: Parts, name: str) -> dict[str, Any]:
    """Everything that shapes the result of the stage `name`, but for the stages before it."""
    cfg, source = parts.cfg, parts.source
    added = source.added if name == "reward_model" else None
    return {
        "data": source.identity(),
        **({"more": added.identity} if added else {}),
        **parts.limits.options(),
        "too_long": source.too_long,
        "model": parts.language_model.identity(),
        # Of a toy both follow from the code.
        "chat": None if parts.language_model.embedded else parts.encoder.format.identity(),
        "training": OmegaConf.to_container(parts.stage_options[name], resolve=True),
        "seed": cfg.stage_seed,
        "precision": parts.hardware.precision,
        "loaded": str(parts.base),
        "code": code_identity(STAGE_CODE),
        "versions": versions(),
        "machine": platform.machine(),
    }

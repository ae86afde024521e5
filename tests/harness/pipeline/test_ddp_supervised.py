"""SFT and the reward model on two processes come to what they come to on one."""

import os
import subprocess
import sys
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.strategies import DDPStrategy

from datamodules.demonstrations import DemonstrationDataModule
from datamodules.preferences import PreferenceDataModule
from datamodules.sources.landmarks import Landmarks
from datamodules.tokenization.encoder import Encoder
from datamodules.tokenization.loading import train_tokenizer
from tests.lightning_modules.supervised_parts import (
    MIXED,
    Given,
    exact_lm,
    exact_scalar,
    make_reward_model,
    make_sft,
    weights,
)

ROOT = Path(__file__).parents[3]
# An even number of rows, all of them in the batch of a step: ranks then share what one has.
ROWS = MIXED * 2
COMMON = {
    "epochs": 3,
    "batch_size": len(ROWS),
    "max_grad_norm": 0.5,
    "warmup": 0.2,
    "optimizer": partial(torch.optim.SGD, lr=0.05, momentum=0.5),
}
RUNS = {
    "sft": (make_sft, DemonstrationDataModule, exact_lm, {}),
    "pairs": (
        make_reward_model,
        PreferenceDataModule,
        exact_scalar,
        {"tie_threshold": 0.5, "centring_coef": 0.1},
    ),
    "rankings": (
        make_reward_model,
        PreferenceDataModule,
        exact_scalar,
        {"loss": "plackett_luce", "max_grad_norm": None},
    ),
}


def results(devices: int) -> dict[str, dict]:
    """Weights after three steps and the metrics of the last one."""
    world = Landmarks(train_demonstrations=200, train_pairs=200, val_pairs=60)
    encoder = Encoder(train_tokenizer(world.texts(), 512), 32, 16)
    found = {}
    for name, (make, kind, model, options) in RUNS.items():
        module = make(**COMMON | options).bind(model("llama", encoder))
        data = kind(Given(ROWS), encoder, len(ROWS), 150, 0)
        trainer = pl.Trainer(
            max_epochs=3,
            accelerator="cpu",
            devices=devices,
            strategy="auto" if devices == 1 else DDPStrategy(timeout=timedelta(seconds=60)),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        trainer.fit(module, datamodule=data)
        metrics = {k: float(v) for k, v in trainer.callback_metrics.items()}
        found[name] = {"weights": weights(module), "metrics": metrics}
    return found


@pytest.mark.slow
def test_two_devices_come_to_what_one_does(tmp_path):
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ranks = [torch.load(tmp_path / f"{r}.pt", weights_only=True) for r in (0, 1)]
    for name, one in results(devices=1).items():
        for rank in ranks:
            torch.testing.assert_close(
                rank[name]["weights"], one["weights"], rtol=0, atol=1e-9, msg=name
            )
            # Logged in float32.
            assert rank[name]["metrics"] == pytest.approx(
                one["metrics"], rel=1e-5, abs=1e-6, nan_ok=True
            )


if __name__ == "__main__":
    found = results(devices=2)
    torch.save(found, Path(sys.argv[1]) / f"{dist.get_rank()}.pt")

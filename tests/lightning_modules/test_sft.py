from functools import partial

import pytest
import pytorch_lightning as pl
import torch

from datamodules.demonstrations import DemonstrationDataModule
from lightning_modules.options import OptionError
from lightning_modules.sft import SFT


def make(**options) -> SFT:
    defaults = {
        "name": "sft",
        "epochs": 2,
        "batch_size": 16,
        "max_grad_norm": None,
        "optimizer": partial(torch.optim.SGD, lr=0.1),
        "warmup": 0.25,
    }
    return SFT(**defaults | options)


@pytest.fixture
def data(world, encoder) -> DemonstrationDataModule:
    return DemonstrationDataModule(world, encoder, 16, seed=0)


def test_the_loss_is_the_mean_nll_of_the_answers_tokens_alone(lm, data):
    module = make().bind(lm)
    lm.eval()
    batch = data.collate(data.rows["train"][:5])
    loss, tokens = module._loss(batch)
    log_softmax = lm(batch["input_ids"], attention_mask=batch["attention_mask"]).logits.log_softmax(
        -1
    )
    total, count = 0.0, 0
    for i, (prompt, response) in enumerate(data.rows["train"][:5]):
        for t, token in enumerate(response):
            total -= float(log_softmax[i, len(prompt) - 1 + t, token])
            count += 1
    assert tokens == count
    assert float(loss.detach()) == pytest.approx(total / count, rel=1e-5)


def test_the_learning_rate_rises_then_falls(lm, data):
    module = make().bind(lm, lr_multiplier=3.0)
    seen = []

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer, *args):
            seen.append(trainer.optimizers[0].param_groups[0]["lr"])

    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        callbacks=[Watch()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=data)
    peak = seen.index(max(seen))
    assert max(seen) <= 0.3 + 1e-9
    assert seen[:peak] == sorted(seen[:peak])
    assert seen[peak:] == sorted(seen[peak:], reverse=True)
    assert seen[-1] < 0.1 * max(seen)


@pytest.mark.parametrize(("option", "value"), [("epochs", 0), ("batch_size", 0), ("warmup", 1.0)])
def test_nonsense_is_refused_by_name(option, value):
    with pytest.raises(OptionError, match=rf"algo\.{option}={value}"):
        make(**{option: value})

from functools import partial

import pytest
import pytorch_lightning as pl
import torch

from datamodules.demonstrations import DemonstrationDataModule
from lightning_modules.errors import OptionError, TrainingError
from tests.lightning_modules.supervised_parts import (
    ROOM,
    attach,
    exact_lm,
    make_sft,
    weights,
)


@pytest.fixture
def data(world, encoder) -> DemonstrationDataModule:
    return DemonstrationDataModule(world, encoder, 16, ROOM, seed=0)


def test_the_loss_is_the_sum_of_the_nll_of_the_responses_tokens_alone(lm, data):
    module = make_sft().bind(lm)
    lm.eval()
    part = data.collate(data.rows["train"][:5])
    loss, averages = module.losses(part)
    log_softmax = lm(part["input_ids"], attention_mask=part["attention_mask"]).logits.log_softmax(
        -1
    )
    total, count = 0.0, 0
    for i, (prompt, response) in enumerate(data.rows["train"][:5]):
        for t, token in enumerate(response):
            total -= float(log_softmax[i, len(prompt) - 1 + t, token])
            count += 1
    assert int(module.weight(part)) == count
    assert float(loss.detach()) == pytest.approx(total, rel=1e-5)
    assert averages.means(torch.clone)["loss"] == pytest.approx(total / count, rel=1e-5)


def test_the_held_out_loss_is_the_mean_over_all_tokens(data, encoder):
    module = make_sft()
    logged = attach(module, exact_lm("llama", encoder))
    module.on_validation_epoch_start()
    with torch.no_grad():
        for i, batch in enumerate(data.val_dataloader()):
            module.validation_step(batch, i)
        module.on_validation_epoch_end()
        _, averages = module.losses(data.collate(data.rows["val"]))
    assert logged == pytest.approx({"val/loss": averages.means(torch.clone)["loss"]}, rel=1e-10)


def fit(module, data, *callbacks, **options):
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        callbacks=list(callbacks),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(module, datamodule=data)
    return trainer


def test_the_learning_rate_rises_then_falls(lm, data):
    module = make_sft(epochs=2, batch_size=16, warmup=0.25).bind(lm)
    seen = []

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer, *args):
            seen.append(trainer.optimizers[0].param_groups[0]["lr"])

    trainer = fit(module, data, Watch())
    peak = seen.index(max(seen))
    assert max(seen) <= 0.1 + 1e-9
    assert seen[:peak] == sorted(seen[:peak])
    assert seen[peak:] == sorted(seen[peak:], reverse=True)
    assert seen[-1] < 0.1 * max(seen)
    assert trainer.global_step == len(seen) == 2 * len(data.train_dataloader())


def test_a_few_steps_teach_the_demonstrations(data, encoder):
    module = make_sft(max_grad_norm=1.0, optimizer=partial(torch.optim.Adam, lr=0.02), warmup=0.1)
    module.bind(exact_lm("llama", encoder))
    losses = []

    class Watch(pl.Callback):
        def on_validation_end(self, trainer, module):
            losses.append(float(trainer.callback_metrics["val/loss"]))

    fit(module, data, Watch(), num_sanity_val_steps=-1)
    assert len(losses) == 3
    assert losses[0] > losses[1] + 1 > losses[2] + 1


def test_gradients_are_clipped_to_the_norm_and_logged_before(data, encoder):
    batch = [data.collate(data.rows["train"][:3])]
    model = exact_lm("llama", encoder)
    module = make_sft(max_grad_norm=0.01)
    logged = attach(module, model)
    before = weights(module)
    module.training_step(batch, 0)
    assert logged["train/grad_norm"] > 0.01
    assert float((weights(module) - before).norm()) == pytest.approx(0.1 * 0.01, rel=1e-3)
    assert not any(p.grad is not None and p.grad.any() for p in module.model.parameters())


def test_a_gradient_that_is_not_finite_stops_the_run_with_the_reason(data, encoder):
    module = make_sft()
    attach(module, exact_lm("llama", encoder))
    before = weights(module)
    module.model.get_output_embeddings().weight.data[0] = float("inf")
    with pytest.raises(TrainingError, match="sft, step 1: the gradient is not finite"):
        module.training_step([data.collate(data.rows["train"][:3])], 0)
    module.model.get_output_embeddings().weight.data[0] = 0.0
    assert weights(module).shape == before.shape


@pytest.mark.parametrize(
    ("option", "value"),
    [("epochs", 0), ("batch_size", 0), ("micro_batch_tokens", 0), ("warmup", 1.0)],
)
def test_nonsense_is_refused_by_name(option, value):
    with pytest.raises(OptionError, match=rf"algo\.{option}={value}"):
        make_sft(**{option: value})

from types import SimpleNamespace

import pytest
import torch

from harness.pipeline.keep_best import KeepBest


@pytest.mark.parametrize(("highest", "kept"), [(False, 1), (True, 0)])
def test_the_weights_of_the_best_epoch_are_kept(highest, kept):
    module = SimpleNamespace(model=torch.nn.Linear(1, 1))
    best = KeepBest("val/loss", highest=highest)
    for epoch, loss in enumerate((3.0, 1.0, 2.0)):
        torch.nn.init.constant_(module.model.weight, epoch)
        metrics = {"val/loss": torch.tensor(loss), "val/accuracy": torch.tensor(epoch / 10)}
        trainer = SimpleNamespace(callback_metrics=metrics, current_epoch=epoch)
        best.on_validation_end(trainer, module)
    resumed = KeepBest("val/loss", highest=highest)
    resumed.load_state_dict(best.state_dict())
    resumed.on_fit_end(None, module)
    assert float(module.model.weight) == kept
    assert resumed.metrics["val/loss"] == (3.0, 1.0)[kept]
    assert resumed.epoch == kept

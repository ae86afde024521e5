from types import SimpleNamespace

import torch

from harness.supervised import KeepBest


def test_the_weights_of_the_best_epoch_are_kept():
    module = SimpleNamespace(model=torch.nn.Linear(1, 1))
    best = KeepBest()
    for epoch, loss in enumerate((3.0, 1.0, 2.0)):
        torch.nn.init.constant_(module.model.weight, epoch)
        metrics = {"val/loss": torch.tensor(loss), "val/accuracy": torch.tensor(epoch / 10)}
        best.on_validation_end(SimpleNamespace(callback_metrics=metrics), module)
    resumed = KeepBest()
    resumed.load_state_dict(best.state_dict())
    resumed.on_train_end(None, module)
    assert float(module.model.weight) == 1.0
    assert resumed.metrics["val/loss"] == 1.0

"""Checkpoints: what is trained, and how far it got. Frozen weights are not in them."""

from typing import Any

import pytorch_lightning as pl

from lightning_modules.errors import TrainingError


class TrainedWeightsOnly(pl.LightningModule):
    """Saves the weights that take gradients, and plain numbers of progress."""

    strict_loading = False  # frozen weights are not in checkpoints

    def progress(self) -> dict[str, Any]:
        """Plain numbers that a resumed run goes on from."""
        return {}

    def go_on_from(self, progress: dict[str, Any]) -> None:
        """Take over what `progress` said."""

    def trained_names(self) -> set[str]:
        """The parameters that take gradients, by every name that they have."""
        named = self.named_parameters(remove_duplicate=False)
        return {name for name, parameter in named if parameter.requires_grad}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        trained, state = self.trained_names(), checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: x for name, x in state.items() if name in trained}
        checkpoint["progress"] = self.progress()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        missing = self.trained_names() - set(checkpoint["state_dict"])
        if missing:
            raise TrainingError(
                f"the checkpoint lacks trained weights: {', '.join(sorted(missing))}"
            )
        self.go_on_from(checkpoint.get("progress", {}))

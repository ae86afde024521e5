"""One measured training of a reward model, in a process of its own.

    python benchmarks/parts/reward_training.py '<the work as JSON>'

prints one line of JSON: pairs per second, peak memory of the training in MiB, the final loss.
"""

import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.parts.processes import peak_mib  # noqa: E402


def batches(work: dict[str, Any], tokenizer: Any) -> Any:
    """The pairs as this project's loader gives them."""
    from datamodules.preferences import EncodedFeedback, Pair, PreferenceDataModule
    from datamodules.tokenization.encoder import Encoder

    class GivenPairs(PreferenceDataModule):
        """Pairs that are token ids already."""

        def encode(self, source: None, split: str) -> list[EncodedFeedback]:
            pair = Pair(0, 1, tied=False, strength=float("nan"), probability=float("nan"))
            given = json.loads(Path(work["pairs"]).read_text(encoding="utf-8"))
            return [
                EncodedFeedback(prompt, responses, [0, 0], [pair], [(0, 1)], None, i, [1])
                for i, (prompt, *responses) in enumerate(given)
            ]

    encoder = Encoder(tokenizer, 1, 1)  # only pads
    data = GivenPairs(None, encoder, work["batch"], work["micro_batch_tokens"], work["seed"])
    return data.train_dataloader()


def reward_model(work: dict[str, Any]) -> Any:
    """The module with plain Bradley-Terry."""
    import torch

    from lightning_modules.reward_model import RewardModel

    return RewardModel(
        name="reward_model",
        loss="bradley_terry",
        margin_coef=0.0,
        label_smoothing=0.0,
        tie_threshold=None,
        centring_coef=0.0,
        ensemble=1,
        epochs=work["epochs"],
        batch_size=work["batch"],
        micro_batch_tokens=work["micro_batch_tokens"],
        max_grad_norm=work["max_grad_norm"],
        optimizer=partial(torch.optim.AdamW, lr=work["lr"], weight_decay=work["weight_decay"]),
        warmup=work["warmup"],
    )


def train(work: dict[str, Any]) -> dict[str, float]:
    """This project's reward model on the work."""
    import pytorch_lightning as pl
    import torch

    from datamodules.tokenization.loading import load_tokenizer
    from harness.quiet import quiet_transformers
    from lightning_modules.models.scalar import ScalarModel
    from lightning_modules.models.scorers import load_scorer

    quiet_transformers()
    torch.set_num_threads(work["threads"])
    tokenizer = load_tokenizer(work["initial"])
    loader = batches(work, tokenizer)
    model = load_scorer(work["initial"])
    module = reward_model(work).bind(ScalarModel(model, normalised=False))
    losses: list[float] = []

    class Losses(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
            losses.append(float(trainer.callback_metrics["train/loss"]))

    trainer = pl.Trainer(
        max_epochs=work["epochs"],
        accelerator="gpu" if torch.cuda.is_available() else "cpu",
        devices=1,
        precision="bf16-mixed" if work["precision"] == "bf16" else "32-true",
        logger=False,
        callbacks=[Losses()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    before, started, used = peak_mib(), time.perf_counter(), time.process_time()
    trainer.fit(module, loader)
    seconds, used = time.perf_counter() - started, time.process_time() - used
    result = {
        "pairs_per_s": len(loader.dataset) * work["epochs"] / seconds,
        "pairs_per_cpu_s": len(loader.dataset) * work["epochs"] / used,
        "peak_mib": peak_mib() - before,
        "loss": sum(losses[-4:]) / len(losses[-4:]),
    }
    if "export" in work:
        model.save_pretrained(work["export"])
        tokenizer.save_pretrained(work["export"])
    return result


if __name__ == "__main__":
    print(json.dumps(train(json.loads(sys.argv[1]))))

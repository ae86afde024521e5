"""The over-optimisation watch: what the policy is trained on, beside what it is not, over its KL.

The watched curve is the gold of a world that knows it, or the held-out head of an ensemble. Where
the score goes on rising and the watched curve turns, the reward model is being exploited (Gao et
al. 2023).
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console

from harness.pictures.drawing import drawn
from harness.pictures.overoptimisation import draw
from harness.pictures.panels import AT_START
from harness.tracking.tracker import trackers
from harness.tracking.whole_rows import metrics_rows
from lightning_modules.options.require import require

WATCHED = {"val/gold": "gold (0 to 1)", "val/held_out_score": "held-out head"}
COLUMNS = ("rollout/episodes", "val/kl", "val/score")
PATIENCE = 3  # evaluations below the best one before the curve has turned


class OverOptimisationWatch(Callback):
    """Draws the two curves at every evaluation and, with early_stop=gold, ends training when the
    watched one has turned: when it has been below its best for PATIENCE evaluations in a row.
    `from_reference`: the policy began as its reference.
    """

    def __init__(
        self,
        folder: Path,
        console: Console,
        *,
        early_stop: str | None,
        title: str,
        from_reference: bool = True,
    ):
        require(early_stop in (None, "gold"), "early_stop", early_stop, "must be gold, or null")
        self.folder = folder
        self.console = console
        self.stop = early_stop == "gold"
        self.title = f"Over-optimisation watch of {title}"
        self.from_reference = from_reference
        self.points = _points(folder / "metrics.csv")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = {k: float(v) for k, v in trainer.callback_metrics.items()}
        metrics["rollout/episodes"] = float(pl_module.episodes)
        point = _point(metrics)
        if point is None:
            return
        self.points = [p for p in self.points if p["rollout/episodes"] < pl_module.episodes]
        self.points.append(point)
        self._draw(trainer, metrics)
        if self.stop and turned([p["watched"] for p in self.points]):
            trainer.should_stop = True
            best = max(self.points, key=lambda p: p["watched"])
            self.console.print(
                f"early_stop=gold: {_watched(metrics)} was best ({best['watched']:.3f}) at"
                f" {best['rollout/episodes']:.0f} episodes, and below it in the last {PATIENCE}"
                " evaluations; training ends here"
            )

    @rank_zero_only
    def _draw(self, trainer: pl.Trainer, metrics: Mapping[str, float]) -> None:
        picture = self.folder / "overoptimisation.png"
        points = [*(_start(metrics) if self.from_reference else []), *self.points]
        if drawn(picture, partial(draw, points, WATCHED[_watched(metrics)], self.title)):
            for tracker in trackers(trainer.loggers):
                tracker.log_media(trainer.current_epoch, pictures={"overoptimisation": picture})


def turned(watched: list[float]) -> bool:
    """Whether the best value was passed PATIENCE evaluations ago."""
    last = watched[-PATIENCE:]
    return len(watched) > PATIENCE and max(last) < max(watched[:-PATIENCE])


def _watched(metrics: Mapping[str, Any]) -> str | None:
    return next((name for name in WATCHED if metrics.get(name) not in (None, "")), None)


def _point(metrics: Mapping[str, Any]) -> dict[str, float] | None:
    name = _watched(metrics)
    if name is None or any(metrics.get(column) in (None, "") for column in COLUMNS):
        return None
    return {c: float(metrics[c]) for c in COLUMNS} | {"watched": float(metrics[name])}


def _start(metrics: Mapping[str, float]) -> list[dict[str, float]]:
    """Where training began: the reference's own score and gold, without KL; [] if unknown."""
    score, watched = (metrics.get(AT_START[n]) for n in ("val/score", _watched(metrics)))
    if score is None or watched is None:
        return []
    return [{"rollout/episodes": 0.0, "val/kl": 0.0, "val/score": score, "watched": watched}]


def _points(metrics_csv: Path) -> list[dict[str, float]]:
    """The evaluations of an earlier part of the run."""
    if not metrics_csv.is_file():
        return []
    points = [_point(row) for row in metrics_rows(metrics_csv).rows]
    return [point for point in points if point]

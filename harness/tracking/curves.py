"""curves.png beside metrics.csv: what a person looks at first in the folder of a training."""

import time
from functools import partial
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_only

from harness.pictures.drawing import drawn
from harness.pictures.run_curves import draw_run
from harness.tracking.metrics_csv import MetricsCsv

CURVES = "curves.png"
SECONDS = 60  # at least, from one picture to the next while it trains


class CurvesPicture(Callback):
    """Draws the curves so far: at evaluations, but at most once a minute, when training is stopped
    and at its end. `from_reference`: a policy began as its reference.
    """

    def __init__(self, title: str, *, from_reference: bool = True):
        self.title = title
        self.from_reference = from_reference
        self._latest = time.monotonic()

    def on_validation_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if time.monotonic() - self._latest > SECONDS:
            self._draw(trainer)

    def on_train_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self._draw(trainer)

    def on_exception(self, trainer: pl.Trainer, module: Any, exception: BaseException) -> None:
        if not isinstance(exception, Exception):  # ctrl-c or a signal; an error has its own words
            self._draw(trainer)

    @rank_zero_only
    def _draw(self, trainer: pl.Trainer) -> None:
        for log in trainer.loggers:
            if isinstance(log, MetricsCsv) and log.rows:
                draw = partial(draw_run, log.rows, self.title, from_reference=self.from_reference)
                drawn(log.path.with_name(CURVES), draw)
        self._latest = time.monotonic()

"""What a tracker such as W&B keeps beside numbers: tables, pictures, models, reports.

Callbacks speak to this, so that W&B itself is imported only by a run that uses it.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Rows = Sequence[Mapping[str, Any]]


class Tracker(ABC):
    """A logger of Lightning's that keeps more than numbers."""

    @abstractmethod
    def log_media(
        self,
        step: int,
        *,
        tables: Mapping[str, Rows] | None = None,
        pictures: Mapping[str, Path] | None = None,
    ) -> None:
        """Tables (of rows with the same columns) and PNG files of one step, by name."""

    @abstractmethod
    def log_model(self, folder: Path) -> None:
        """The run's `model/`, where `logger.artifacts` asks for it."""

    @abstractmethod
    def log_report(self, folder: Path, numbers: Mapping[str, float]) -> None:
        """A report's numbers, and its text and pictures in `folder`."""

    @abstractmethod
    def finish(self) -> None:
        """Nothing more will come."""


def trackers(loggers: Iterable[Any]) -> list[Tracker]:
    """Those of some loggers that keep more than numbers."""
    return [logger for logger in loggers if isinstance(logger, Tracker)]

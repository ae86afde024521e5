"""Errors that the user can fix: they end a run with one message and no traceback."""

from datamodules.records import DataError
from lightning_modules.errors import JudgeError, ModelError, OptionError, TrainingError


class RunError(ValueError):
    """A run that cannot be started or continued; the message says why and what to do."""


class DiskError(RunError):
    """A file that cannot be written: the disk is full, a limit is reached, a permission is missing.

    What was written before is whole; the run can go on once there is room.
    """


USER_ERRORS = (DataError, JudgeError, ModelError, OptionError, RunError, TrainingError)

"""Which errors are the user's to mend: they end a run with one message and no traceback."""

from datamodules.records import DataError
from lightning_modules.backbone import ModelError
from lightning_modules.manual import TrainingError
from lightning_modules.options import OptionError


class RunError(ValueError):
    """A run that cannot be started or continued; the message says why and what to do."""


USER_ERRORS = (DataError, ModelError, OptionError, RunError, TrainingError)

"""What a user can fix: errors that end a run with one message and no traceback."""


class OptionError(ValueError):
    """An option has a value that makes no sense; the message names both, and the rule."""


class ModelError(ValueError):
    """A model that cannot be had or cannot be used; the message says what to do."""


class JudgeError(RuntimeError):
    """A judge that gives no verdicts, or whose budget is spent; the message says what to do."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message says when, and why."""

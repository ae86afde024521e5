"""Code that comes with a model: it is run where the user says so, and never asked for.

Transformers would ask on the terminal where it is told nothing; so each loading tells it what
`trusts` says.
"""

from pathlib import Path

from lightning_modules.options.paths import model_folder

_TRUSTED: set[str] = set()


def trust(path: str | Path) -> None:
    """Let the code that lies beside this model be run from now on."""
    _TRUSTED.add(model_folder(path))


def trusts(path: str | Path) -> bool:
    """Whether the user trusts the code that lies beside this model."""
    return model_folder(path) in _TRUSTED

"""With what a run is made: versions, the project's commit, devices."""

import platform
import subprocess
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

LIBRARIES = ("torch", "transformers", "tokenizers", "pytorch-lightning", "peft")


def versions() -> dict[str, str]:
    """The libraries that shape results, each with its version."""
    return {library: version(library) for library in LIBRARIES}


def project_version() -> str:
    """This project's version, and its commit where it is a checkout."""
    try:
        told = version("rlhf-ladder")
    except PackageNotFoundError:  # started from a checkout that is not installed
        with open(Path(__file__).parents[2] / "pyproject.toml", "rb") as file:
            told = tomllib.load(file)["project"]["version"]
    mark = commit()
    return f"{told} (commit {mark})" if mark else told


def provenance() -> dict[str, Any]:
    """Versions, commit and devices by dotted keys, for W&B."""
    import torch

    cuda = torch.cuda.is_available()
    return {
        **{f"versions.{library}": v for library, v in versions().items()},
        "versions.wandb": version("wandb"),
        "versions.python": platform.python_version(),
        "commit": commit(),
        "devices.name": torch.cuda.get_device_name() if cuda else platform.machine(),
        "devices.visible": torch.cuda.device_count() if cuda else 1,
    }


def commit() -> str | None:
    """The project's git commit, marked if the tree has changes; None outside a checkout."""
    here = str(Path(__file__).parent)
    command = ["git", "-C", here, "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=True, encoding="utf-8"
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None

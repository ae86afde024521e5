"""The account at W&B: whether one can log in, in which mode, and how to upload what is offline."""

import netrc
import os
from pathlib import Path
from urllib.parse import urlparse

from harness.typed import word
from lightning_modules.options.require import require

MODES = ("online", "offline", "disabled")


def chosen_mode(mode: str | None) -> str:
    """`logger.mode`, else WANDB_MODE, else online if W&B could log in without asking."""
    require(mode is None or mode in MODES, "logger.mode", mode, f"must be one of {MODES}, or null")
    mode = mode or os.environ.get("WANDB_MODE") or ("online" if has_api_key() else "offline")
    require(
        mode != "online" or has_api_key(),
        "logger.mode",
        mode,
        "W&B has no API key: `wandb login`, or WANDB_API_KEY, or logger.mode=offline",
    )
    return mode


def has_api_key() -> bool:
    """Whether W&B could log in without asking: from the environment or a netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def sync_command(folder: Path) -> str | None:
    """How to upload the offline runs below `folder`, or None if there are none."""
    if not any(folder.glob("wandb/offline-run-*")):
        return None
    place = word(os.path.join(os.curdir, os.path.relpath(folder), "wandb"))
    return f"wandb sync {place}/offline-run-*"

"""The account at W&B: whether one can log in, in which mode, and how to upload what is offline."""

import contextlib
import netrc
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlparse

from harness.runs.secrets import hide_overrides
from harness.typed import word
from lightning_modules.options.require import require

MODES = ("online", "offline", "disabled")
# As W&B's own variable may call them.
ALIASES = {"dryrun": "offline", "run": "online"}
# Variables of some other run, of the agent or the script around this one, or left in a shell; and
# those that the options of conf/logger/ have read already.
FOREIGN = (
    "WANDB_RUN_ID",
    "WANDB_RUN_DIR",
    "WANDB_RUN_GROUP",
    "WANDB_RESUME",
    "WANDB_RESUME_FROM",
    "WANDB_FORK_FROM",
    "WANDB_SWEEP_ID",
    "WANDB_SWEEP_PARAM_PATH",
    "WANDB_SERVICE",
    "WANDB_NAME",
    "WANDB_JOB_TYPE",
    "WANDB_DIR",
    "WANDB_TAGS",
    "WANDB_PROJECT",
    "WANDB_ENTITY",
)
KEY = re.compile(r"(.*-)?[\w-]{40,}|[\w-]+\.[\w-]+\.[\w-]+")


def chosen_mode(mode: str | None) -> str:
    """`logger.mode`, else WANDB_MODE, else online if W&B could log in without asking."""
    require(mode is None or mode in MODES, "logger.mode", mode, f"must be one of {MODES}, or null")
    said = _mode_around()
    mode = mode or said or ("online" if has_api_key() else "offline")
    require(mode in MODES, "WANDB_MODE", said, f"must be one of {MODES}; or give logger.mode")
    require(
        mode != "online" or has_api_key(),
        "logger.mode",
        mode,
        "W&B has no API key (of 40 characters or more): `wandb login`, or WANDB_API_KEY, or"
        " logger.mode=offline",
    )
    return mode


def _mode_around() -> str | None:
    """WANDB_MODE, as W&B's modes are called."""
    mode = os.environ.get("WANDB_MODE", "").strip().lower()
    return ALIASES.get(mode, mode) or None


@contextlib.contextmanager
def own_surroundings() -> Iterator[None]:
    """For the time that a run of W&B begins: without what is said of other runs, and without the
    secrets of the command line, which W&B keeps too.
    """
    command = sys.argv
    sys.argv = [*command[:1], *hide_overrides(command[1:])]
    aside = {name: os.environ.pop(name) for name in FOREIGN if name in os.environ}
    if "WANDB_API_KEY" in os.environ:
        os.environ["WANDB_API_KEY"] = os.environ["WANDB_API_KEY"].strip()
    try:
        yield
    finally:
        sys.argv = command
        for name, value in aside.items():
            os.environ.setdefault(name, value)  # but what W&B has set itself


def has_api_key() -> bool:
    """Whether W&B could log in without asking: from the environment or a netrc file."""
    if key := os.environ.get("WANDB_API_KEY", "").strip():
        return bool(KEY.fullmatch(key))
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

"""task=chat: talk to a policy."""

import getpass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from harness.evaluation.of_run import taken_for_answers
from harness.feedback.store import FILE
from harness.overrides import require_names
from harness.parts.choices import Choices
from harness.runs.foreign import MADE_OF
from harness.surroundings import require_writable
from harness.tasks.label import PACKAGES
from lightning_modules.options.require import require, require_package

if TYPE_CHECKING:
    from harness.chat.chatting import Lead

# Nothing is read of the data that a run had.
SECTIONS = tuple(section for section in MADE_OF if section != "data")


def chat(cfg: DictConfig) -> None:
    """Talk to `cfg.policy` in this terminal, or through a pipe. What is not typed is as the run had
    it that the policy is of.
    """
    require_names(cfg)
    rule = "give the folder of a run or of a model, or a hub id"
    require(bool(cfg.policy), "policy", cfg.policy, rule)
    for name in ("system", "annotator"):
        require(cfg[name] is None or isinstance(cfg[name], str), name, cfg[name], "must be text")
    require(cfg.max_tokens >= 1, "max_tokens", cfg.max_tokens, "must be at least 1")
    require(
        cfg.temperature is None or cfg.temperature > 0,
        "temperature",
        cfg.temperature,
        "must be above 0",
    )
    require(0 <= cfg.port < 65536, "port", cfg.port, "must lie in [0, 65535]")
    if cfg.page:
        for package in PACKAGES:
            require_package(package, "label", "page", "true")
        from harness.web.server import require_free

        require_free(cfg.host, cfg.port)
    require_writable((Path(cfg.store).expanduser() / FILE).parent, "store")
    places = [("policy", cfg.policy), *([("against", cfg.against)] if cfg.against else [])]
    taken = taken_for_answers(cfg, places, list(HydraConfig.get().overrides.task), SECTIONS)
    choices = Choices(taken.config, taken.origin)
    from harness.chat.chatting import chat_chosen

    chat_chosen(choices, _lead(cfg, cfg.annotator or _login()), taken.notes)


def _lead(cfg: DictConfig, annotator: str) -> "Lead":
    """Who leads the conversations: the terminal, or a page."""
    if cfg.page:
        from harness.web.talking import on_page

        return partial(on_page, me=annotator, host=cfg.host, port=cfg.port)
    from harness.chat.terminal import Terminal

    return lambda begin, console: Terminal(begin(annotator), console).run()


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as in containers
        return "me"

"""task=judge: a judge labels pairs, and a report says how good a judge it is."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from harness.feedback.answers import AnsweredPrompt, read_answers
from harness.overrides import require_names
from harness.parts.choices import Choices, has_judge
from lightning_modules.errors import OptionError
from lightning_modules.options.require import one_of, require, require_at_least

SPLITS = {"train": ("train",), "val": ("val",), "all": ("train", "val")}


def judge(cfg: DictConfig) -> dict[str, Any]:
    """Label pairs by `cfg.judge`; returns what summary.json holds.

    OptionError for what is asked for in vain; DataError for a file that is no file of answers.
    """
    require_names(cfg)
    if not has_judge(cfg):
        raise OptionError("judge=none: give the rubric to judge by, such as judge=pairwise")
    options = OmegaConf.to_container(cfg.judging)
    require(options["split"] in SPLITS, "judging.split", options["split"], one_of(SPLITS))
    given = {name: options[name] for name in ("pairs", "per_prompt") if options[name] is not None}
    require_at_least(1, "judging", **given)
    rows: list[AnsweredPrompt] | None = read_answers(cfg.answers) if cfg.answers else None
    choices = Choices(cfg)
    from harness.judging.labelling import label_chosen

    return label_chosen(choices, rows, SPLITS[options["split"]])

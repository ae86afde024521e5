"""task=judge: a judge labels pairs, and a report says how good a judge it is."""

from collections import Counter
from typing import Any

from omegaconf import DictConfig

from harness.feedback.item_files import read_items
from harness.overrides import require_names
from harness.parts.choices import Choices, has_judge
from lightning_modules.errors import OptionError
from lightning_modules.options.require import one_of, require

SPLITS = {"train": ("train",), "val": ("val",), "all": ("train", "val")}


def judge(cfg: DictConfig) -> dict[str, Any]:
    """Label pairs by `cfg.judge`; returns what summary.json holds.

    OptionError for what is asked for in vain; DataError for a file without pairs.
    """
    require_names(cfg)
    if not has_judge(cfg):
        raise OptionError("judge=none: give the rubric to judge by, such as judge=pairwise")
    require(cfg.split in SPLITS, "split", cfg.split, one_of(list(SPLITS)))
    require(cfg.pairs is None or cfg.pairs >= 1, "pairs", cfg.pairs, "must be at least 1, or null")
    given, counts = cfg["items"], Counter()  # a dictionary has a method of this name
    items = None if given is None else read_items(given, "pair", counts)
    choices = Choices(cfg)
    from harness.judging.labelling import label_chosen

    return label_chosen(choices, items, counts, SPLITS[cfg.split])

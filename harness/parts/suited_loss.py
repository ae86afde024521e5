"""Whether a reward model's loss suits the data: thumbs have one of their own."""

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from datamodules.records import Thumb
from datamodules.sources.source import Source, Split
from harness.checks.config import OPTIONS, rewards
from lightning_modules.errors import OptionError
from lightning_modules.options.rewards import LearnedRewardOptions
from lightning_modules.options.supervised import RewardModelOptions, SupervisedOptions

PAIRS, THUMBS = "bradley_terry", "thumbs"


def require_suited_loss(cfg: DictConfig, source: Source) -> None:
    """Raise OptionError if a reward model that will be needed does not learn from what there is."""
    for place, loss in _losses(OmegaConf.to_container(cfg, resolve=True)):
        told = {split: _thumbs(source, split) for split in ("train", "val")}
        thumbs = sum(map(len, told.values()))
        if loss != THUMBS and not thumbs:
            continue
        pairs = len(source.taught("train")) - len(told["train"])
        if loss != THUMBS:
            beside = f" beside {pairs:,} comparisons" if pairs else " and no comparisons"
            raise OptionError(
                f"{place}.loss={loss}: learns from comparisons alone, but data={cfg.data.name} has"
                f" {thumbs:,} thumbs{beside}: set {place}.loss={THUMBS}"
                + ", which learns from both"
                * bool(pairs)
            )
        if not told["train"]:
            raise OptionError(
                f"{place}.loss={THUMBS}: data={cfg.data.name} has no thumbs to learn from (rows"
                f" with one 'response' and a 'label', true or false), but {pairs:,} comparisons:"
                f" set {place}.loss={PAIRS}"
            )
        kinds = {thumb.liked for thumb in told["train"]}
        if len(kinds) == 1 and not pairs:
            raise OptionError(
                f"{place}.loss={THUMBS}: all {len(told['train']):,} thumbs of the training split"
                f" are {'up' if kinds.pop() else 'down'}, so nothing tells responses apart"
            )


def _thumbs(source: Source, split: Split) -> list[Thumb]:
    """Those that a reward model is taught or judged by."""
    return [told for told in source.taught(split) if isinstance(told, Thumb)]


def _losses(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The reward models that will be needed, by the place of their options, with their losses."""
    kind = OPTIONS.get(config["algo"].get("_target_"), object)
    evaluates = "policy" in config
    if kind is RewardModelOptions and not evaluates:
        yield "algo", config["algo"]["loss"]
    if issubclass(kind, SupervisedOptions) and not evaluates:
        return
    targets = [OPTIONS.get(part.get("_target_")) for _, part in rewards("reward", config["reward"])]
    if LearnedRewardOptions in targets:
        yield "stages.reward_model", config["stages"]["reward_model"]["loss"]

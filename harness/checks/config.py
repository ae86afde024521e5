"""Every option of a run checked before torch is imported: a wrong value is told in a second.

The rules are those of the options' own classes, which the modules are built from as well.
"""

import re
from collections.abc import Iterator
from dataclasses import MISSING, fields
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Any, get_args

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

from harness.checks.checkpoints import checkpoints_kept
from harness.errors import RunError
from harness.overrides import quoting, require_names, written
from harness.runs.renamed import refuse_old_keys
from harness.surroundings import require_writable
from harness.tracking.wandb_limits import check_logger
from lightning_modules.errors import OptionError
from lightning_modules.options.judges import JudgeOptions
from lightning_modules.options.models import LanguageModelOptions
from lightning_modules.options.policies import AUTO, A2COptions, PPOOptions, ReinforceOptions
from lightning_modules.options.require import require, require_package
from lightning_modules.options.rewards import (
    CheckpointRewardOptions,
    CombinedRewardOptions,
    FunctionRewardOptions,
    JudgeRewardOptions,
    LearnedRewardOptions,
    PeopleRewardOptions,
)
from lightning_modules.options.supervised import RewardModelOptions, SupervisedOptions

NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
# What a part of the config builds, by its `_target_`. One that is not here (of an extension) is
# checked when it is built.
OPTIONS = {
    "lightning_modules.sft.SFT": SupervisedOptions,
    "lightning_modules.reward_model.RewardModel": RewardModelOptions,
    "lightning_modules.reinforce.Reinforce": ReinforceOptions,
    "lightning_modules.a2c.A2C": A2COptions,
    "lightning_modules.ppo.PPO": PPOOptions,
    "lightning_modules.models.language_model.LanguageModel": LanguageModelOptions,
    "lightning_modules.rewards.learned.LearnedReward": LearnedRewardOptions,
    "lightning_modules.rewards.learned.CheckpointReward": CheckpointRewardOptions,
    "lightning_modules.rewards.programmed.FunctionReward": FunctionRewardOptions,
    "lightning_modules.rewards.judged.JudgeReward": JudgeRewardOptions,
    "lightning_modules.rewards.combined.CombinedReward": CombinedRewardOptions,
    "harness.web.people_reward.PeopleReward": PeopleRewardOptions,
    "lightning_modules.judges.judge.Judge": JudgeOptions,
}
SIMPLE = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    type(None): "null",
}


def check_config(cfg: DictConfig) -> None:
    """Raise RunError if an option has no value, and OptionError if it has a wrong one."""
    refuse_old_keys(OmegaConf.to_container(cfg, resolve=False))
    try:
        missing = sorted(OmegaConf.missing_keys(cfg))
        plain = OmegaConf.to_container(cfg, resolve=True)
    except InterpolationResolutionError as error:
        raise OptionError(f"{error.full_key}: {str(error).splitlines()[0]}") from error
    if missing:
        raise RunError("; ".join(f"{key} has no value: give {key}=..." for key in missing))
    require_names(plain)
    require(
        isinstance(plain["cache_dir"], str) and bool(plain["cache_dir"]),
        "cache_dir",
        plain["cache_dir"],
        "must be a folder",
    )
    if not Path(plain["cache_dir"]).is_dir():  # one that may only be read serves for what is in it
        require_writable(Path(plain["cache_dir"]), "cache_dir")
    check_logger(plain["logger"])
    checkpoints_kept(plain["callbacks"].get("keep_checkpoints", 1))
    nodes = plain["hardware"].get("num_nodes", 1)
    require(nodes == 1, "hardware.num_nodes", nodes, "a run is on one machine")
    checkpointing = plain["hardware"].get("checkpointing", False)
    require(
        checkpointing in (True, False, AUTO),
        "hardware.checkpointing",
        checkpointing,
        "must be one of true, false, auto",
    )
    frozen = plain["hardware"].get("frozen_precision")
    require(
        frozen in (None, "float32", "bfloat16"),
        "hardware.frozen_precision",
        frozen,
        "must be float32, bfloat16, or null for what hardware.precision says",
    )
    head = plain["hardware"].get("head_precision")
    require(
        head in (None, "float32"),
        "hardware.head_precision",
        head,
        "must be float32, or null for the precision of the layers",
    )
    exported = plain["callbacks"].get("export_precision", "float32")
    require(
        exported in ("float32", "bfloat16"),
        "callbacks.export_precision",
        exported,
        "must be float32 or bfloat16",
    )
    check_kinds(plain)
    minutes = plain["callbacks"].get("checkpoint_minutes")
    require(
        minutes is None or minutes > 0,
        "callbacks.checkpoint_minutes",
        minutes,
        "must be above 0, or null",
    )
    for place, section in _sections(plain):
        if options_class := OPTIONS.get(section.get("_target_")):
            _check(place, section, options_class)
            if "optimizer" in section:
                _check_optimizer(f"{place}.optimizer", section["optimizer"], plain["model"])
    _require_adapters(plain)
    _require_judge(plain)
    _require_scores(plain)


def _sections(cfg: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The parts of the config that build something, by where they stand."""
    yield "algo", cfg["algo"]
    for name, stage in cfg["stages"].items():
        yield f"stages.{name}", stage
    yield "model", cfg["model"]
    yield from rewards("reward", cfg["reward"])
    if "_target_" in (judge := cfg.get("judge", {})):
        yield "judge", judge


def rewards(place: str, section: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """A reward, and those that it is combined of."""
    if not isinstance(section, dict):
        raise OptionError(f"{place}={section}: must be a reward")
    yield place, section
    if OPTIONS.get(section.get("_target_")) is CombinedRewardOptions:
        for name, part in (section.get("rewards") or {}).items():
            yield from rewards(f"{place}.rewards.{name}", part)


def _require_judge(plain: dict[str, Any]) -> None:
    """OptionError if a reward asks a judge and there is none, or one that rates nothing."""
    for place, section in rewards("reward", plain["reward"]):
        if OPTIONS.get(section.get("_target_")) is not JudgeRewardOptions:
            continue
        judge = plain.get("judge", {})
        if "_target_" not in judge:
            raise OptionError(
                f"{place}=judge: say who judges and by what: judge=helpful judge.model=<folder>, or"
                " with judge.base_url=http://... a model behind an endpoint"
            )
        if section.get("form") == "rating" and judge.get("scale") is None:
            raise OptionError(
                f"judge={judge.get('name')}: compares two responses and rates none: give"
                f" {place}.form=win, or another judge, such as judge=helpful"
            )


def _require_scores(plain: dict[str, Any]) -> None:
    """OptionError if nothing is to be scored and no judge compares either."""
    judged = "policy" in plain and "_target_" in plain.get("judge", {})
    if str(plain["reward"].get("_target_")).endswith(".NoReward") and not judged:
        raise OptionError(
            "reward=none: nothing would say how good a response is; it is for task=evaluate"
            " policy=... judge=..."
        )


def check_kinds(plain: dict[str, Any]) -> None:
    """Raise OptionError if a part of the config has an option that it does not know, lacks one, or
    has one of another kind (`algo.beta=abc`). `plain` is a config without interpolations.
    """
    # What others refer to comes first: reward.ensemble is the ensemble of a stage, too.
    for place, section in reversed(list(_sections(plain))):
        if options_class := OPTIONS.get(section.get("_target_")):
            _check_kinds(place, section, options_class)


def _check_kinds(place: str, section: dict[str, Any], options_class: type) -> None:
    given = _given(section)
    known = {field.name: field for field in fields(options_class)}
    kind = f"{place}={given.get('name')}"
    if unknown := [name for name in given if name not in known]:
        near = get_close_matches(unknown[0], known, n=1)
        told = f"did you mean {place}.{near[0]}?" if near else f"it has {', '.join(known)}"
        raise OptionError(f"{place}.{unknown[0]}: {kind} has no such option; {told}")
    required = [name for name, field in known.items() if field.default is MISSING]
    if lacking := [name for name in required if name not in given]:
        raise OptionError(f"{place}.{lacking[0]}: {kind} needs it, and it is not there")
    for name, value in given.items():
        require_kind(f"{place}.{name}", value, known[name].type)


def _given(section: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in section.items() if not name.startswith("_")}


def _check(place: str, section: dict[str, Any], options_class: type) -> None:
    """Build the options; what is wrong with them is said of the place where they stand."""
    try:
        options = options_class(**_given(section))
        if isinstance(options, FunctionRewardOptions):
            options.load()
    except OptionError as error:
        # The rules name options by the group that they are usually in.
        group = "algo" if place.startswith("stages.") else "reward"
        raise OptionError(re.sub(rf"^{group}\.", f"{place}.", str(error))) from error


def _check_optimizer(place: str, section: Any, model: dict[str, Any]) -> None:
    """A learning rate may be null, but for a toy: the size of a pretrained model says it."""
    if not isinstance(section, dict):
        raise OptionError(
            f"{place}={section}: must be an optimiser: give algo/optimizer=adamw, or {place}.lr=..."
        )
    made = str(section.get("_target_"))
    if made.startswith("bitsandbytes."):
        require_package("bitsandbytes", "qlora", place, made.rsplit(".", 1)[-1])
    lr = section.get("lr", 0)
    if lr is None and (model.get("pretrained") is not None or model.get("config") is None):
        return
    if not _fits(lr, float) or not lr >= 0:  # nor nan
        raise OptionError(f"{place}.lr={lr}: must be a number, 0 or above")


def require_kind(option: str, value: Any, kind: Any) -> None:
    """Raise OptionError unless a value is of its option's kind, such as `int | None`; a kind that
    is not simple has rules of its own.
    """
    if _fits(value, kind):
        return
    hint = quoting(option, value) if str in _kinds(kind) else ""
    if isinstance(value, str) and re.fullmatch(NUMBER, value):
        hint = ", and this is text; leave out the quotes, or write ${oc.decode:...} around it"
    raise OptionError(f"{option}={written(value)}: must be {_told(kind)}{hint}")


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of its option's kind, if that is a simple one; others have rules."""
    kinds = _kinds(kind)
    if not all(each in SIMPLE for each in kinds):
        return True
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, (*kinds, int) if float in kinds else kinds)


def _told(kind: Any) -> str:
    return " or ".join(SIMPLE[each] for each in _kinds(kind))


def _kinds(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if isinstance(kind, UnionType) else (kind,)


def _require_adapters(plain: dict[str, Any]) -> None:
    adapter, bits = plain["adapter"], plain["adapter"].get("bits")
    if plain["algo"].get("critic") == "adapter" and adapter["config"] is None:
        raise OptionError(
            "algo.critic=adapter: needs adapter=lora: it is a second adapter of the policy"
        )
    if bits is None:
        return
    rule = "must be 4, or null for weights that are not packed"
    require(bits == 4 and not isinstance(bits, float), "adapter.bits", bits, rule)
    require(adapter["config"] is not None, "adapter.bits", bits, "is for adapters: adapter=qlora")
    for package in ("bitsandbytes", "accelerate"):  # Transformers packs by both
        require_package(package, "qlora", "adapter.bits", bits)

"""What an evaluation takes from the run that it is of: data, reward, model, stages and budget.

It is as if the run's options had been typed before those that were. What a run's folder says is not
believed more than `harness.runs.foreign` allows.
"""

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from harness.checks.config import rewards
from harness.disk.files import CONFIG, STATE, SUMMARY, read_json
from harness.errors import RunError
from harness.overrides import is_chosen, place_of
from harness.parts.choices import ADVICE, has_judge
from harness.runs.command import run_of
from harness.runs.foreign import MADE_OF, believed, written_config
from harness.runs.identity import differences, read_state
from harness.runs.secrets import hide_overrides
from harness.runs.used_stages import LINKS, Origin, find_stages
from harness.typed import option
from lightning_modules.errors import OptionError
from lightning_modules.options.paths import CONFIG as MODEL_CONFIG
from lightning_modules.options.paths import MODEL

TRAINING = "harness.tasks.train.train"
FUNCTION = "lightning_modules.rewards.programmed.FunctionReward"
PEOPLE = "harness.web.people_reward.PeopleReward"
SHAPES_STAGES = ("stages", "model", "adapter", "stage_seed")
# Of models that no run says the reward of, a judge compares alone.
JUDGED_ALONE = {"name": "none", "_target_": "lightning_modules.rewards.programmed.NoReward"}
# What can be given in the place of a stage that is gone.
INSTEAD = {
    "reward_model": "reward=learned, which trains one on these, or another reward",
    "sft": "against=...",
}
# Options of an evaluation, and of a run's algorithm, that mean the same.
BUDGET = {"prompts": "val_prompts", "temperature": "temperature"}
NO_REWARD = {"_target_": "lightning_modules.rewards.reward.Reward"}


@dataclass(frozen=True)
class Taken:
    """The config of an evaluation, and what a person should know of where it comes from."""

    config: DictConfig
    origin: Origin | None = None
    notes: list[str] = field(default_factory=list)


def taken_from_run(cfg: DictConfig, typed: Sequence[str]) -> Taken:
    """`cfg` with the options of the run that `policy` is of, else `against`, else (data alone) the
    reward model that is judged, except those that were `typed`: overrides of the command line.

    Raises RunError if a run has no model, or its folder says what may not be believed. Nothing is
    built or trained.
    """
    for name in ("policy", "against"):
        _require_model(name, cfg.get(name))
    for name in ("policy", "against"):
        if (run := run_of(cfg.get(name))) and _has_trained(run, name):
            return _of_policy(cfg, run, name, typed)
    place = cfg.reward.get("path") if cfg.policy is None else None
    if (run := run_of(place)) and _has_trained(run, "reward.path"):
        return _of_reward(cfg, run, typed)
    if cfg.policy and has_judge(cfg) and "reward" not in map(place_of, typed):
        cfg = OmegaConf.merge(cfg)  # a copy
        cfg.reward = JUDGED_ALONE
    return Taken(cfg, notes=_defaults(cfg, typed))


def taken_for_answers(
    cfg: DictConfig,
    places: Sequence[tuple[str, str]],
    typed: Sequence[str],
    sections: Sequence[str] = MADE_OF,
) -> Taken:
    """The same for policies that only answer: `cfg` with those `sections` of the first run that one
    of `places` is of, each with the option that names it. Nothing is scored, so there is no reward.
    """
    config = OmegaConf.create({key: cfg[key] for key in cfg} | {"reward": NO_REWARD})
    for name, place in places:
        _require_model(name, place)
    runs = ((name, run) for name, place in places if (run := run_of(place)))
    name, run = next(((name, run) for name, run in runs if _has_trained(run, name)), (None, None))
    if run is None:
        config.temperature = 1.0 if cfg.temperature is None else cfg.temperature
        return Taken(
            config, notes=_defaults(cfg, typed, [part for part in sections if part == "data"])
        )
    written = written_config(run, name)
    if _kind(written) == "RewardModel":
        raise RunError(f"{name}={run}: is a reward model, which answers nothing; give a policy")
    config, origin = _as_run_had_it(config, run, written, typed, sections)
    if cfg.temperature is None:
        config.temperature = float(config.algo.get("temperature", 1.0))
    if "data" in sections and config.data.get("max_response_tokens") is None:
        config.data.max_response_tokens = _longest_response(run)
    of = f"model {config.model.get('name')}, temperature {config.temperature:g}, seed {config.seed}"
    data = f"data {config.data.get('name')}, " * ("data" in sections)
    return Taken(config, origin, [f"as {name}={run} had it: {data}{of}{_said(sections, typed)}"])


def _longest_response(run: Path) -> int | None:
    """What a finished run had as its limit; None where it does not say."""
    with contextlib.suppress(RunError):
        tokens = read_json(run / SUMMARY).get("data/max_response_tokens")
        return tokens if isinstance(tokens, int) else None
    return None


def _require_model(name: str, place: str | None) -> None:
    folder = Path(os.path.expanduser(place)) if isinstance(place, str) else Path()
    models = (folder / MODEL_CONFIG, folder / MODEL / MODEL_CONFIG)
    if place is None or not (folder / STATE).is_file() or any(m.is_file() for m in models):
        return
    if rounds := sorted(folder.glob(f"round-*/{MODEL}")):
        last = option(name, rounds[-1].parent)
        raise RunError(f"{name}={place}: is a folder of rounds; give the run of one, as in {last}")
    more = " or, if it has a checkpoint, export that: task=export " + option("run", folder)
    raise RunError(
        f"{name}={place}: this run has no {MODEL}/, it is not finished; go on with it"
        f" ({option('resume', folder)}){more}"
    )


def _has_trained(run: Path, name: str) -> bool:
    task = written_config(run, name).get("task")
    return isinstance(task, Mapping) and task.get("_target_") == TRAINING


def _of_policy(cfg: DictConfig, run: Path, name: str, typed: Sequence[str]) -> Taken:
    written = written_config(run, name)
    _require_policy(written, run, name, cfg.against)
    config, origin = _as_run_had_it(cfg, run, written, typed, (*MADE_OF, "reward"))
    said = {place_of(override) for override in typed}
    for key, of_algo in BUDGET.items():
        value = (cfg if f"algo.{of_algo}" in said else written)["algo"].get(of_algo)
        if isinstance(value, int | float) and f"evaluation.{key}" not in said:
            config.evaluation[key] = value
    return Taken(config, origin, _notes(config, f"{name}={run}", typed))


def _as_run_had_it(
    cfg: DictConfig,
    run: Path,
    written: Mapping[str, Any],
    typed: Sequence[str],
    sections: Sequence[str],
) -> tuple[DictConfig, Origin]:
    """`cfg` with these sections of the run, where they were not typed, and the run's stages."""
    chosen = {place for place in map(place_of, typed) if is_chosen(cfg, place)}
    theirs = believed(written, [s for s in sections if s not in chosen], cfg, typed, run / CONFIG)
    _refuse_functions(theirs.get("reward", {}), run, typed)
    config = _with_typed(theirs, cfg, typed, run, sections)
    config = OmegaConf.create({key: cfg[key] for key in cfg if key not in config} | config)
    state = read_state(run / STATE)
    return config, _origin(config, theirs, run, state, written.get("cache_dir"), chosen)


def _kind(written: Mapping[str, Any]) -> str:
    """The class of what a run has trained."""
    return str(written["algo"].get("_target_")).rpartition(".")[2]


def _require_policy(written: Mapping[str, Any], run: Path, name: str, against: str | None) -> None:
    """RunError if the run has trained something else, or what policies are measured against."""
    kind = _kind(written)
    if kind == "RewardModel":
        raise RunError(
            f"{name}={run}: is a reward model; it is evaluated by task=evaluate reward=checkpoint"
            f" {option('reward.path', run)}"
        )
    if kind == "SFT" and name == "policy" and against is None:
        raise RunError(
            f"{name}={run}: is a run of algo=sft, which is what policies are measured against; say"
            " with what to compare it, against=<a run, a folder or a hub id>"
        )


def _origin(
    config: DictConfig,
    theirs: Mapping[str, Any],
    run: Path,
    state: Mapping[str, Any],
    cache: Any,
    chosen: set[str],
) -> Origin:
    """The stages of the run that serve here: those that no typed option would make otherwise."""
    sections = [*SHAPES_STAGES, "data", "reward"]
    now = OmegaConf.to_container(OmegaConf.masked_copy(config, sections))
    reward, other_data = now.pop("reward"), now.pop("data") != theirs.get("data")
    differing = differences({key: theirs.get(key) for key in now}, now)
    of_reward_model = {key for key in differing if key.startswith("stages.reward_model.")}
    names = [] if differing.keys() - of_reward_model else ["sft"]
    kinds = {section.get("_target_") for _, section in rewards("reward", reward)}
    learned = "lightning_modules.rewards.learned.LearnedReward" in kinds
    if learned and not differing and not (other_data and "reward" in chosen):
        names.append("reward_model")
    found, lost = find_stages(run, state, names, (config.cache_dir, cache))
    for name, instead in INSTEAD.items():
        needed = name == "reward_model" or config.get("against") is None
        if name in lost and needed and other_data:
            raise RunError(
                f"{run}: its {LINKS[name].replace('_', ' ')} is not there any more, and the data"
                f" are other ones than it was trained on; give {instead}"
            )
    date = None if config.model.get("date") else state.get("date")
    return Origin(run, date, found, lost)


def _of_reward(cfg: DictConfig, run: Path, typed: Sequence[str]) -> Taken:
    """A reward model is judged on the data that it was trained on, unless others are chosen."""
    written = written_config(run, "reward.path")
    if any(place_of(override) == "data" for override in typed):
        return Taken(cfg, notes=_defaults(cfg, typed))
    theirs = believed(written, ["data"], cfg, typed, run / CONFIG)
    data = [o for o in typed if place_of(o).startswith("data.")]
    config = _with_typed(theirs, cfg, data, run, ["data"])
    config = OmegaConf.create({key: cfg[key] for key in cfg if key != "data"} | config)
    note = f"from reward.path={run}: data {config.data.get('name')}"
    return Taken(config, notes=[note])


def _refuse_functions(reward: Any, run: Path, typed: Sequence[str]) -> None:
    """RunError if the run's reward is code or people: the one is imported, and the others are
    asked, only if it is typed.
    """
    said = {place_of(override) for override in typed}
    for place, section in rewards("reward", reward) if reward else ():
        name = f"{place}.path"
        if section.get("_target_") == PEOPLE:
            raise RunError(
                f"{run / CONFIG}: {place} is people, who are asked again only if that is typed: add"
                " reward=people, or give another reward"
            )
        if section.get("_target_") == FUNCTION and name not in said:
            raise RunError(
                f"{run / CONFIG}: {name}={section.get('path')}: code that a run's folder names is"
                f" not imported; if it is yours, add {option(name, section.get('path'))}, or give"
                " another reward"
            )


def _with_typed(
    theirs: Mapping[str, Any],
    cfg: DictConfig,
    typed: Sequence[str],
    run: Path,
    own_sections: Sequence[str],
) -> dict[str, Any]:
    """The run's sections with what was typed in its place: groups as a whole, then options."""
    own = OmegaConf.to_container(cfg)
    result = OmegaConf.to_container(OmegaConf.create(dict(theirs)))
    for override in sorted(typed, key=lambda o: place_of(o).count(".")):
        place = place_of(override)
        *sections, key = place.split(".")
        if place.split(".")[0] not in own_sections:
            continue
        value, target = own, result
        for section in sections:
            value = value[section]
            target = target.get(section) if isinstance(target, dict) else None
        if key not in value:  # `~data.limit` takes it away
            target.pop(key, None)
            continue
        new = override.startswith("+") and not override.startswith("++")
        if sections and not new and (not isinstance(target, dict) or key not in target):
            options = target if isinstance(target, dict) else {}
            known = ", ".join(o for o in options if o not in ("_target_", ADVICE)) or "none there"
            raise OptionError(
                f"{place}: the {sections[0]} of {run} has no such option; it has {known}"
            )
        target[key] = value[key]
    said = {place_of(override) for override in typed}
    if "reward" in said or any(p.startswith("reward.") and p.endswith("ensemble") for p in said):
        result["stages"]["reward_model"]["ensemble"] = cfg.stages.reward_model.ensemble
    return result


def _notes(config: DictConfig, source: str, typed: Sequence[str]) -> list[str]:
    budget = config.evaluation
    said = _said((*MADE_OF, "reward", "evaluation"), typed)
    return [
        f"as {source} had it: data {config.data.get('name')}, reward {config.reward.get('name')},"
        f" model {config.model.get('name')}, up to {budget.prompts} held-out prompts, temperature"
        f" {budget.temperature:g}, seed {config.seed}{said}"
    ]


def _said(sections: Sequence[str], typed: Sequence[str]) -> str:
    """What was typed in these sections, as the end of a note."""
    chosen = hide_overrides(
        o.lstrip("+")
        for o in typed
        if place_of(o).split(".")[0] in sections
        or place_of(o) in [f"algo.{name}" for name in BUDGET.values()]
    )
    return f"; typed: {' '.join(chosen)}" if chosen else ""


def _defaults(
    cfg: DictConfig, typed: Sequence[str], sections: Sequence[str] = ("data", "reward")
) -> list[str]:
    """What nobody has chosen, where there is no run that says it."""
    said = {place_of(override) for override in typed}
    unsaid = [name for name in sections if name not in said]
    if not unsaid or not (cfg.policy or cfg.get("policies")):
        return []
    what = " and ".join(f"{name}={cfg[name].name}" for name in unsaid)
    more = " reward=gold" * ("reward" in sections)
    return [f"by default {what}; type others, such as data=files data.path=...{more}"]

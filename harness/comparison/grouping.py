"""Runs that differ in the seed alone are one configuration; what tells configurations apart."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.comparison.reading import INPUTS, Array, LeftOut, PolicyRun
from harness.runs.command import ROUND
from harness.runs.identity import FREE

SEEDS = ("seed", "algo.seed")
# What one of several rounds goes on from, which differs from seed to seed as its results do.
OF_SEED = tuple(
    f"{prefix}{option}"
    for option in ("data.more", "algo.policy_from", "algo.critic_from")
    for prefix in ("", INPUTS)
)
ALL_NAMED = 3  # so few differing keys are all in a configuration's name
LONGEST = 32  # characters of a value in a name
ABSENT = "-"


@dataclass(frozen=True)
class Configuration:
    """Runs that differ in the seed alone, by seed, and the short name of what they share."""

    name: str
    config: dict[str, Any]
    runs: list[PolicyRun]

    @property
    def seeds(self) -> list[int]:
        return [run.seed for run in self.runs]

    def finals(self, metric: str) -> Array:
        """The metric at the end of each run that knows it, (n,)."""
        values = (run.final(metric) for run in self.runs)
        return np.array([v for v in values if v is not None and v == v], dtype=np.float64)


def configurations(runs: Sequence[PolicyRun]) -> list[Configuration]:
    """The runs by what shapes their results, in the order of their first run."""
    groups: dict[str, list[PolicyRun]] = {}
    for run in runs:
        groups.setdefault(json.dumps(identity(run.config), sort_keys=True), []).append(run)
    members = [sorted(group, key=lambda run: run.seed) for group in groups.values()]
    configs = [identity(group[0].config) for group in members]
    return [Configuration(*parts) for parts in zip(names(configs), configs, members, strict=True)]


def without_repeats(runs: Sequence[PolicyRun]) -> tuple[list[PolicyRun], list[LeftOut]]:
    """The latest run of each config and seed, and the others: one run made twice is one seed."""
    latest: dict[str, PolicyRun] = {}
    for run in sorted(runs, key=lambda run: run.ended):
        latest[_mark(run)] = run
    again = [
        LeftOut(run.folder, f"made again with the same seed in {latest[_mark(run)].folder}")
        for run in runs
        if latest[_mark(run)] is not run
    ]
    return [run for run in runs if latest[_mark(run)] is run], again


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """A flat config without the seed of the policy stage and what does not shape results."""
    free = (*FREE, "task")
    unread = (*SEEDS, *(OF_SEED if f"{ROUND}.number" in config else ()))
    return {k: v for k, v in config.items() if k.split(".")[0] not in free and k not in unread}


def differing_keys(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Keys of flat configs with more than one value among them, in the order of the configs."""
    keys = dict.fromkeys(key for config in configs for key in config)
    return [key for key in keys if len({_text(config, key) for config in configs}) > 1]


def names(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A short, distinct name for each flat config: some of the keys that differ, with values.

    Where at most ALL_NAMED keys differ, all of them; otherwise as few as tell them apart, the
    names of options first: "algo=ppo, algo.beta=0.1".
    """
    keys = [k for k in differing_keys(configs) if not k.endswith("_target_")]
    options = [k for k in keys if not k.startswith(INPUTS)]
    if _told_apart(configs, options) == _told_apart(configs, keys):
        keys = options
    chosen = keys if len(keys) <= ALL_NAMED else _few(configs, keys)
    if not chosen:
        chosen = ["algo.name"]
    labels = [", ".join(_label(config, key) for key in chosen) for config in configs]
    if len(set(labels)) == len(labels):
        return labels
    return [f"{label} ({i})" for i, label in enumerate(labels, start=1)]


def shown(value: Any) -> str:
    """A value of a config as people write it."""
    if isinstance(value, str):
        return value
    return json.dumps(value, default=str)


def _few(configs: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[str]:
    """Greedily: at every step the key that tells most configs apart; names first, then short."""
    order = sorted(keys, key=lambda k: (not k.endswith(".name"), k.count("."), len(k), k))
    chosen: list[str] = []

    def told_apart(candidates: list[str]) -> int:
        return _told_apart(configs, candidates)

    while (now := told_apart(chosen)) < told_apart(order):
        named = [k for k in order if k.endswith(".name") and told_apart([*chosen, k]) > now]
        chosen.append(max(named or order, key=lambda k: told_apart([*chosen, k])))
    return chosen


def _told_apart(configs: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> int:
    """How many of the configs are different in these keys."""
    return len({tuple(_text(config, key) for key in keys) for config in configs})


def _label(config: Mapping[str, Any], key: str) -> str:
    name = key.removesuffix(".name")
    if key not in config:
        return f"no {name}"
    value = shown(config[key])
    return f"{name}={value if len(value) <= LONGEST else '…' + value[1 - LONGEST :]}"


def _text(config: Mapping[str, Any], key: str) -> str:
    return shown(config[key]) if key in config else ABSENT


def _mark(run: PolicyRun) -> str:
    seeds = [run.config.get(key) for key in SEEDS]
    return json.dumps([seeds, identity(run.config)], sort_keys=True)

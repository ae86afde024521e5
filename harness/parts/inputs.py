"""What a run is made of that its options only name: data, models, code. Read without torch."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from datamodules.sources.reading.several import digests, files_of
from datamodules.sources.source import Source
from harness.checks.config import OPTIONS, rewards
from harness.parts.players import players_of
from harness.runs.identity import differences, identity, is_place
from harness.runs.secrets import is_secret, kept
from harness.runs.used_stages import REFERENCE
from lightning_modules.options.identities import (
    code_identity,
    critic_identity,
    file_hash,
    policy_identity,
    pretrained_identity,
)
from lightning_modules.options.rewards import CheckpointRewardOptions, FunctionRewardOptions
from lightning_modules.options.supervised import SupervisedOptions

PLAYERS = ("policy", "against")  # of an evaluation
# What a policy or its critic begins as, where that is no part of the data or the model.
STARTS = {"policy_from": policy_identity, "critic_from": critic_identity}


def inputs(cfg: DictConfig, source: Source) -> dict[str, Any]:
    """Identities, by the option that names the input. They tell contents, not places: a copy of a
    file, or a folder that was moved, is the same input.
    """
    config = OmegaConf.to_container(cfg, resolve=True)
    model = config["model"]
    found = _data(source)
    if model.get("pretrained") is not None:
        found["model.pretrained"] = pretrained_identity(model["pretrained"], model.get("revision"))
    template = Path(str(model.get("chat_template"))).expanduser()
    if template.is_file():
        found["model.chat_template"] = file_hash(template)
    starts = {option: config["algo"].get(option) for option in STARTS}
    found |= {f"algo.{o}": STARTS[o](start) for o, start in starts.items() if start is not None}
    for player in PLAYERS:
        if config.get(player) is not None:
            found[player] = pretrained_identity(config[player])
    found |= _judged(config)
    if _uses_reward(config):
        found |= _rewards(config["reward"])
    if environment := _environment(cfg, config):
        found["environment"] = environment
    return json.loads(json.dumps(found))  # as it will be read from run.json


def _judged(config: dict[str, Any]) -> dict[str, Any]:
    """Policies whose answers are to be judged, answers that are there, and a judge of one's own."""
    found: dict[str, Any] = {}
    if config.get("policies"):
        found["policies"] = [
            [name, None if place == REFERENCE else pretrained_identity(place)]
            for name, place in players_of("policies", config["policies"]).items()
        ]
    if config.get("items"):
        found["items"] = digests(files_of("items", config["items"]))
    judge = config.get("judge", {})
    if judge.get("model") is not None and judge.get("base_url") is None:
        found["judge.model"] = pretrained_identity(judge["model"])
    return found


def _data(source: Source) -> dict[str, Any]:
    """Which rows a template refuses follows from the model and is found later."""
    data = {key: value for key, value in source.identity().items() if key != "refused"}
    return {"data": data} | ({"data.more": source.added.identity} if source.added else {})


def _environment(cfg: DictConfig, config: dict[str, Any]) -> dict[str, str]:
    """Hashes of the values that run.json keeps as `${oc.env:...}`, by their options."""
    written = differences(identity(kept(cfg)), identity(config))
    return {
        option: hashlib.sha256(repr(value).encode()).hexdigest()
        for option, (_, value) in written.items()
        if not is_secret(option) and not is_place(option)
    }


def _uses_reward(config: dict[str, Any]) -> bool:
    """Whether what is asked for needs scores: a policy's training or an evaluation."""
    kind = OPTIONS.get(config["algo"].get("_target_"), object)
    return "policy" in config or not issubclass(kind, SupervisedOptions)


def _rewards(config: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for place, section in rewards("reward", config):
        kind = OPTIONS.get(section.get("_target_"))
        if kind is FunctionRewardOptions:
            options = FunctionRewardOptions(path=section["path"])
            defined = sys.modules.get(getattr(options.load(), "__module__", ""), options.module())
            found[f"{place}.path"] = code_identity(options.module()) | code_identity(defined)
        elif kind is CheckpointRewardOptions:
            found[f"{place}.path"] = pretrained_identity(section["path"])
    return found

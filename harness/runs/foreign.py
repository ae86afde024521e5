"""A config that lies in a run's folder, which may be somebody else's: read, and not believed.

Hydra builds whatever a `_target_` names, and OmegaConf looks up whatever stands in `${...}`. Of a
config that the user typed or keeps in conf/ that is meant; of one that came with a folder only the
project's own parts are built, and nothing is looked up.
"""

import glob
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from harness.disk.files import CONFIG
from harness.errors import RunError
from harness.runs.command import started_in
from harness.runs.identity import is_place
from harness.runs.renamed import with_new_names
from harness.runs.used_stages import LINKS

# What may be built, by the place in the config; conf/ has nothing else.
BUILT = {
    r"task": r"harness\.tasks\.(train\.train|evaluate\.evaluate)",
    r"algo|stages\.\w+": r"lightning_modules\.(sft\.SFT|reward_model\.RewardModel"
    r"|reinforce\.Reinforce|a2c\.A2C|ppo\.PPO)",
    r"(algo|stages\.\w+)\.optimizer": r"torch\.optim\.(Adagrad|Adam|AdamW)"
    r"|bitsandbytes\.optim\.(Paged)?AdamW8bit",
    r"model": r"lightning_modules\.models\.language_model\.LanguageModel",
    r"model\.config": r"transformers\.(GPT2|Llama)Config",
    r"adapter\.config": r"peft\.LoraConfig",
    r"data": r"datamodules\.sources\.(files\.Files|landmarks\.Landmarks|public\.(hh\.HH"
    r"|summarize_from_feedback\.SummarizeFromFeedback|ultrafeedback\.UltraFeedback))",
    r"reward(\.rewards\.\w+)*": r"lightning_modules\.rewards\.(learned\.(Learned|Checkpoint)Reward"
    r"|programmed\.(Function|Gold|No)Reward|judged\.JudgeReward|combined\.CombinedReward)"
    r"|harness\.web\.people_reward\.PeopleReward",
    r"callbacks\.checkpoint": r"pytorch_lightning\.callbacks\.ModelCheckpoint",
    r"logger": r"harness\.tracking\.wandb_run\.wandb_run",
}
# Of these Hydra makes what is called later; everything else it builds at once.
PARTIAL = r"task|model\.config|(algo|stages\.\w+)\.optimizer"
# Options by which parts import code by its name, or load it.
LOADING = {
    "model.config": {"auto_map", "attn_implementation", "experts_implementation"},
    "adapter.config": {"megatron_config", "megatron_core", "auto_mapping", "runtime_config"}
    | {"corda_config", "eva_config", "loftq_config"},
}
# Sections that say what a run's policy is; of the rest the user's own hold.
MADE_OF = ("algo", "stages", "model", "adapter", "data", "seed", "stage_seed")
HARDWARE = (
    *("name", "accelerator", "devices", "strategy", "precision"),
    *("checkpointing", "frozen_precision", "head_precision", "sampler"),
)


def written_config(run: Path, option: str = "run") -> dict[str, Any]:
    """What the run's folder says of its configuration, by today's names; nothing is looked up.

    RunError, which names the `option` that gave the folder, if it is not that of a run.
    """
    try:
        written = OmegaConf.to_container(OmegaConf.load(run / CONFIG))
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        raise RunError(f"{option}={run}: its {CONFIG} cannot be read ({error})") from error
    sections = ("algo", "stages", "model", "adapter", "data", "hardware")
    if not isinstance(written, dict) or not all(isinstance(written.get(s), dict) for s in sections):
        raise RunError(f"{option}={run}: its {CONFIG} is not that of a run")
    return with_new_names(written)


def policy_config(
    written: Mapping[str, Any], own: DictConfig, typed: Sequence[str], file: Path
) -> DictConfig:
    """What `file` says of the policy of its run, within the config `own` of this command.

    `typed` are the overrides of the command line: where `file` has `${...}`, a value that was typed
    takes its place. The reward is left out, as nothing is scored. Raises RunError for what may not
    be built, is to be looked up, or is not there.
    """
    hardware = {k: v for k, v in written.get("hardware", {}).items() if k in HARDWARE}
    chosen = believed(written | {"hardware": hardware}, (*MADE_OF, "hardware"), own, typed, file)
    chosen["reward"] = {"_target_": "lightning_modules.rewards.reward.Reward"}
    kept = {key: own[key] for key in own if key not in chosen}
    return OmegaConf.create(kept | chosen)


def believed(
    written: Mapping[str, Any],
    sections: Sequence[str],
    own: DictConfig,
    typed: Sequence[str],
    file: Path,
) -> dict[str, Any]:
    """Those `sections` of what `file` says, once it is clear that they run nothing; as
    `policy_config` does, a value that was typed takes the place of `${...}`. Relative paths are
    those of where the run was started.
    """
    if lacking := [name for name in sections if name not in written]:
        raise RunError(f"{file}: is not that of a run: it has no {lacking[0]}")
    names = {override.lstrip("+").partition("=")[0] for override in typed}
    chosen = _with_typed({name: written[name] for name in sections}, own, names)
    chosen = _from_there(chosen, started_in(file.parent), names)
    _refuse_code(chosen, OmegaConf.to_container(own), file)
    _refuse_remote_code(chosen.get("model", {}), own, file)
    return chosen


def _from_there(node: Any, started: Path, typed: set[str], place: str = "") -> Any:
    """`node` with the paths that are relative to the folder in which the run was started as they
    are found from here; those that were typed are the user's.
    """
    if isinstance(node, Mapping):
        return {
            key: _from_there(value, started, typed, f"{place}.{key}".lstrip("."))
            for key, value in node.items()
        }
    if not is_place(place) or place in typed:
        return node
    if isinstance(node, list):
        return [_found(value, started) for value in node]
    return _found(node, started)


def _found(value: Any, started: Path) -> Any:
    if not isinstance(value, str) or os.path.isabs(os.path.expanduser(value)):
        return value
    there = started / value
    return str(there) if there.exists() or glob.glob(str(there)) else value


def refuse_links(folder: Path) -> None:
    """RunError if a file or a folder in a run's is a link to another place, or to nothing: what a
    run writes and removes would be somebody else's. Its links to its stages, through which nothing
    is written, may lead anywhere.
    """
    root = folder.resolve()
    own = [path for path in folder.iterdir() if path.name not in LINKS.values()]
    for path in (*own, *folder.glob("checkpoints/*"), *folder.glob("exports/*")):
        if not path.is_symlink():
            continue
        try:
            target = path.resolve(strict=True)
        except (OSError, RuntimeError) as error:
            raise RunError(f"{path}: is a link that leads nowhere; remove it") from error
        if not target.is_relative_to(root):
            raise RunError(
                f"{path}: is a link to {target}, outside of the run's folder, where nothing is"
                " written; put the file itself in its place, or remove it"
            )


def _with_typed(node: Any, own: DictConfig, typed: set[str], place: str = "") -> Any:
    """`node` with typed values in the place of `${...}`."""
    if isinstance(node, Mapping):
        return {
            key: _with_typed(value, own, typed, f"{place}.{key}".lstrip("."))
            for key, value in node.items()
        }
    if isinstance(node, str) and "${" in node and place in typed:
        return OmegaConf.select(own, place)
    return node


def _refuse_code(config: Mapping[str, Any], own: Mapping[str, Any], file: Path) -> None:
    """RunError for a part that is not the project's own, nor the same in the user's own config."""
    for place, key, value in _leaves(config):
        name = f"{place}.{key}".lstrip(".")
        said = f"{file}: {name}={value!r:.200}: "
        if isinstance(value, str) and "${" in value:
            raise RunError(
                f"{said}what a run's folder says by ${{...}} is not looked up; give {name}=... on"
                " the command line, or write the value into the file"
            )
        if key == "_target_" and not _may_be_built(place, value, own):
            raise RunError(
                f"{said}a run's folder may name parts of this project, and not that. If it is"
                f" yours and you mean it, give {name}={value} on the command line, or the option of"
                " conf/ that has it"
            )
        usual = key == "_target_" or (key == "_partial_" and re.fullmatch(PARTIAL, place))
        if key.startswith("_") and not usual:
            raise RunError(f"{said}has no place in a run's folder; remove it")
        if key in LOADING.get(place, ()) and value is not None:
            raise RunError(f"{said}may load code, which a run's folder may not; remove it")


def _may_be_built(place: str, target: Any, own: Mapping[str, Any]) -> bool:
    for part in place.split("."):
        own = own.get(part, {}) if isinstance(own, Mapping) else {}
    if isinstance(own, Mapping) and own.get("_target_") == target:
        return True
    allowed = [targets for where, targets in BUILT.items() if re.fullmatch(where, place)]
    return any(re.fullmatch(targets, str(target)) for targets in allowed)


def _leaves(node: Any, place: str = "") -> Iterator[tuple[str, str, Any]]:
    """Every value with the section that it is in and its key; those of lists by their numbers.

    Sections are named too, so that what they are called can be judged.
    """
    pairs = node.items() if isinstance(node, Mapping) else enumerate(node)
    for key, value in pairs:
        yield place, str(key), value
        if isinstance(value, Mapping | list):
            yield from _leaves(value, f"{place}.{key}".lstrip("."))


def _refuse_remote_code(model: Mapping[str, Any], own: DictConfig, file: Path) -> None:
    if model.get("trust_remote_code") and not own.model.get("trust_remote_code"):
        raise RunError(
            f"{file}: model.trust_remote_code={model['trust_remote_code']}: whether code that comes"
            " with a model is run is not for a folder to say; if you trust"
            f" {model.get('pretrained')}, give model.trust_remote_code=true on the command line"
        )

"""Every option of every group composes, and what it instantiates is what it says."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

import harness  # noqa: F401 (it registers what configs say by ${...})
from harness.checks.config import check_config

CONF = Path(__file__).parents[1] / "conf"
OPTIONS = [
    f"{file.parent.relative_to(CONF)}={file.stem}".replace("algo/ladder=", "algo=ladder/")
    for file in sorted(CONF.rglob("*.yaml"))
    if file.parent != CONF and file.parent.name != "base"
]
# What has no sane default.
MANDATORY = {
    "data=files": "data.path=x.jsonl",
    "model=pretrained": "model.pretrained=x",
    "reward=function": "reward.path=x:y",
    "reward=checkpoint": "reward.path=x",
    "reward=combined": "reward.rewards.function.path=x:y",
}
# Presets that need a package of an extra, and its module.
EXTRAS = {
    "algo/optimizer=adamw_8bit": "bitsandbytes",
    "algo/optimizer=adamw_8bit_paged": "bitsandbytes",
    "sweep=joblib": "hydra_plugins.hydra_joblib_launcher",
    "sweep=optuna": "hydra_plugins.hydra_optuna_sweeper",
    "sweep=ray": "hydra_plugins.hydra_ray_launcher",
    "sweep=slurm": "hydra_plugins.hydra_submitit_launcher",
    "sweep=submitit_local": "hydra_plugins.hydra_submitit_launcher",
}


def composed(*overrides: str) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", list(overrides))


def targets(node) -> list[str]:
    if isinstance(node, dict):
        own = [node["_target_"]] if "_target_" in node else []
        return own + [t for value in node.values() for t in targets(value)]
    return []


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_and_names_things_that_exist(option):
    if option in EXTRAS:
        pytest.importorskip(EXTRAS[option])
    mandatory = [MANDATORY[option]] if option in MANDATORY else []
    config = OmegaConf.to_container(
        composed(option, *mandatory), resolve=True, throw_on_missing=True
    )
    for target in targets(config):
        get_object(target)


@pytest.mark.parametrize("budget", ["quick", "smoke"])
@pytest.mark.parametrize("data", ["landmarks", "files", "hh"])
@pytest.mark.parametrize("algo", ["sft", "reward_model", "reinforce", "rloo", "a2c", "ppo"])
def test_a_budget_is_for_any_algorithm_and_data_and_gives_way_to_what_is_typed(algo, data, budget):
    chosen = [f"algo={algo}", f"data={data}", *(["data.path=x.jsonl"] * (data == "files"))]
    usual, less = composed(*chosen), composed(*chosen, f"budget={budget}")
    length = "epochs" if algo in ("sft", "reward_model") else "iterations"
    assert less.algo[length] < usual.algo[length] or usual.algo[length] == 1
    assert less.algo.keys() == usual.algo.keys()
    assert less.data.keys() == usual.data.keys()
    check_config(less)
    typed = composed(*chosen, f"budget={budget}", f"algo.{length}=77")
    assert typed.algo[length] == 77
    assert composed(*chosen).keys() | {"budget"} == less.keys()


def test_option_files_are_named_as_themselves():
    for option in OPTIONS:
        group, name = option.split("=")
        if group in ("algo/optimizer", "callbacks", "experiment", "sweep", "task"):
            continue
        assert OmegaConf.load(CONF / group / f"{name}.yaml").name == Path(name).name


def test_the_command_line_that_users_know():
    """Frozen on purpose: renaming one of these breaks scripts and sweeps."""
    cfg = composed()
    assert (cfg.algo.name, cfg.model.name, cfg.data.name) == ("ppo", "llama", "landmarks")
    for key in (
        "seed",
        "stage_seed",
        "cache_dir",
        "resume",
        "sweep.resume",
        "sweep.objective",
        "algo.iterations",
        "algo.prompts_per_iteration",
        "algo.samples_per_prompt",
        "algo.epochs",
        "algo.minibatches",
        "algo.micro_batch_size",
        "algo.beta",
        "algo.gamma",
        "algo.lam",
        "algo.clip_range",
        "algo.temperature",
        "algo.optimizer.lr",
        "model.pretrained",
        "data.max_prompt_tokens",
        "data.max_response_tokens",
    ):
        assert OmegaConf.select(cfg, key, throw_on_missing=True, default="absent") != "absent", key


def test_the_seed_reaches_the_algorithm_and_not_the_stages():
    cfg = composed("seed=7")
    assert cfg.algo.seed == 7
    assert cfg.stage_seed == 0
    assert cfg.data.seed == 0

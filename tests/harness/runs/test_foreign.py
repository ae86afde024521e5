"""What a run's folder may say: parts of the project, and nothing that runs or looks up more."""

import re
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from harness.errors import RunError
from harness.runs.foreign import BUILT, HARDWARE, MADE_OF, policy_config, refuse_links

CONF = Path(__file__).parents[3] / "conf"
FILE = Path("/run/config.yaml")


def targets(node, place=""):
    """Every `_target_` with the section that it is in."""
    for key, value in node.items() if isinstance(node, dict) else ():
        if key == "_target_":
            yield place, value
        yield from targets(value, f"{place}.{key}".lstrip("."))


def written(configure, tmp_path, *options) -> dict:
    return OmegaConf.to_container(configure(tmp_path, *options), resolve=True)


def put(config: dict, place: str, value) -> None:
    *sections, key = place.split(".")
    for section in sections:
        if not isinstance(config.get(section), dict):
            config[section] = {}
        config = config[section]
    config[key] = value


@pytest.mark.parametrize("group", ["algo", "model", "data", "reward", "adapter", "algo/optimizer"])
def test_whatever_conf_can_compose_may_be_read_back(group, configure, tmp_path):
    needed = {
        "data=files": ["data.path=x.jsonl"],
        "reward=function": ["reward.path=x:y"],
        "reward=checkpoint": ["reward.path=x"],
        "reward=combined": ["reward.rewards.function.path=x:y"],
        "model=pretrained": ["model.pretrained=x/y"],
    }
    own = configure(tmp_path, "task=export")
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for file in sorted((CONF / group).glob("*.yaml")):
            option = f"{group}={file.stem}"
            composed = compose("config", [option, *needed.get(option, ())])
            config = OmegaConf.to_container(composed, resolve=True)
            read = policy_config(config, own, [], FILE)
            assert {name: read[name] for name in MADE_OF} == {n: config[n] for n in MADE_OF}


def test_every_part_of_conf_has_a_place_where_it_may_stand():
    found = set()
    for file in CONF.rglob("*.yaml"):
        found |= {
            target for _, target in targets(yaml.safe_load(file.read_text(encoding="utf-8")) or {})
        }
    hydras = {t for t in found if t.startswith(("harness.disk.own", "harness.sweeps"))}
    other_tasks = {
        f"harness.tasks.{t}"
        for t in (
            *("cache.cache", "chat.chat", "compare.compare", "export.export_run"),
            *("generate.generate", "judge.judge", "label.label", "rounds.rounds"),
        )
    }
    judge = {"lightning_modules.judges.judge.Judge"}  # whom a stranger's run names is not believed
    allowed = "|".join(BUILT.values())
    assert {t for t in found if not re.fullmatch(allowed, t)} == hydras | other_tasks | judge


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("model.config._target_", "os.system"),
        ("model.config._target_", "torch.load"),
        ("model.config._target_", "transformers.GPT2Config.from_pretrained"),
        ("model._target_", "builtins.exec"),
        ("data._target_", "pathlib.Path.touch"),
        ("data._target_", "lightning_modules.ppo.PPO"),  # of the project, and not there
        ("data.columns._target_", "os.system"),
        ("data.columns.prompt", {"_target_": "os.system", "command": "touch"}),
        ("data.list", [1, {"_target_": "os.system"}]),
        ("algo.optimizer._target_", "torch.optim.lr_scheduler.os.system"),
        ("stages.third._target_", "subprocess.run"),
        ("adapter.config._target_", "importlib.import_module"),
        ("model.template_arguments._target_", "os.system"),
        ("algo._partial_", True),
        ("model._args_", ["touch"]),
        ("model.config._recursive_", False),
        ("model.config._convert_", "all"),
        ("model.config.attn_implementation", "somebody/kernel"),
        ("model.config.auto_map", {"AutoConfig": "payload.Config"}),
        ("adapter.config.megatron_core", "payload"),
        ("data.path", "${oc.env:HF_TOKEN}"),
        ("model.pretrained", "somebody/${oc.env:HF_TOKEN}"),
        ("seed", "${oc.decode:1}"),
        ("model.name", "${now:%Y}"),
        ("data.list", ["${oc.env:HOME}"]),
        ("model.trust_remote_code", True),
    ],
)
def test_anything_else_is_refused_by_name(configure, tmp_path, place, value):
    config = written(configure, tmp_path, "adapter=lora")
    put(config, place, value)
    with pytest.raises(RunError) as refused:
        policy_config(config, configure(tmp_path, "task=export"), [], FILE)
    named = place if not isinstance(value, dict | list) else place.rsplit(".", 1)[0]
    assert str(refused.value).startswith(f"{FILE}: {named}")


def test_what_the_user_says_himself_may_be_built(configure, tmp_path):
    config = written(configure, tmp_path)
    config["model"]["config"]["_target_"] = "my.own.Config"
    config["data"]["seed"] = "${oc.env:WORLD}"
    typed = ["task=export", "model.config._target_=my.own.Config", "data.seed=3"]
    read = policy_config(config, configure(tmp_path, *typed), typed, FILE)
    assert read.model.config._target_ == "my.own.Config"
    assert read.data.seed == 3


def test_only_what_the_policy_is_comes_from_the_folder(configure, tmp_path):
    config = written(configure, tmp_path, "reward=gold")
    config["reward"] = {"_target_": "os.system", "path": "payload:run"}
    for section in ("logger", "callbacks", "task", "sweep", "anything"):
        config[section] = {"_target_": "os.system"}
    config["cache_dir"] = "/somewhere/else"
    config["hardware"]["plugins"] = "payload"
    own = configure(tmp_path, "task=export")
    read = policy_config(config, own, [], FILE)
    assert {k for k in own if k in read and own[k] == read[k]} >= {"logger", "callbacks", "task"}
    assert read.cache_dir == own.cache_dir
    assert "anything" not in read
    assert set(read.hardware) == set(HARDWARE)
    assert "payload" not in str(read)


@pytest.mark.parametrize(
    "name", ["metrics.csv", ".run.json", "checkpoints", "exports/x", "checkpoints/a.ckpt"]
)
def test_links_that_lead_out_of_the_folder_are_refused(tmp_path, name):
    (tmp_path / "precious").mkdir()
    link = tmp_path / "run" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "precious")
    with pytest.raises(RunError, match=f"{link}: is a link to {tmp_path}/precious"):
        refuse_links(tmp_path / "run")


def test_links_within_the_folder_stay(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "metrics.csv").touch()
    (run / "latest").symlink_to(run / "metrics.csv")
    refuse_links(run)


@pytest.mark.parametrize("target", ["nothing", "loop"])
def test_a_link_that_leads_nowhere_is_named(tmp_path, target):
    (tmp_path / "loop").symlink_to(tmp_path / target)
    with pytest.raises(RunError, match=f"{tmp_path}/loop: is a link that leads nowhere"):
        refuse_links(tmp_path)

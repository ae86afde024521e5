"""Options are checked by the classes that use them, and what is wrong is told with its place."""

from dataclasses import fields

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf

from harness.checks.config import OPTIONS, check_config
from harness.errors import RunError
from lightning_modules.errors import OptionError
from lightning_modules.options import require as requiring
from tests.test_conf import CONF, MANDATORY, composed, targets
from tests.test_conf import OPTIONS as PRESETS


@pytest.mark.parametrize(("target", "options_class"), OPTIONS.items(), ids=str)
def test_each_class_is_checked_by_the_options_that_it_is_built_from(target, options_class):
    assert getattr(get_object(target), "options_class", options_class) is options_class
    assert fields(options_class)


def test_whatever_the_presets_build_is_in_the_table():
    """The ground truth of the landmarks has no options, and neither has no reward at all."""
    named = {
        target
        for group in ("algo", "model", "reward")
        for file in (CONF / group).rglob("*.yaml")
        for target in targets(OmegaConf.to_container(OmegaConf.load(file)))
        if target.startswith("lightning_modules.")
    }
    assert named - OPTIONS.keys() == {
        f"lightning_modules.rewards.programmed.{name}" for name in ("GoldReward", "NoReward")
    }


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["algo.iterations=abc"], r"^algo\.iterations=abc: must be a whole number"),
        (["hardware.checkpointing=maybe"], r"^hardware\.checkpointing=maybe: must be one of true"),
        (["algo.micro_batch_tokens=many"], r"^algo\.micro_batch_tokens=many: must be a number of"),
        (["algo.gamma=[1]"], r"^algo\.gamma=\[1\]: must be a number$"),
        (["stages.sft.epochs=many"], r"^stages\.sft\.epochs=many: must be a whole number"),
        (["algo.iterations=1.5"], r"^algo\.iterations=1\.5: must be a whole number$"),
        (["algo.iterations=true"], r"^algo\.iterations=True: must be a whole number$"),
        (["algo.max_grad_norm=abc"], r"^algo\.max_grad_norm=abc: must be a number or null$"),
        (["algo.clip_range=abc"], r"^algo\.clip_range=abc: "),
        (["algo.adaptive_beta=abc"], r"^algo\.adaptive_beta=abc: must be {target"),
        (
            ["algo.adaptive_beta={target: a, horizon: 1}"],
            r"^algo\.adaptive_beta\.target=a: must be a number above 0$",
        ),
        (["algo.optimizer=adamw"], r"^algo\.optimizer=adamw: .* give algo/optimizer=adamw"),
        (["model.lr.policy=fast"], r"^algo\.optimizer\.lr=fast: must be a number"),
        (["model.lr.policy=nan"], r"^algo\.optimizer\.lr=nan: must be a number"),
        (["model.lr.policy=null"], r"^algo\.optimizer\.lr=None: must be a number"),
        (
            ["model.pretrained=x", "algo.optimizer.lr=fast"],
            r"^algo\.optimizer\.lr=fast: must be a number",
        ),
        (["+adapter.lr_multiplier=3"], r"^adapter\.lr_multiplier: is gone: .*algo\.optimizer\.lr"),
        (["model.lr.sft=-1"], r"^stages\.sft\.optimizer\.lr=-1: must be a number"),
        (
            [
                "reward=combined",
                "reward.rewards.function.path=math:floor",
                "reward.weights.function=a",
            ],
            r"^reward\.weights\.function=a: must be a number$",
        ),
        (["hardware.frozen_precision=half"], r"^hardware\.frozen_precision=half: must be float32"),
        (["adapter=qlora", "adapter.bits=8"], r"^adapter\.bits=8: must be 4, or null"),
        (["+adapter.bits=4"], r"^adapter\.bits=4: is for adapters: adapter=qlora"),
        (["model.attn_implementation=org/kernel"], r"^model\.attn_implementation=org/kernel: must"),
        (["reward.normalise=often"], r"^reward\.normalise=often: must be true or false$"),
        (["+model.lora=1"], r"^model\.lora: model=.* has no such option"),
        (["stages.sft.epochs=0"], r"^stages\.sft\.epochs=0: "),
        (
            ["+algo.gama=1"],
            r"^algo\.gama: algo=ppo has no such option; did you mean algo\.gamma",
        ),
        (["~algo.gamma"], r"^algo\.gamma: algo=ppo needs it, and it is not there"),
        (["algo.gamma=${algo.gama}"], r"^algo\.gamma: .*algo\.gama"),
        (
            ["reward=combined", "reward.rewards.function.path=x"],
            r"^reward\.rewards\.function\.path=x",
        ),
        (
            [
                "reward=combined",
                "reward.rewards.function.path=math:floor",
                "+reward.rewards.mine=5",
                "+reward.weights.mine=1",
            ],
            r"^reward\.rewards\.mine=5: must be a reward",
        ),
    ],
)
def test_a_wrong_option_is_told_with_its_place(overrides, said, configure, tmp_path):
    with pytest.raises(OptionError, match=said):
        check_config(configure(tmp_path, *overrides))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("adapter=qlora", "adapter.bits=4"),
        ("algo/optimizer=adamw_8bit", "algo.optimizer=AdamW8bit"),
        ("algo/optimizer@stages.sft.optimizer=adamw_8bit_paged", "stages.sft.optimizer=PagedAdamW"),
    ],
)
def test_a_package_that_is_not_there_is_told_with_its_extra(
    override, said, configure, tmp_path, monkeypatch
):
    monkeypatch.setattr(requiring, "find_spec", lambda name: None)
    with pytest.raises(OptionError) as told:
        check_config(configure(tmp_path, override))
    assert str(told.value).startswith(said)
    assert "needs bitsandbytes" in str(told.value)
    assert str(told.value).endswith("pip install 'rlhf-ladder[qlora]'")


def test_a_model_of_ones_own_must_be_named():
    with pytest.raises(OptionError, match=r"^model\.pretrained is missing: give a hub id or a f"):
        check_config(composed("model=pretrained"))


@pytest.mark.parametrize(
    "option", [p for p in PRESETS if p.split("=")[0] in ("algo", "model", "reward", "data")]
)
def test_every_preset_is_right(option):
    mandatory = [MANDATORY[option]] if option in MANDATORY else []
    if option == "reward=function":
        mandatory = ["reward.path=math:floor"]
    if option == "reward=combined":
        mandatory = ["reward.rewards.function.path=math:floor"]
    if option == "reward=judge":
        mandatory = ["judge=helpful", "judge.model=my_judge"]
    if option == "reward=none":  # of evaluations by a judge
        mandatory = ["task=evaluate", "policy=x", "judge=pairwise", "judge.model=my_judge"]
    check_config(composed(option, *mandatory))


def test_rewards_within_rewards_are_checked_too(configure, tmp_path):
    cfg = configure(tmp_path, "reward=combined", "reward.rewards.function.path=math:floor")
    inner = OmegaConf.to_container(cfg.reward)
    inner["rewards"]["function"]["path"] = "math:nothing"
    OmegaConf.update(cfg, "reward.rewards.function", inner, force_add=True)
    with pytest.raises(OptionError, match=r"^reward\.path=math:nothing|reward\.rewards\.function"):
        check_config(cfg)


def test_an_extensions_own_reward_may_have_options_of_the_same_names(configure, tmp_path):
    """What is not in the table is checked when it is built."""
    cfg = configure(tmp_path)
    mine = {"_target_": "mine.Reward", "name": "mine", "rewards": {"short": 1.0}}
    OmegaConf.update(cfg, "reward", OmegaConf.create(mine), merge=False)
    check_config(cfg)


def test_a_value_that_must_be_given_is_asked_for_by_its_name(configure, tmp_path):
    with pytest.raises(RunError, match=r"data\.path has no value: give data\.path=\.\.\."):
        check_config(configure(tmp_path, "data=files"))


def test_a_preset_of_ones_own_with_old_names_is_told_the_new(configure, tmp_path):
    """A whole preset may lack `recommended`, to which others refer: the name comes first."""
    cfg = configure(tmp_path)
    old = OmegaConf.to_container(cfg.data, resolve=False)
    old["suits"] = old.pop("recommended")
    OmegaConf.update(cfg, "data", OmegaConf.create(old), merge=False)
    with pytest.raises(OptionError, match=r"^data\.suits: is called data\.recommended now$"):
        check_config(cfg)

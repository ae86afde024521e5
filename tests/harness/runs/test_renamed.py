"""Old names: refused with the new one on the command line and in presets, read in old runs."""

import pytest

from harness.runs.renamed import OPTIONS, TARGETS, refuse_old_keys, refuse_old_names, with_new_names
from harness.tasks.train import train
from lightning_modules.errors import OptionError


@pytest.mark.parametrize("prefix", ["", "+", "++", "~"])
@pytest.mark.parametrize(
    ("key", "new"),
    [("data.suits.beta", "data.recommended.beta"), ("data.overlong", "data.too_long")],
)
def test_an_override_with_an_old_name_is_refused_with_the_new_one(prefix, key, new):
    with pytest.raises(OptionError, match=rf"^{key}: is called {new} now$"):
        refuse_old_names(["algo=ppo", f"{prefix}{key}=1"])


def test_the_multiplier_of_adapters_is_refused_with_what_to_type_instead():
    with pytest.raises(OptionError, match=r"^adapter\.lr_multiplier: .*algo\.optimizer\.lr="):
        refuse_old_names(["adapter=lora", "adapter.lr_multiplier=3"])
    refuse_old_names(["adapter.lr_multipliers=3"])


def config_with(factor: float | None, rate: float, *, lora: bool) -> dict:
    """A run's config whose learning rates are `rate`, by an earlier version if `factor` is not
    None.
    """
    adapter = {"name": "any", "config": {"r": 16} if lora else None}
    return {
        "algo": {"optimizer": {"lr": rate, "weight_decay": 0.01}, "beta": 0.1},
        "stages": {"sft": {"optimizer": {"lr": rate}}},
        "model": {"lr": {"sft": rate, "policy": rate}, "config": {}},
        "adapter": adapter if factor is None else adapter | {"lr_multiplier": factor},
    }


@pytest.mark.parametrize("lora", [False, True])
def test_an_old_run_has_the_rates_that_it_was_trained_with(lora):
    old = config_with(10.0, 3e-4, lora=lora)
    assert with_new_names(old) == config_with(None, 3e-3 if lora else 3e-4, lora=lora)
    assert old == config_with(10.0, 3e-4, lora=lora)


def test_other_names_are_let_through():
    refuse_old_names(["algo.beta=0.1", "data.overlonger=1", "data.path=data.suits.jsonl", "-m"])
    refuse_old_keys({"data": {"recommended": {}, "too_long": "cut"}})


def test_a_preset_with_an_old_name_is_refused(configure, tmp_path):
    with pytest.raises(OptionError, match=r"data\.overlong: is called data\.too_long now"):
        train(configure(tmp_path, "+data.overlong=cut"))
    target = "lightning_modules.backbone.Backbone"
    with pytest.raises(OptionError, match=r"model\._target_=.*: is .*models"):
        train(configure(tmp_path, f"model._target_={target}"))


def test_the_config_of_an_old_run_has_todays_names():
    old, new = ({"data": {}, "model": {"config": {}}, "seed": 0} for _ in range(2))
    for (was, now), value in zip(OPTIONS.items(), ({"beta": 0.1}, "cut"), strict=True):
        old["data"][was.split(".")[1]] = value
        new["data"][now.split(".")[1]] = value
    for was, now in TARGETS.items():
        old["model"]["_target_"], new["model"]["_target_"] = was, now
        assert with_new_names(old) == new
    assert with_new_names(new) == new


def test_an_old_run_has_what_does_the_same_with_todays_memory():
    algo = {"micro_batch_size": 64, "micro_batch_tokens": 4096}
    old = {"hardware": {"name": "gpu"}, "algo": algo}
    found = with_new_names(old)
    assert found["hardware"] == {"name": "gpu", "checkpointing": "auto", "sampler": "auto"}
    assert found["algo"] == {"micro_batch_size": None, "micro_batch_tokens": "auto"}
    for size, tokens in ((8, 4096), (64, None)):
        given = {"micro_batch_size": size, "micro_batch_tokens": tokens}
        assert with_new_names({"hardware": {}, "algo": given})["algo"] == given
    assert with_new_names(found | {"algo": algo})["algo"] == algo


def test_an_old_run_had_no_thumbs():
    new = {
        "data": {"columns": {"chosen": "good", "response": "response", "label": "label"}},
        "stages": {
            "reward_model": {
                "_target_": "lightning_modules.reward_model.RewardModel",
                "thumb_weight": 1.0,
            }
        },
    }
    old = {
        "data": {"columns": {"chosen": "good"}},
        "stages": {"reward_model": {"_target_": "lightning_modules.reward_model.RewardModel"}},
    }
    assert with_new_names(old) == with_new_names(new) == new

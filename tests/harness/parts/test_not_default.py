"""What is not default is what somebody changed: no more, no less, and no secret."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from harness.parts.not_default import not_default
from harness.program import CONFIGS


@pytest.fixture
def changed():
    def changed(*typed: str) -> list[str]:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            cfg = compose("config", list(typed), return_hydra_config=True)
            cfg.hydra.job.num = 0
            cfg.hydra.runtime.output_dir = "."
            HydraConfig.instance().set_config(cfg)
            OmegaConf.set_struct(cfg, False)
            cfg.pop("hydra")
            return not_default(cfg)

    return changed


def test_nothing_is_changed_where_nothing_is_typed_or_the_default_is(changed):
    assert changed() == []
    assert changed("algo=ppo", "seed=0", "algo.iterations=80", "task=train") == [
        "algo.iterations=80 (80)"  # it no longer follows the data
    ]


def test_choices_options_and_what_follows_from_neither(changed):
    # algo.seed is ${seed}, and the learning rate that of the model: they follow, and are not named.
    assert changed("seed=3", "adapter=lora", "algo.clip_range=[0.2,0.3]") == [
        "adapter=lora",
        "seed=3 (0)",
        "algo.clip_range=[0.2, 0.3] (0.2)",
    ]
    assert changed("algo=reinforce", "algo.beta=0.5", "resume=auto", "cache_dir=there") == [
        "algo=reinforce",
        "algo.beta=0.5 (0.18)",
    ]


def test_a_budget_is_one_choice_that_the_options_follow(changed):
    assert changed("budget=smoke") == ["budget=smoke"]
    allowed = OmegaConf.load(CONFIGS / "budget" / "smoke.yaml").iterations
    assert changed("budget=smoke", "algo.iterations=9") == [
        "budget=smoke",
        f"algo.iterations=9 ({allowed})",
    ]


def test_what_has_no_default_and_what_is_secret(changed):
    told = changed(
        "data=files",
        "data.path=pairs.jsonl",
        "+hub.api_key=abcdef",
        "algo.adaptive_beta={target:6,horizon:1000}",
    )
    assert "data=files" in told
    assert "data.path=pairs.jsonl" in told
    assert "hub.api_key=<secret>" in told
    assert "algo.adaptive_beta.target=6" in told

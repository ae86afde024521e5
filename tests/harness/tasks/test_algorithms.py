"""Each rung of the ladder through the same entry as the command line, at a tiny budget."""

import pytest
import torch
from hydra.utils import instantiate
from peft import PeftModel
from transformers import AutoModelForCausalLM

from harness.tasks.train import train
from lightning_modules.errors import OptionError
from lightning_modules.policy import PolicyModule
from tests.tolerances import of_model

ALGORITHMS = ("ppo", "reinforce", "rloo", "a2c")
STATEFUL = ("algo.adaptive_beta={target: 0.05, horizon: 40}", "algo.normalise_scores=true")


def columns(folder) -> list[str]:
    return (folder / "metrics.csv").read_text(encoding="utf-8").splitlines()[0].split(",")


def test_every_algorithm_trains_exports_and_logs_the_same_columns(configure, tmp_path, metrics_of):
    """With one reference and one reward model for all: so they can be compared."""
    summaries = {}
    for name in ALGORITHMS:
        overrides = (f"algo={name}", "algo.iterations=2", "algo.prompts_per_iteration=4")
        summaries[name] = train(configure(tmp_path / name, *overrides))
    for name, summary in summaries.items():
        samples = 4 if name == "rloo" else 1
        rows = metrics_of(tmp_path / name)
        assert [float(row["rollout/episodes"]) for row in rows] == [4 * samples, 8 * samples]
        assert summary["algo"] == name
        assert summary["train/steps"] == (4 if name == "ppo" else 1)
        assert summary["train/grad_norm"] > 0
        assert (summary["train/value_loss"] == 0) == (name in ("reinforce", "rloo"))
        assert columns(tmp_path / name) == columns(tmp_path / "ppo")
        for stage in ("sft", "reward_model"):
            key = f"stages/{stage}/path"
            assert summary[key] == summaries["ppo"][key]
        assert summary["reference/score"] == summaries["ppo"]["reference/score"]
        exported = AutoModelForCausalLM.from_pretrained(tmp_path / name / "model")
        assert exported(torch.arange(5)[None]).logits.isfinite().all()


def test_a_broken_a2c_run_resumes_as_if_it_had_not_been(
    configure, tmp_path, metrics_of, monkeypatch
):
    """The optimiser's moments over value steps, beta and the scores' moments go on."""
    overrides = ("algo=a2c", "algo.value_updates=3", *STATEFUL)
    train(configure(tmp_path / "whole", *overrides))
    collect = PolicyModule.collect

    def power_cut(self, batch):
        if self.current_epoch == 2:
            raise RuntimeError("power cut")
        return collect(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(PolicyModule, "collect", power_cut)
        with pytest.raises(RuntimeError, match="power cut"):
            train(configure(tmp_path / "broken", *overrides))
    train(configure(tmp_path / "broken", *overrides, "resume=auto"))
    rows = metrics_of(tmp_path / "whole")
    assert metrics_of(tmp_path / "broken") == rows
    assert len({row["rollout/beta"] for row in rows}) == 4
    whole, broken = (
        torch.load(next((tmp_path / name / "checkpoints").iterdir()), weights_only=True)
        for name in ("whole", "broken")
    )
    assert broken["progress"] == whole["progress"]
    assert broken["state_dict"].keys() == whole["state_dict"].keys()
    assert all(torch.equal(x, whole["state_dict"][n]) for n, x in broken["state_dict"].items())


def test_a_critic_may_be_a_second_adapter_that_is_not_exported(configure, tmp_path):
    summary = train(
        configure(
            tmp_path,
            "algo=a2c",
            "algo.critic=adapter",
            "adapter=lora",
            "algo.iterations=2",
            "algo.optimizer.lr=1e-2",
        )
    )
    assert summary["train/value_loss"] > 0
    (path,) = (tmp_path / "checkpoints").iterdir()
    state = torch.load(path, weights_only=True)["state_dict"]
    for part in (".default.", ".value.", "value_head"):
        assert any(part in name for name in state)
    assert all("lora_" in name or "value_head" in name for name in state)
    assert [path.name for path in (tmp_path / "adapter").iterdir() if path.is_dir()] == []

    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    base = AutoModelForCausalLM.from_pretrained(f"{summary['stages/sft/path']}/model")
    ids = torch.arange(7)[None]
    with torch.no_grad():
        before = base(ids).logits
        adapted = PeftModel.from_pretrained(base, tmp_path / "adapter")(ids).logits
        torch.testing.assert_close(plain(ids).logits, adapted, rtol=0, atol=of_model(base))
    assert (adapted - before).abs().max() > 1e-3


@pytest.mark.parametrize("algorithm", ["a2c", "ppo"])
def test_a_second_adapter_without_a_first_is_refused_before_anything_is_made(
    algorithm, configure, tmp_path
):
    overrides = (f"algo={algorithm}", "algo.critic=adapter", f"cache_dir={tmp_path / 'cache'}")
    with pytest.raises(OptionError, match=r"^algo\.critic=adapter: needs adapter=lora"):
        train(configure(tmp_path / "run", *overrides))
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize(
    ("algorithm", "override", "message"),
    [
        ("reinforce", "algo.returns=all", r"algo\.returns=all"),
        ("reinforce", "algo.epochs=2", r"algo\.importance=none: only the first of 2"),
        ("reinforce", "algo.baseline=leave_one_out", r"algo\.samples_per_prompt=1"),
        ("a2c", "algo.value_updates=0", r"algo\.value_updates=0"),
        ("a2c", "algo.critic=null", r"algo\.critic=None"),
        ("ppo", "algo.clip_range=[0.1]", r"algo\.clip_range=\[0\.1\]"),
        ("ppo", "algo.clip_range=null", r"algo\.clip_range=None"),
        ("ppo", "algo.dual_clip=1", r"algo\.dual_clip=1"),
        ("ppo", "algo.adaptive_beta={target: 0, horizon: 9}", r"algo\.adaptive_beta\.target=0"),
        ("ppo", "algo.target_kl=0", r"algo\.target_kl=0"),
    ],
)
def test_nonsense_is_refused_by_name_before_anything_is_made(
    algorithm, override, message, configure, tmp_path
):
    cfg = configure(
        tmp_path / "run", f"algo={algorithm}", override, f"cache_dir={tmp_path / 'cache'}"
    )
    with pytest.raises(Exception, match=message) as caught:
        train(cfg)
    assert isinstance(caught.value.__cause__ or caught.value, OptionError)
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_range_of_two_numbers_reaches_the_algorithm(configure, tmp_path):
    cfg = configure(tmp_path, "algo=ppo", "algo.clip_range=[0.1,0.3]", *STATEFUL)
    module = instantiate(cfg.algo)
    assert module.options.clip_bounds == (0.1, 0.3)
    assert (module.options.adaptive_beta.target, module.options.adaptive_beta.horizon) == (0.05, 40)

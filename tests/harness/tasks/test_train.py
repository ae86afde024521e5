"""The whole pipeline at a tiny budget, through the same entry as the command line."""

import json
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from harness.errors import RunError
from harness.tasks.train import train
from lightning_modules.errors import OptionError
from lightning_modules.policy import PolicyModule
from tests.tolerances import of_model

EVERY_ITERATION = {
    "rollout/score",
    "rollout/score_std",
    "rollout/reward",
    "rollout/kl",
    "rollout/kl_k3",
    "rollout/entropy",
    "rollout/length",
    "rollout/eos_rate",
    "rollout/episodes",
    "rollout/tokens",
    "train/policy_loss",
    "train/value_loss",
    "train/loss",
    "train/clip_fraction",
    "train/ratio_outside",
    "train/approx_kl",
    "train/ratio_max",
    "train/grad_norm",
    "train/lr",
    "train/explained_variance",
}
CLOCK = {
    "time/collect",
    "time/score",
    "time/update",
    "time/iteration",
    "throughput/tokens_per_s",
    "throughput/episodes_per_s",
}
EVALUATION = {"val/score", "val/reward", "val/kl", "val/win_rate", "val/gold"}
REFERENCE = {"reference/score", "reference/score_std", "reference/gold", "reference/length"}


@pytest.mark.parametrize("model", ["llama", "gpt2"])
def test_ppo_trains_logs_and_exports(model, configure, tmp_path, metrics_of):
    summary = train(configure(tmp_path, "algo=ppo", f"model={model}"))
    assert summary == json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert summary.keys() >= EVERY_ITERATION | EVALUATION | REFERENCE | {"seed", "commit"}
    assert "stages/reward_model/val/bayes_accuracy" in summary

    rows = metrics_of(tmp_path)
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    assert [float(row["rollout/episodes"]) for row in rows] == [8, 16, 24, 32]
    for row in rows:
        assert all(row[name] != "" for name in EVERY_ITERATION)
    assert [row["val/score"] != "" for row in rows] == [False, True, False, True]
    header = (tmp_path / "metrics.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
    assert set(header) >= CLOCK
    glossary = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert [name for name in header if name != "step" and f"`{name}`" not in glossary] == []

    lines = (tmp_path / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["iteration"] for line in lines} == {2, 4}
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    policy = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Where is the Taj Mahal?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    assert policy(**prompt).logits.isfinite().all()


def test_the_reference_starts_at_zero_kl_and_the_first_ratio_is_one(
    configure, tmp_path, metrics_of
):
    """With a model whose config asks for dropout, which an update must not follow."""
    train(
        configure(
            tmp_path,
            "algo=ppo",
            "algo.epochs=1",
            "algo.minibatches=1",
            "algo.iterations=1",
            "+model.config.attention_dropout=0.5",
        )
    )
    (row,) = metrics_of(tmp_path)
    # One step has hardly changed what rounding may come to in a log-ratio; k3 is half its square.
    tolerance = of_model(AutoModelForCausalLM.from_pretrained(tmp_path / "model"))
    assert float(row["train/ratio_max"]) == pytest.approx(1, abs=tolerance)
    assert float(row["train/clip_fraction"]) == 0
    assert float(row["train/approx_kl"]) == pytest.approx(0, abs=tolerance**2)
    assert abs(float(row["rollout/kl"])) <= float(row["rollout/length"]) * tolerance


def test_the_same_seed_repeats_and_another_does_not(configure, tmp_path, metrics_of):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        train(configure(tmp_path / name, f"seed={seed}"))
    a, b, c = (metrics_of(tmp_path / name) for name in "abc")
    assert a == b
    assert a != c


def test_micro_batches_change_memory_and_not_results(configure, tmp_path, metrics_of):
    for size in (3, 100):
        train(configure(tmp_path / str(size), f"algo.micro_batch_size={size}"))
    small, large = metrics_of(tmp_path / "3"), metrics_of(tmp_path / "100")
    for row, other in zip(small, large, strict=True):
        for name in EVERY_ITERATION:
            assert float(row[name]) == pytest.approx(float(other[name]), rel=2e-3, abs=2e-4), name


@pytest.mark.parametrize(("stop_at", "warmup"), [(1, 2), (3, 0)])
def test_a_broken_run_resumes_as_if_it_had_not_been(
    stop_at, warmup, configure, tmp_path, metrics_of, monkeypatch
):
    warmup = f"algo.critic_warmup={warmup}"
    train(configure(tmp_path / "whole", warmup))
    collect = PolicyModule.collect

    def power_cut(self, batch):
        if self.current_epoch == stop_at:
            raise RuntimeError("power cut")
        return collect(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(PolicyModule, "collect", power_cut)
        with pytest.raises(RuntimeError, match="power cut"):
            train(configure(tmp_path / "broken", warmup))
    train(configure(tmp_path / "broken", warmup, "resume=auto"))
    assert metrics_of(tmp_path / "broken") == metrics_of(tmp_path / "whole")
    whole, broken = (
        [
            json.loads(line)
            for line in (tmp_path / name / "samples.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        for name in ("whole", "broken")
    )
    assert whole == broken
    for a, b in zip(
        *(
            AutoModelForCausalLM.from_pretrained(tmp_path / name / "model").parameters()
            for name in ("whole", "broken")
        ),
        strict=True,
    ):
        assert torch.equal(a, b)


def test_a_finished_run_can_be_made_longer(configure, tmp_path, metrics_of):
    train(configure(tmp_path / "four", "algo.lr_decay=none"))
    train(configure(tmp_path / "two", "algo.lr_decay=none", "algo.iterations=2"))
    train(configure(tmp_path / "two", "algo.lr_decay=none", "resume=auto"))
    assert metrics_of(tmp_path / "two") == metrics_of(tmp_path / "four")


def test_resuming_with_another_config_names_what_differs(configure, tmp_path):
    train(configure(tmp_path / "run"))
    with pytest.raises(RunError, match=r"algo\.beta: 0\.\d+ then, 0\.77 now"):
        train(configure(tmp_path / "other", f"resume={tmp_path / 'run'}", "algo.beta=0.77"))


def test_a_finished_run_has_nothing_to_resume(configure, tmp_path):
    first = train(configure(tmp_path))
    assert train(configure(tmp_path, "resume=auto")) == first


def test_an_earlier_run_in_the_same_folder_is_set_aside(configure, tmp_path):
    train(configure(tmp_path))
    old = (tmp_path / "summary.json").read_bytes()
    train(configure(tmp_path, "seed=5"))
    assert (tmp_path / "earlier-1" / "summary.json").read_bytes() == old
    assert json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))["seed"] == 5


def test_checkpoints_hold_what_is_trained_as_tensors_and_plain_values(configure, tmp_path):
    train(configure(tmp_path, "adapter=lora", "algo.critic=head"))
    (path,) = (tmp_path / "checkpoints").iterdir()
    state = torch.load(path, weights_only=True)["state_dict"]
    assert state
    assert all("lora_" in name or "value_head" in name for name in state)


def test_lora_shares_one_base_and_exports_plain_and_adapter_folders(configure, tmp_path):
    summary = train(configure(tmp_path, "adapter=lora"))
    assert summary["val/kl"] != 0
    AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()
    scorer = AutoModelForSequenceClassification.from_pretrained(
        f"{summary['stages/reward_model/path']}/model"
    )
    assert scorer.score.weight.abs().sum() > 0


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "adagrad"])
def test_optimisers_are_interchangeable(optimizer, configure, tmp_path):
    summary = train(configure(tmp_path, f"algo/optimizer={optimizer}", "algo.iterations=1"))
    assert summary["train/grad_norm"] > 0


def test_gold_as_the_reward_equals_gold(configure, tmp_path):
    summary = train(configure(tmp_path, "reward=gold", "algo.critic=head"))
    assert summary["val/score"] == pytest.approx(summary["val/gold"], abs=1e-6)
    assert "stages/reward_model/path" not in summary


def test_a_function_as_the_reward(configure, tmp_path, monkeypatch):
    (tmp_path / "my_reward.py").write_text(
        "def score(prompts, responses):\n    return [float(len(r)) for r in responses]\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    summary = train(configure(tmp_path / "run", "reward=function", "reward.path=my_reward:score"))
    assert summary["reference/score"] > 0


def test_frozen_models_stay_frozen(configure, tmp_path, monkeypatch):
    seen = []
    bind = PolicyModule.bind

    def remember(self, **parts):
        seen.append((parts["reference"]._lm, parts["reward"].scorer.model))
        self.before = [{k: x.clone() for k, x in m.state_dict().items()} for m in seen[-1]]
        seen.append(self)
        return bind(self, **parts)

    monkeypatch.setattr(PolicyModule, "bind", remember)
    train(configure(tmp_path))
    frozen, module = seen
    for model, before in zip(frozen, module.before, strict=True):
        assert not any(m.training for m in model.modules())
        assert all(torch.equal(before[k], x) for k, x in model.state_dict().items())
    assert not any(m.training for m in module.modules())


def test_without_beta_the_reference_is_not_run_in_training(configure, tmp_path, metrics_of):
    train(configure(tmp_path, "algo.beta=0"))
    rows = metrics_of(tmp_path)
    assert "rollout/kl" not in rows[0]
    assert float(rows[-1]["val/kl"]) != 0
    assert rows[-1]["rollout/reward"] == rows[-1]["rollout/score"]


def test_supervised_runs_of_their_own(configure, tmp_path):
    for name, metric in (("sft", "val/loss"), ("reward_model", "val/accuracy")):
        summary = train(configure(tmp_path / name, f"algo={name}"))
        assert summary[metric] > 0
        assert (tmp_path / name / "model" / "model.safetensors").is_file()
        assert (tmp_path / name / "metrics.csv").read_text(encoding="utf-8")


def test_own_files_end_to_end(configure, tmp_path):
    rows = [
        {"prompt": f"Say {i % 12}", "chosen": f"It is {i % 12}.", "rejected": f"No {i}"}
        for i in range(48)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    overrides = ("data=files", f"data.path={path}", "algo.iterations=1")
    summary = train(configure(tmp_path / "run", *overrides))
    assert summary["data/rows"] == 48
    assert "val/gold" not in summary


@pytest.mark.parametrize(
    "override",
    [
        "algo.clip_range=0",
        "algo.minibatches=3",
        "algo.samples_per_prompt=0",
        "algo.gamma=1.5",
        "algo.lam=-0.1",
        "algo.beta=-1",
        "algo.temperature=0",
        "algo.critic=none",
        "algo.critic=null",
        "algo.max_grad_norm=0",
        "algo.normalise=batch",
    ],
)
def test_nonsense_is_refused_by_name_before_anything_is_made(override, configure, tmp_path):
    name, value = override.split("=")
    value = "None" if value == "null" else value
    with pytest.raises(Exception, match=r"algo\.") as caught:
        train(configure(tmp_path / "run", override, f"cache_dir={tmp_path / 'cache'}"))
    error = caught.value.__cause__ or caught.value
    assert isinstance(error, OptionError)
    assert str(error).startswith(f"{name}={value}")
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "run" / "run.json").exists()

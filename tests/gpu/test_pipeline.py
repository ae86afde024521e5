"""Whole runs with hardware=gpu: stages, policy, checkpoints, export."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from harness.tasks.export import export_run
from harness.tasks.train import train
from lightning_modules.models.scorers import head_in_files

pytestmark = pytest.mark.gpu

QUICK = ("algo.iterations=2", "algo.evaluate_every=1", "callbacks.trace_every=1")


@pytest.mark.parametrize(
    "options",
    [
        ("algo=ppo",),
        ("algo=ppo", "adapter=lora", "algo.critic=adapter"),
        ("algo=a2c", "adapter=lora", "model=gpt2"),
        ("algo=rloo", "hardware.precision=32-true"),
    ],
)
def test_a_run_passes_its_own_check_and_ends(configure, hardware, tmp_path, metrics_of, options):
    mixed = () if "hardware.precision=32-true" in options else ("hardware.precision=bf16-mixed",)
    summary = train(configure(tmp_path, hardware, *mixed, *options, *QUICK))
    assert 0 <= summary["val/gold"] <= 1
    assert 0 <= summary["val/win_rate"] <= 1
    # Of a policy that has hardly moved; k3 is never negative, but for rounding.
    assert -1e-3 < summary["val/kl_k3"] < 1
    assert len(metrics_of(tmp_path)) == 2
    assert (tmp_path / "traces.jsonl").exists()


def test_an_export_loads_on_the_cpu_and_says_the_same(configure, hardware, tmp_path, device):
    train(configure(tmp_path, hardware, "hardware.precision=bf16-mixed", *QUICK))
    lm = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    assert {(p.dtype, p.device.type) for p in lm.parameters()} == {(torch.float32, "cpu")}
    # The last checkpoint holds the very weights that were exported.
    checkpoint = sorted((tmp_path / "checkpoints").glob("*.ckpt"))[-1]
    state = torch.load(checkpoint, weights_only=True, map_location="cpu")["state_dict"]
    for name, parameter in lm.named_parameters():
        assert torch.equal(parameter, state[f"model.lm.{name}"]), name
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        here = lm(ids).logits
        there = lm.to(device)(ids.to(device)).logits.cpu()
    torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-4)


def test_a_checkpoint_of_the_gpu_is_exported_without_one(configure, hardware, tmp_path):
    cfg = configure(tmp_path / "run", hardware, "hardware.precision=bf16-mixed", *QUICK)
    train(cfg)
    folder = tmp_path / "run"
    config = (
        (folder / "config.yaml")
        .read_text(encoding="utf-8")
        .replace("accelerator: gpu", "accelerator: cpu")
    )
    (folder / "config.yaml").write_text(config, encoding="utf-8")
    task = configure(tmp_path / "task", "task=export", f"run={folder}", f"to={tmp_path / 'out'}")
    target = export_run(task)
    there = AutoModelForCausalLM.from_pretrained(folder / "model").state_dict()
    for name, value in AutoModelForCausalLM.from_pretrained(target / "model").state_dict().items():
        assert torch.equal(value, there[name]), name


@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_a_reward_model_is_close_to_the_cpus(configure, hardware, tmp_path, adapter):
    """Both from one reference, which the first run leaves in the cache. At the rate that LoRA has
    otherwise, scores grow so that rounding grows with them.
    """
    options = ("algo=reward_model", f"adapter={adapter}", "hardware.precision=32-true")
    options += ("algo.optimizer.lr=1e-3",)
    here = train(configure(tmp_path / "here", *options, "hardware=cpu"))
    there = train(configure(tmp_path / "there", *options, hardware))
    assert there["stages/sft/reused"]
    for name in ("val/loss", "val/score_chosen"):
        assert there[name] == pytest.approx(here[name], abs=5e-3), name
    weights = [
        AutoModelForSequenceClassification.from_pretrained(tmp_path / place / "model").score.weight
        for place in ("here", "there")
    ]
    torch.testing.assert_close(*weights, rtol=1e-2, atol=1e-3)


def test_a_reward_model_with_adapters_learns_in_mixed_precision(configure, hardware, tmp_path):
    options = ("algo=reward_model", "adapter=lora", "hardware.precision=bf16-mixed")
    summary = train(configure(tmp_path, hardware, *options))
    assert 0 <= summary["val/accuracy"] <= 1
    assert head_in_files(str(tmp_path / "model")).dtype == torch.float32

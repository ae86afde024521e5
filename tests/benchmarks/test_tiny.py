"""Every benchmark runs at toy size, without a peer, and prints what it is for."""

import json

import pytest
import torch

from benchmarks import gpu, log_probs, memory, policy, sampling
from benchmarks.parts import policy_speed
from benchmarks.parts.bench import Bench

# Threads that wait for others by spinning make a busy machine slow.
TINY = ("--tiny", "--threads", 1)


@pytest.mark.parametrize("algorithm", ["ppo", "rloo"])
def test_a_policy_is_timed(algorithm, typed, tmp_path):
    printed = typed(policy, algorithm, *TINY, "--folder", tmp_path)
    assert "8 responses of 5 tokens" in printed
    assert f"| {algorithm}, tiny, here |" in printed
    assert "trl |" not in printed


@pytest.mark.parametrize("given", [["--tiny"], ["--model", "."]])
def test_whole_runs_are_held_against_another_checkouts(given, typed, tmp_path):
    printed = typed(policy, "real", *given, "--against", tmp_path, "--folder", tmp_path)
    assert "iteration 2.00" in printed
    assert "speed, here / against: 1.00" in printed


@pytest.mark.parametrize("given", [["--tiny"], ["--model", "."]])
def test_memory_of_four_roles_is_held_against_one(given, typed, tmp_path):
    printed = typed(policy, "memory", *given, "--folder", tmp_path)
    assert "memory, ppo / sft: 1.00" in printed
    assert "without the libraries: 1.00" in printed


def test_quality_is_what_the_run_itself_evaluated(typed, tmp_path):
    printed = typed(policy, "quality", *TINY, "--folder", tmp_path)
    folder = tmp_path / "quality" / "here-0"
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    for name in ("score", "gold", "kl"):
        assert f"{name} {summary[f'val/{name}']:.3f}" in printed


def test_sampling_is_timed(typed):
    printed = typed(sampling, *TINY)
    assert "tokens_per_s" in printed
    assert "plain / generate" in printed


def test_the_estimate_is_held_against_the_peak(typed):
    assert "small, LoRA" in typed(memory, *TINY)


def test_both_ways_to_log_probabilities_have_the_same_loss(typed):
    printed = typed(log_probs, *TINY)
    losses = {line.split("loss")[1] for line in printed.splitlines() if "loss" in line}
    assert len(losses) == 1, printed


@pytest.mark.parametrize(
    ("phase", "cases"),
    [
        ("env", None),
        ("peaks", None),
        ("sampling", ["float32 weights, autocast, buckets", "generate, 4 rows", "sample_tokens"]),
        ("graphs", None),
        ("update", ["1b, full", "8b, LoRA", "8b, qlora"]),
        ("peer", None),
    ],
)
def test_a_phase_of_the_gpu_script_runs_on_a_cpu(phase, cases, capsys, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    with torch.random.fork_rng():
        gpu.PHASES[phase](Bench(phase, tiny=True, cases=cases))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"phase"' in line]
    assert lines
    assert [line["error"] for line in lines if "error" in line] == []
    assert set(cases or ()) <= {line.get("case") for line in lines}


def test_products_of_a_step_are_those_of_its_passes():
    """By hand: one layer's weight, one head's, one token each."""
    size = policy_speed.Size(1, 1, 1, 1, 1, 1, 1, sequences=1)
    # Three passes of the policy and one of the reward; then four forward and backward ones.
    layers, head = 10.0, 1.0
    policy_pass = 2 * 2 * layers + 2 * head
    expected = 3 * policy_pass + 2 * 2 * layers + 4 * 3 * policy_pass
    assert policy_speed.products(size, layers, head, with_critic=False) == expected
    with_critic = expected + (1 + 4 * 3) * 2 * 2 * layers
    assert policy_speed.products(size, layers, head, with_critic=True) == with_critic

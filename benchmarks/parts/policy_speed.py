"""`policy.py ppo|rloo`: the same rollouts and updates here and by TRL, in turns."""

import argparse
import json
import random
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from benchmarks.parts.bench import Bench
from benchmarks.parts.composed import parameters
from benchmarks.parts.processes import ROOT, here, measured, ratios

UPDATES = 4  # passes over a rollout, of one minibatch each
SAMPLES = {"ppo": 1, "rloo": 4}
SAME_WEIGHTS = 1e-3  # what the marks of equal weights may differ by, as a share: other kernels


@dataclass(frozen=True)
class Size:
    """A Llama, and the sequences of a step."""

    hidden: int
    layers: int
    heads: int
    feed_forward: int
    vocabulary: int
    prompt_tokens: int
    response_tokens: int
    sequences: int
    key_heads: int | None = None
    tied: bool = False


SIZES = {
    "tiny": Size(32, 2, 2, 64, 64, 6, 5, 8),
    "toy": Size(192, 3, 4, 768, 2048, 24, 24, 64),
    "medium": Size(384, 6, 6, 1024, 16384, 48, 80, 24),
    "1b": Size(2048, 16, 32, 8192, 128256, 128, 128, 64, key_heads=8, tied=True),  # for a GPU
}


Sides = dict[str, tuple[list[str], dict[str, Any]]]  # the command of each, and its work


def speed(options: argparse.Namespace, folder: Path, peer: Path | None) -> None:
    """Seconds, CPU seconds and memory of both in turns, with the ratio of each round."""
    bench = Bench(options.what, options.tiny)
    reports: dict[str, list[dict[str, dict[str, float]]]] = {}
    for name in options.size:
        size = SIZES[name]
        work, flops = prepare(
            options.what, size, folder / name, steps=options.steps, threads=options.threads
        )
        taking_turns = sides(options.what, work, peer, "32-true")
        if options.bfloat16:
            ours, _ = taking_turns["here"]
            taking_turns["here, bf16"] = (ours, work | {"precision": "bf16-mixed"})
        print(
            f"\n{options.what}, {name}: {size.sequences} responses of {size.response_tokens} tokens"
            f" to {size.sequences // SAMPLES[options.what]} prompts of {size.prompt_tokens} and"
            f" {UPDATES} updates a step, {options.threads} threads, torch {torch.__version__}",
            flush=True,
        )
        rounds = []
        for _ in range(options.rounds):
            rounds.append(one_round(taking_turns, flops, bench))
            for side, numbers in rounds[-1].items():
                told = "  ".join(f"{key} {value:.3f}" for key, value in numbers.items())
                print(f"  {side:11}{told}", flush=True)
        reports[f"{options.what}, {name}"] = rounds
    print(HEADER)
    for title, rounds in reports.items():
        report(title, rounds)


def sides(algo: str, work: dict[str, Any], peer: Path | None, precision: str) -> Sides:
    """This project and, where there is one, the peer."""
    work = work | {"precision": precision}
    found = {"here": (here("parts/policy_training.py"), work)}
    if peer:
        script = ROOT / "benchmarks" / "peers" / f"trl_{algo}.py"
        found["trl"] = ([str(peer), str(script)], work)
    return found


def one_round(sides: Sides, flops: float, bench: Bench) -> dict[str, dict[str, float]]:
    """Each side once; what a step of it took in the median, the first one left out."""
    found: dict[str, dict[str, float]] = {}
    expected: dict[str, Any] = {}
    in_float32 = all(work["precision"] == "32-true" for _, work in sides.values())
    peak = bench.matmul_tflops(torch.float32 if in_float32 or not bench.on_gpu else torch.bfloat16)
    for name, (command, work) in sides.items():
        result = measured(command, work)
        expected = expected or result
        _require_same(name, result, expected, work)
        seconds, cpu = (statistics.median(result[key][1:]) for key in ("seconds", "cpu_seconds"))
        found[name] = {
            "seconds": seconds,
            "cpu_seconds": cpu,
            "peak_mib": result["peak_mib"],
            "training_mib": result["peak_mib"] - result["held_mib"],
            "share": flops / seconds / peak / 1e12,
            **result.get("parts", {}),
        }
    return found


def _require_same(
    name: str, done: dict[str, Any], expected: dict[str, Any], work: dict[str, Any]
) -> None:
    """Both sides had the same weights and made as many responses, tokens and updates."""
    for key in ("sequences", "tokens", "updates"):
        if done[key] != expected[key]:
            sys.exit(f"{name}: {key} {done[key]}, expected {expected[key]}")
    if work["precision"] != "32-true":  # in which ours rounds frozen weights
        return
    for key, value in done["weights"].items():
        if abs(value / expected["weights"][key] - 1) > SAME_WEIGHTS:
            sys.exit(f"{name}: {work[key]}: other weights, {value} for {expected['weights'][key]}")


HEADER = """
| | seconds a step | CPU seconds | peak, MiB | of training | share of matmul peak | speed / TRL |\
 by CPU time |
|---|---|---|---|---|---|---|---|"""


def report(title: str, rounds: list[dict[str, dict[str, float]]]) -> None:
    """Rows of a table: medians of the rounds, and the ratios of the same round."""
    for name in rounds[0]:
        seconds, cpu, peak, training, share = (
            statistics.median(found[name][key] for found in rounds)
            for key in ("seconds", "cpu_seconds", "peak_mib", "training_mib", "share")
        )
        cells = [
            f"{title}, {name}",
            *(f"{seconds:.3f}", f"{cpu:.3f}", f"{peak:.0f}", f"{training:.0f}", f"{share:.0%}"),
            *(_against_trl(name, rounds, key) for key in ("seconds", "cpu_seconds")),
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


def _against_trl(name: str, rounds: list[dict[str, dict[str, float]]], key: str) -> str:
    if name == "trl" or "trl" not in rounds[0]:
        return ""
    return ratios([found["trl"][key] for found in rounds], [found[name][key] for found in rounds])


def prepare(
    algo: str, size: Size, folder: Path, *, steps: int, threads: int
) -> tuple[dict[str, Any], float]:
    """Write models and prompts; returns the work that both get, and the products of a step."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = SAMPLES[algo]
    prompts = size.sequences // samples * (steps + 1)  # the first step warms up
    draws = random.Random(0)
    rows = [
        [draws.randrange(4, size.vocabulary) for _ in range(size.prompt_tokens)]
        for _ in range(prompts)
    ]
    (folder / "prompts.json").write_text(json.dumps(rows), encoding="utf-8")
    lm = write_models(size, folder)
    work = {
        "algo": algo,
        "folder": str(folder),
        "policy": str(folder / "policy"),
        "reward": str(folder / "reward"),
        "prompts": str(folder / "prompts.json"),
        "vocabulary": size.vocabulary,
        "pad": 0,
        "stop": 2,
        "stops": False,
        "response_tokens": size.response_tokens,
        "batch": size.sequences,
        "samples": samples,
        "epochs": UPDATES,
        "minibatches": 1,
        "beta": 0.05,
        "lam": 0.95,
        "value_coef": 0.1,
        "lr": 1e-6,
        "seed": 0,
        "threads": threads,
    }
    return work, products(size, *parameters(lm), with_critic=algo == "ppo")


def write_models(size: Size, folder: Path) -> LlamaForCausalLM:
    """A policy and a reward model with random weights; returns the policy."""
    config = {
        "vocab_size": size.vocabulary,
        "hidden_size": size.hidden,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.key_heads or size.heads,
        "intermediate_size": size.feed_forward,
        "tie_word_embeddings": size.tied,
        "max_position_embeddings": 512,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    torch.manual_seed(0)
    lm = LlamaForCausalLM(LlamaConfig(**config))
    lm.save_pretrained(folder / "policy")
    scorer = LlamaForSequenceClassification(LlamaConfig(**config, num_labels=1))
    scorer.save_pretrained(folder / "reward")
    return lm


def products(size: Size, layers: int, head: int, *, with_critic: bool) -> float:
    """Operations in products with weights that a step needs if each pass is made once, plainly:
    sampling, old and reference's log-probabilities, scores, values, and the updates, whose backward
    pass is twice a forward pass. Attention is left out.
    """
    tokens = size.prompt_tokens + size.response_tokens
    scalar = 2 * layers * tokens
    policy = scalar + 2 * head * size.response_tokens
    values = scalar * with_critic
    return size.sequences * (3 * policy + scalar + values + UPDATES * 3 * (policy + values))

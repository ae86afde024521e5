"""Log-probabilities without the logits of all tokens, against logits that are held whole.

    python benchmarks/log_probs.py                # 8 rows of 512 tokens, 128,000 ids, in turns

A policy's loss forward and backward through `response_outputs`, each way in a process of its own:
its seconds, and its peak of memory beside what weights and their gradients take.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from transformers import LlamaConfig, LlamaForCausalLM  # noqa: E402

from benchmarks.parts.processes import (  # noqa: E402
    compared,
    forget_peak,
    here,
    measured,
    peak_mib,
)
from harness.quiet import quiet_transformers  # noqa: E402
from lightning_modules.forward.log_probs import whole_up_to  # noqa: E402
from lightning_modules.forward.on_cpu.products import use_onednn  # noqa: E402
from lightning_modules.forward.token_outputs import response_outputs  # noqa: E402
from lightning_modules.objectives.losses import ppo_clip  # noqa: E402
from lightning_modules.objectives.masked import aggregate  # noqa: E402

# More logits than these are made in chunks.
WAYS = {"in chunks": 0, "whole": sys.maxsize}
PROMPT_TOKENS = 16


def main() -> None:
    options = parse()
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way in WAYS:
            work = vars(options) | {"way": way}
            result = measured([*here("log_probs.py"), "--child"], work)
            found[way].append(result)
            told = "  ".join(f"{key} {value:.4g}" for key, value in result.items())
            print(f"  {way:10}{told}", flush=True)
    for what, key in (("memory", "peak_mib"), ("time", "seconds")):
        ours, theirs = ([run[key] for run in found[way]] for way in WAYS)
        print(f"  {compared(f'{what}, in chunks / whole', ours, theirs)}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vocabulary", type=int, default=128000)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=512, help="of a response")
    parser.add_argument("--rounds", type=int, default=3, help="in turns")
    parser.add_argument("--repeats", type=int, default=3, help="of a process, whose median counts")
    parser.add_argument("--frozen-head", action="store_true", help="as with LoRA")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--tiny", action="store_true", help="to see that it runs")
    options = parser.parse_args()
    if options.tiny:
        options.vocabulary, options.hidden, options.rows, options.tokens = 300, 16, 2, 8
        options.rounds = options.repeats = 1
    return options


def child(work: dict[str, Any]) -> dict[str, float]:
    """One way in this process: median seconds, peak of memory in MiB beside what was there."""
    quiet_transformers()
    torch.set_num_threads(work["threads"])
    lm = model(work)
    tensors = sequences(work)
    with whole_up_to(WAYS[work["way"]]):
        loss(lm, *(x[:1] for x in tensors)).backward()  # gradients have their memory from here on
        held = forget_peak()
        seconds = []
        for _ in range(work["repeats"]):
            started = time.perf_counter()
            made = loss(lm, *tensors)
            made.backward()
            seconds.append(time.perf_counter() - started)
    return {
        "seconds": statistics.median(seconds),
        "peak_mib": max(peak_mib() - held, 2**-8),  # at least a page
        "held_mib": held,
        "loss": float(made.detach()),
    }


def model(work: dict[str, Any]) -> LlamaForCausalLM:
    """One layer under the head: its own share of time and memory is small."""
    hidden = work["hidden"]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=work["vocabulary"],
        hidden_size=hidden,
        intermediate_size=hidden,
        num_hidden_layers=1,
        num_attention_heads=max(1, hidden // 64),
        tie_word_embeddings=False,
        max_position_embeddings=2048,
    )
    lm = LlamaForCausalLM(config).eval()
    lm.lm_head.weight.requires_grad_(not work["frozen_head"])
    use_onednn(lm)  # as models that are loaded are
    return lm


def sequences(work: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Random ids, their masks, and an advantage a token."""
    rows, tokens = work["rows"], work["tokens"]
    draws = torch.Generator().manual_seed(1)
    ids = torch.randint(work["vocabulary"], (rows, PROMPT_TOKENS + tokens), generator=draws)
    prompt_mask = torch.ones(rows, PROMPT_TOKENS, dtype=torch.bool)
    response_mask = torch.ones(rows, tokens, dtype=torch.bool)
    return ids, prompt_mask, response_mask, torch.randn(rows, tokens, generator=draws)


def loss(
    lm: LlamaForCausalLM, ids: Tensor, prompt_mask: Tensor, response_mask: Tensor, weights: Tensor
) -> Tensor:
    """PPO's, at the first step on a rollout."""
    outputs, _ = response_outputs(lm, ids, prompt_mask, response_mask, 1.0)
    logprobs = outputs.logprobs
    losses, _ = ppo_clip(logprobs, logprobs.detach(), weights, (0.2, 0.2), None)
    return aggregate(losses, response_mask, response_mask.sum())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(child(json.loads(sys.argv[2]))))
    else:
        main()

"""The peak of memory of a PPO run against the estimate that is told at its start.

    python benchmarks/memory.py                  # three sizes, full fine-tuning and LoRA
    python benchmarks/memory.py --cases medium

Each case runs in a process of its own: a few iterations through the project's Trainer. On a GPU the
peak is what PyTorch has allocated at most; on a CPU what the process holds at most, less what it
held before there were models, so gaps of the allocator count. benchmarks/gpu.sh says the same of 1B
and 8B.
"""

import argparse
import json
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from benchmarks.parts import bench as shapes  # noqa: E402
from benchmarks.parts.bench import Bench  # noqa: E402
from benchmarks.parts.iterations import Work, iterate  # noqa: E402
from benchmarks.parts.processes import here, measured  # noqa: E402
from harness.quiet import quiet_transformers  # noqa: E402

TIED = {"tie_word_embeddings": True}
SIZES = {
    "small": {
        "hidden_size": 256,
        "intermediate_size": 1024,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 64,
        "vocab_size": 8192,
    }
    | TIED,
    "medium": {
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 64,
        "vocab_size": 32000,
    }
    | TIED,
    "135m": shapes.SHAPES["135m"],
}
# Prompts, tokens of each and of its response, and sequences at a time.
WORK = {"small": (64, 64, 16), "medium": (32, 64, 8), "135m": (16, 48, 8)}


def main() -> None:
    options = parse()
    print(f"  {'':16}{'estimate, GiB':>14}{'collect':>9}{'update':>8}{'peak / estimate':>17}")
    for name in options.cases or ["small"] if options.tiny else options.cases or SIZES:
        for adapter in ("none", "lora"):
            prompts, tokens, micro_batch = (4, 6, 2) if options.tiny else WORK[name]
            precision = "bf16-mixed" if torch.cuda.is_available() else "32-true"
            work = Work(name, adapter, prompts, tokens, micro_batch, precision)
            given = asdict(work) | {"threads": options.threads, "tiny": options.tiny}
            found = measured([*here("memory.py"), "--child"], given)
            title = f"{name}, {'full' if adapter == 'none' else 'LoRA'}"
            print(
                f"  {title:16}{found['estimate']:14.3f}{found['collect']:9.3f}"
                f"{found['update']:8.3f}{found['ratio']:17.2f}",
                flush=True,
            )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=SIZES)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--tiny", action="store_true", help="to see that it runs")
    return parser.parse_args()


def child(given: dict[str, Any]) -> dict[str, float]:
    """One case, in this process; figures in GiB."""
    quiet_transformers()
    torch.set_num_threads(given.pop("threads"))
    bench = Bench("memory", given.pop("tiny"))
    shapes.SHAPES.update(SIZES)
    # What libraries load at their first step is no part of it.
    iterate(
        Bench("warm-up", tiny=True), "warm-up", replace(Work(**given), prompts=4, tokens=6), 1.0
    )
    watch = iterate(bench, given["shape"], Work(**given), bench.matmul_tflops())
    return {
        "estimate": watch.expected,
        "ratio": watch.measured_over_estimate,
        **watch.peaks,
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(child(json.loads(sys.argv[2]))))
    else:
        main()

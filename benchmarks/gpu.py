"""What only a GPU can tell, phase by phase; benchmarks/gpu.sh runs them within time limits.

    python benchmarks/gpu.py peaks                 # one phase, results as JSON lines
    python benchmarks/gpu.py sampling --tiny       # the same at toy size, on a CPU too

Phases: env, peaks, tests, sampling, update, peer, graphs, main, real. Weights are random but for
`real`, which takes a model's folder in REAL_MODEL (`python -m tests.real_model` makes one). Nothing
is downloaded.
"""

import argparse
import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402

from benchmarks.parts.bench import Bench  # noqa: E402
from benchmarks.parts.iterations import update  # noqa: E402
from benchmarks.parts.policy_speed import SIZES, one_round, prepare, sides  # noqa: E402
from benchmarks.parts.runs import TINY_JOB  # noqa: E402
from benchmarks.sampling import graphs, sampling  # noqa: E402
from harness.parts.hardware import prepare_device  # noqa: E402

PACKAGES = (
    "torch",
    "transformers",
    "pytorch-lightning",
    "peft",
    "accelerate",
    "tokenizers",
    "huggingface-hub",
    "hydra-core",
    "omegaconf",
    "wandb",
    "datasets",
    "numpy",
    "pyarrow",
    "fsspec",
    "protobuf",
    "pydantic",
    "triton",
    "bitsandbytes",
    "trl",
)
# What a person wants to know of a finished job.
KEY_FIGURES = (
    "val/gold",
    "reference/gold",
    "reference/score",
    "reference/score_std",
    "val/score",
    "val/kl",
    "val/win_rate",
    "rollout/kl_k3",
    "train/ratio_max",
    "time/total",
    "stages/sft/seconds",
    "stages/reward_model/seconds",
    "stages/reward_model/val/accuracy",
    "stages/reward_model/val/bayes_accuracy",
)
CLOCKS = ("time/iteration", "time/collect", "time/score", "time/update")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("phase", choices=PHASES)
    parser.add_argument("--tiny", action="store_true", help="toy sizes, to see that it runs")
    parser.add_argument("--cases", nargs="*", help="of sampling, graphs and update: only these")
    options = parser.parse_args()
    started = time.perf_counter()
    bench = Bench(options.phase, options.tiny, options.cases or None)
    prepare_device(OmegaConf.create({"accelerator": "auto"}))
    PHASES[options.phase](bench)
    bench.say(done=True, wall_s=time.perf_counter() - started)


def env(bench: Bench) -> None:
    """The card and the versions."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    bench.say(python=platform.python_version(), cpus=os.cpu_count(), **versions)
    if not torch.cuda.is_available():
        bench.say(card=None)
        return
    card = torch.cuda.get_device_properties(0)
    bench.say(
        card=card.name,
        capability=f"{card.major}.{card.minor}",
        memory_gib=card.total_memory / 2**30,
        free_gib=torch.cuda.mem_get_info()[0] / 2**30,
        multiprocessors=card.multi_processor_count,
        cuda=torch.version.cuda,
    )


def peaks(bench: Bench) -> None:
    """What the card can do at best, by which the rest is judged."""
    bench.say(matmul_tflops=bench.matmul_tflops())
    bench.say(copy_tbps=bench.copy_tbps())


def tests(bench: Bench) -> None:
    """The tests that need a GPU; each one's outcome as a line."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-m",
            "gpu",
            "tests/gpu",
            "-p",
            "no:cacheprovider",
        ]
        command += ["--durations=12", "--timeout=60", f"--junit-xml={report}"]
        done = subprocess.run(command, cwd=ROOT)
        for case in _junit(report):
            if case["outcome"] != "passed":
                bench.say(**case)
    bench.say(exit_code=done.returncode)


def _junit(report: Path) -> list[dict[str, Any]]:
    from xml.etree import ElementTree

    found = []
    for case in ElementTree.parse(report).iter("testcase") if report.exists() else ():
        bad = next((x for x in case if x.tag in ("failure", "error", "skipped")), None)
        outcome = {"test": case.get("name"), "outcome": "passed" if bad is None else bad.tag}
        outcome["seconds"] = float(case.get("time"))
        if bad is not None:
            outcome["message"] = (bad.get("message") or "")[:300]
        found.append(outcome)
    return found


def main_job(bench: Bench) -> None:
    """The README's command on the GPU, then two smoke runs: W&B offline, and LoRA."""
    budget = TINY_JOB if bench.tiny else ["hardware=gpu"]
    with tempfile.TemporaryDirectory() as folder:
        jobs = {
            "ppo": ["algo=ppo", "model=llama", "logger=none"],
            "smoke, W&B offline": ["budget=smoke", "logger=wandb", "logger.mode=offline"],
            "smoke, LoRA": [
                "budget=smoke",
                "adapter=lora",
                "algo.critic=adapter",
                "logger=none",
            ],
        }
        for i, (name, overrides) in enumerate(jobs.items()):
            if bench.wants(name):
                run = Path(folder, f"run{i}")
                places = [f"cache_dir={folder}/cache{i}", f"hydra.run.dir={run}"]
                _job(bench, name, run, [*overrides, *budget, *places])


def real(bench: Bench) -> None:
    """A pretrained model through start-up check, PPO by a function and by a reward model."""
    model = os.environ.get("REAL_MODEL")
    if not model:
        bench.say(skipped="REAL_MODEL is not set: the folder of a pretrained model")
        return
    shared = [
        "algo=ppo",
        f"model.pretrained={model}",
        "logger=none",
        "data.max_prompt_tokens=64",
        "data.max_response_tokens=64",
        "algo.evaluate_every=6",
        "algo.iterations=12",
    ]
    by_words = ["reward=function", "reward.path=benchmarks.rewards:about_ten_words"]
    pairs = ["data.train_pairs=512", "data.val_pairs=200", "data.train_demonstrations=512"]
    jobs = {
        "LoRA, words": ["adapter=lora", *by_words],
        "full, words": by_words,
        "LoRA, reward model": ["adapter=lora", "algo.critic=adapter", *pairs],
    }
    tiny = [*TINY_JOB, "algo.iterations=1", "data.max_response_tokens=16"]
    budget = tiny if bench.tiny else ["hardware=gpu"]
    with tempfile.TemporaryDirectory() as folder:
        for i, (name, overrides) in enumerate(jobs.items()):
            if bench.wants(name):
                run = Path(folder, f"run{i}")
                places = [f"cache_dir={folder}/cache", f"hydra.run.dir={run}"]
                _job(bench, name, run, [*shared, *overrides, *budget, *places])


def peer(bench: Bench) -> None:
    """RLOO at 1B here and by TRL where it is installed, each in a process of its own."""
    python = Path(sys.executable) if find_spec("trl") else None
    if python is None:
        bench.say(trl="is not installed")
    size = "tiny" if bench.tiny else "1b"
    with tempfile.TemporaryDirectory() as folder:
        work, flops = prepare("rloo", SIZES[size], Path(folder), steps=2, threads=os.cpu_count())
        found = one_round(sides("rloo", work, python, "bf16-mixed"), flops, bench)
        for side, numbers in found.items():
            bench.say(case=side, **numbers)


def _job(bench: Bench, name: str, run: Path, overrides: list[str]) -> None:
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "run.py", *overrides], cwd=ROOT)
    bench.say(case=name, exit_code=done.returncode, wall_s=time.perf_counter() - started)
    if not (run / "summary.json").exists():
        return
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    bench.say(case=name, **{k: summary[k] for k in KEY_FIGURES if k in summary})
    with open(run / "metrics.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    medians = {k: statistics.median(float(r[k]) for r in rows if r.get(k)) for k in CLOCKS}
    bench.say(case=name, iterations=len(rows), **{f"{k}, median s": v for k, v in medians.items()})
    if "W&B" in name:
        bench.say(case=name, offline_runs=len(list(run.glob("wandb/offline-run-*"))))


PHASES = {
    "env": env,
    "peaks": peaks,
    "tests": tests,
    "sampling": sampling,
    "update": update,
    "peer": peer,
    "graphs": graphs,
    "main": main_job,
    "real": real,
}


if __name__ == "__main__":
    main()

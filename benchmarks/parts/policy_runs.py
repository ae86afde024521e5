"""`policy.py real` and `memory`: whole runs of a pretrained model with LoRA."""

import argparse
import json
import os
import random
import statistics
import sys
from pathlib import Path

from benchmarks.parts.processes import ROOT, compared, watched
from benchmarks.parts.runs import TINY_WORLD, Run, run
from datamodules.sources.landmarks import Landmarks

PROMPTS = 16  # sequences of a PPO iteration; of an optimiser step where memory is compared
TOKENS = 48  # of a response, and about as many of a prompt with its chat template
ROWS = 128
ITERATIONS = 4  # the first one warms up
PPO = (
    "algo=ppo",
    "algo.epochs=2",
    "algo.minibatches=2",
    f"algo.evaluate_every={ITERATIONS}",
    # Nothing but the training shall take time.
    "algo.val_prompts=2",
    "callbacks.samples=1",
    "callbacks.trace_every=0",
    "selfcheck=false",
)
BY_FUNCTION = ("reward=function", "reward.path=benchmarks.rewards:brief")
CLOCKS = ("iteration", "collect", "update")


def real(options: argparse.Namespace, folder: Path, peer: None) -> None:
    """Seconds of a PPO iteration here and in another checkout, in turns."""
    sides = {"here": ROOT}
    if options.against:
        sides["against"] = options.against.resolve()
    overrides = [
        *PPO,
        *BY_FUNCTION,
        f"algo.prompts_per_iteration={PROMPTS}",
        f"algo.iterations={2 if options.tiny else ITERATIONS}",
        *_world(options, folder),
    ]
    found: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(options.rounds):
        for side, checkout in sides.items():
            done = run(folder / side, folder / f"cache-{side}", overrides, checkout)
            parts = _parts(done)
            found[side].append(parts["iteration"])
            print(f"  {side:9}{_told(parts | done.seen)}", flush=True)
    if options.against:
        print(f"  {compared('speed, here / against', found['against'], found['here'])}")


def memory(options: argparse.Namespace, folder: Path, peer: None) -> None:
    """Peak memory of PPO with policy, reference, critic and reward on one model with LoRA, against
    that of SFT with LoRA on as many sequences an optimiser step.
    """
    world = _world(options, folder)
    ppo = [*PPO, "algo.critic=adapter", f"algo.prompts_per_iteration={2 * PROMPTS}", *world]
    jobs = {
        "sft": ["algo=sft", "algo.epochs=1", f"algo.batch_size={PROMPTS}", *world],
        "ppo": [*ppo, "algo.iterations=2"],
    }
    # The reward model is made beforehand: its own training is no role of PPO.
    run(folder / "before", folder / "cache", [*ppo, "algo.iterations=1"])
    libraries = watched(
        [sys.executable, "-c", "import harness.pipeline.policy_training"],
        ROOT,
        folder / "libraries.log",
    )["peak_mib"]
    found: dict[str, list[float]] = {job: [] for job in jobs}
    for _ in range(options.rounds):
        for job, overrides in jobs.items():
            seen = run(folder / job, folder / "cache", overrides).seen
            found[job].append(seen["peak_mib"])
            print(f"  {job:9}{_told(seen)}", flush=True)
    print(f"  the libraries alone hold {libraries:.0f} MiB")
    print(f"  {compared('memory, ppo / sft', found['ppo'], found['sft'])}")
    alone = ([peak - libraries for peak in found[job]] for job in ("ppo", "sft"))
    print(f"  {compared('without the libraries', *alone)}")


def _world(options: argparse.Namespace, folder: Path) -> list[str]:
    """The model with LoRA, and what it is trained on."""
    if options.tiny:
        return ["adapter=lora", *TINY_WORLD]
    if not options.model:
        sys.exit(f"policy.py {options.what}: --model: the folder of a pretrained model is needed")
    return [
        "model=pretrained",
        f"model.pretrained={os.path.abspath(options.model)}",
        "adapter=lora",
        "data=files",
        f"data.path={_rows(folder / 'rows.jsonl')}",
        f"data.max_prompt_tokens={2 * TOKENS}",
        f"data.max_response_tokens={TOKENS}",
        "stages.reward_model.epochs=1",
    ]


def _rows(path: Path) -> Path:
    """Comparisons of questions and rambling answers, which fill the limit of a response."""
    questions = Landmarks().prompts("train")
    answers = [row.response for row in Landmarks(train_demonstrations=ROWS).demonstrations("train")]
    draws = random.Random(0)
    with open(path, "w", encoding="utf-8") as file:
        for question in draws.sample(questions, ROWS):
            chosen, rejected = (" ".join(draws.sample(answers, 8)) for _ in range(2))
            row = {"prompt": question.text, "chosen": chosen, "rejected": rejected}
            file.write(json.dumps(row) + "\n")
    return path


def _parts(done: Run) -> dict[str, float]:
    """Medians of the iterations after the first one."""
    return {name: statistics.median(done.column(f"time/{name}")[1:]) for name in CLOCKS}


def _told(numbers: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.2f}" for name, value in numbers.items())

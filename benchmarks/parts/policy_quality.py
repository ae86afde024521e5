"""`policy.py quality`: what equal episodes make of the same reference, here and by TRL."""

import argparse
import json
import random
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from benchmarks.parts.composed import algorithm, composed, learned_reward
from benchmarks.parts.processes import ROOT, compared, measured
from benchmarks.parts.runs import TINY_JOB, run
from datamodules.prompts import PromptDataModule
from datamodules.sources.landmarks import Landmarks
from datamodules.tokenization.encoder import Encoder
from datamodules.tokenization.loading import load_tokenizer
from lightning_modules.models.actor_critic import ActorCritic
from lightning_modules.models.loading import load_causal_lm
from lightning_modules.models.parameters import frozen
from lightning_modules.models.reference import Reference
from lightning_modules.models.scalar import score_scale
from lightning_modules.models.scorers import load_scorer
from lightning_modules.rollouts.collection import Vocabulary

MAIN_JOB = ("algo=ppo", "model=llama")


@dataclass(frozen=True)
class World:
    """The prompts, and the two models that a run has used and TRL gets too."""

    cfg: DictConfig
    source: Landmarks
    encoder: Encoder
    reference: Path
    reward: Path


def quality(options: argparse.Namespace, folder: Path, peer: Path | None) -> None:
    """Score, gold, KL and seconds of each seed, by the same evaluation, and their means."""
    overrides = (*MAIN_JOB, *(TINY_JOB if options.tiny else ()))
    found: dict[str, list[dict[str, float]]] = {"here": []} | ({"trl": []} if peer else {})
    for seed in options.seeds:
        ours = run(folder / f"here-{seed}", folder / "cache", (*overrides, f"seed={seed}"))
        world = _world(composed(*overrides), ours.folder)
        seconds = sum(ours.column("time/iteration"))
        judged = judge(world, ours.folder / "model", seed) | {"seconds": seconds}
        _say("here", seed, judged)
        found["here"].append(judged)
        if peer:
            made = measured(
                [str(peer), str(ROOT / "benchmarks" / "peers" / "trl_ppo.py")],
                _work(world, folder / f"trl-{seed}", seed, options.threads),
            )
            judged = judge(world, folder / f"trl-{seed}" / "model", seed)
            judged |= {"seconds": sum(made["seconds"])}
            _say("trl", seed, judged)
            found["trl"].append(judged)
    episodes = world.cfg.algo.iterations * world.cfg.algo.prompts_per_iteration
    print(f"means over {len(options.seeds)} seed(s) of {episodes} episodes")
    for side, values in found.items():
        _say(side, None, {k: statistics.mean(v[k] for v in values) for k in values[0]})
    if peer:
        sides = [[judged["seconds"] for judged in found[side]] for side in ("trl", "here")]
        print(compared("speed, here / trl", *sides))


def _say(side: str, seed: int | None, judged: dict[str, float]) -> None:
    numbers = "  ".join(f"{name} {value:.3f}" for name, value in judged.items())
    print(f"  {side:6}{'mean' if seed is None else f'seed {seed}':8}{numbers}", flush=True)


def _world(cfg: DictConfig, folder: Path) -> World:
    source = Landmarks()  # its prompts are the same whatever its other sizes
    reference = (folder / "reference").resolve() / "model"
    limits = cfg.data.max_prompt_tokens, cfg.data.max_response_tokens
    encoder = Encoder(load_tokenizer(reference), *limits)
    return World(cfg, source, encoder, reference, (folder / "reward_model").resolve() / "model")


@torch.no_grad()
def judge(world: World, policy: Path, seed: int) -> dict[str, float]:
    """Held-out score, gold and KL to the reference, with the noise that the run's own evaluations
    have.
    """
    encoder, algo = world.encoder, world.cfg.algo
    module = algorithm("ppo", seed=seed, temperature=algo.temperature)
    module.bind(
        model=ActorCritic(frozen(load_causal_lm(policy))),
        reference=Reference(frozen(load_causal_lm(world.reference)), shares_policy=False),
        reward=learned_reward(world.reward, torch.float32, encoder),
        vocabulary=Vocabulary(
            encoder.stop_ids, encoder.pad_id, encoder.max_response_tokens, encoder.decode
        ),
        gold=world.source.gold,
    )
    size = algo.val_prompts
    data = PromptDataModule(world.source, encoder, size, size, size, seed)
    for i, batch in enumerate(data.val_dataloader()):
        module.evaluation.step(batch, i, algo.beta)
    metrics = module.evaluation.metrics(torch.clone)  # one process: nothing to gather
    return {name: metrics[f"val/{name}"] for name in ("score", "gold", "kl")}


def _work(world: World, folder: Path, seed: int, threads: int) -> dict[str, Any]:
    """The same for TRL: prompts as ids, as many as there are episodes, and the scaled reward."""
    folder.mkdir(parents=True, exist_ok=True)
    algo, encoder = world.cfg.algo, world.encoder
    encoder.tokenizer.save_pretrained(folder / "model")  # beside the policy that TRL will leave
    ids = encoder.prompts(world.source.prompts("train"))
    draws, rows = random.Random(seed), []
    while len(rows) < algo.iterations * algo.prompts_per_iteration:
        rows += draws.sample(ids, len(ids))
    rows = rows[: algo.iterations * algo.prompts_per_iteration]
    (folder / "prompts.json").write_text(json.dumps(rows), encoding="utf-8")
    return {
        "folder": str(folder),
        "export": str(folder / "model"),
        "policy": str(world.reference),
        "reward": str(scaled(world.reward, folder / "reward")),
        "prompts": str(folder / "prompts.json"),
        "vocabulary": len(encoder.tokenizer),
        "pad": encoder.pad_id,
        "stop": encoder.stop_id,
        "stops": True,
        "response_tokens": encoder.max_response_tokens,
        "batch": algo.prompts_per_iteration,
        "epochs": algo.epochs,
        "minibatches": algo.minibatches,
        "beta": algo.beta,
        "lam": algo.lam,
        "value_coef": algo.value_coef,
        "lr": algo.optimizer.lr,
        "precision": "32-true",
        "seed": seed,
        "threads": threads,
    }


def scaled(reward: Path, folder: Path) -> Path:
    """The reward model with scores of standard deviation 1, as they count here, so that a nat of KL
    costs the same; the constant that remains moves no advantage.
    """
    model = load_scorer(reward)
    _, std = score_scale(model.config) or ([0.0], [1.0])
    with torch.no_grad():
        model.score.weight /= std[0]
    model.save_pretrained(folder)
    return folder

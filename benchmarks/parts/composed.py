"""An algorithm with the options that `python run.py` would give it, for models of any origin."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback, Trainer
from torch import nn

from benchmarks.parts.processes import ROOT
from harness import resolvers
from harness.checks.room import make_room
from harness.checks.samplers import candidates
from harness.parts.hardware import make_trainer
from lightning_modules.forward.passes import plain
from lightning_modules.models.actor_critic import ActorCritic
from lightning_modules.models.loading import LoadOptions
from lightning_modules.models.reference import Reference
from lightning_modules.policy import PolicyModule
from lightning_modules.rewards.learned import LearnedReward
from lightning_modules.rewards.reward import Reward, RewardContext
from lightning_modules.rollouts.collection import Vocabulary
from lightning_modules.rollouts.sampler import Sampler

NEVER = (-1,)  # a stop token that no distribution has: every response is as long as may be


def composed(*overrides: str) -> DictConfig:
    """The config of these overrides, its defaults from conf/."""
    resolvers.register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("config", list(overrides))


def hardware(precision: str) -> DictConfig:
    """One device of this machine, a GPU if there is one."""
    return OmegaConf.create(
        {
            "name": "bench",
            "accelerator": "gpu" if torch.cuda.is_available() else "cpu",
            "devices": 1,
            "strategy": "auto",
            "precision": precision,
        }
    )


def algorithm(name: str, **options: Any) -> PolicyModule:
    """`algo=<name>` with these options, as it would be for pretrained weights."""
    chosen = [f"algo.{option}={value}" for option, value in options.items()]
    cfg = composed(
        f"algo={name}",
        "model=pretrained",
        "model.pretrained=none",
        "algo.optimizer.lr=1e-6",
        *chosen,
    )
    return instantiate(cfg.algo)


def samplers(device: torch.device, option: str = "bucketed") -> dict[str, Sampler]:
    """What `hardware.sampler=<option>` may sample by on a device, the fastest first."""
    found = {"graphs" if way.graphs else "buckets": way for way in candidates(option, device)}
    return found | {"plain": Sampler()}


def learned_reward(path: str | Path, dtype: torch.dtype, encoder: Any = None) -> LearnedReward:
    """The reward model of this folder as a run has it, frozen; `encoder` if it is to read text."""
    reward, how = LearnedReward(), LoadOptions(dtype)
    reward.load(path, RewardContext(Path, None, lambda _: encoder, how))
    return reward


def bind(
    module: PolicyModule,
    model: ActorCritic,
    reference: Reference,
    reward: Reward,
    response_tokens: int,
) -> PolicyModule:
    """Give the module its models; no response ends before it has `response_tokens`."""
    words = Vocabulary(NEVER, 0, response_tokens, lambda ids: "")
    return module.bind(model=model, reference=reference, reward=reward, vocabulary=words, gold=None)


def trainer_for(
    module: PolicyModule,
    device: DictConfig,
    iterations: int,
    prompts: Sequence[Sequence[int]],
    callbacks: Sequence[Callback],
) -> Trainer:
    """What would train the module in a run without evaluations; `prompts` are the ids of all."""
    trainer = make_trainer(
        device,
        max_epochs=iterations,
        limit_train_batches=1,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        callbacks=list(callbacks),
    )
    make_room(module, trainer, prompts, "auto")
    return trainer


def parameters(lm: nn.Module) -> tuple[int, int]:
    """Weights of products in the layers, which see every token, and in the head, which sees
    responses alone; packed ones count as what they stand for.
    """
    head = plain(lm).get_output_embeddings()
    layers = [m for m in lm.modules() if isinstance(m, nn.Linear) and m is not head]
    return sum(m.in_features * m.out_features for m in layers), head.weight.numel()

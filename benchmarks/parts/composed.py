"""An algorithm with the options that `python run.py` would give it, for models of any origin."""

from collections.abc import Callable
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from transformers import PreTrainedModel

from benchmarks.parts.processes import ROOT
from harness import resolvers
from lightning_modules.models.actor_critic import ActorCritic
from lightning_modules.models.reference import Reference
from lightning_modules.policy import PolicyModule
from lightning_modules.rewards.reward import Reward
from lightning_modules.rollouts.collection import Collector, Vocabulary

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


def samplers(device: torch.device) -> dict[str, Callable[[Collector], None]]:
    """What this project can sample by on a device, each as what makes a collector use it."""
    return {"plain": lambda collector: None}


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


def parameters(lm: PreTrainedModel) -> tuple[int, int]:
    """Numbers in the layers, which see every token, and in the head, which sees responses alone.

    Looking up embeddings is no product.
    """
    head = lm.get_output_embeddings().weight
    tables = {id(x): x.numel() for x in (head, lm.get_input_embeddings().weight)}
    return sum(p.numel() for p in lm.parameters()) - sum(tables.values()), head.numel()

"""task=export: a folder for plain transformers from a checkpoint of a run."""

from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from datamodules.tokenization import load_tokenizer
from harness.console import make_console
from harness.errors import RunError
from harness.export import export
from harness.pipeline import Pipeline
from harness.runs import STATE, Run
from harness.trainer import quiet
from lightning_modules.policy import PolicyModule


def export_run(cfg: DictConfig) -> Path:
    """Write the policy of `cfg.run` as it was at one of its checkpoints; returns the folder.

    The run's own configuration is used, whatever else is given here.
    """
    quiet()
    if not cfg.run:
        raise RunError("run has no value: give run=<folder of a run>")
    folder = Path(cfg.run)
    if not (folder / STATE).is_file():
        raise RunError(f"run={folder}: holds no run (there is no {STATE} in it)")
    console = make_console()
    config = OmegaConf.load(folder / "config.yaml")
    pipeline = Pipeline(config, console)
    algorithm = pipeline.algorithm
    if not isinstance(algorithm, PolicyModule):
        raise RunError(f"run={folder}: is one of algo={config.algo.name}; export takes policies")
    checkpoint = _checkpoint(folder, cfg.checkpoint)
    target = Path(cfg.to) if cfg.to else folder / "exports" / checkpoint.stem
    target.mkdir(parents=True, exist_ok=True)
    settings = OmegaConf.to_container(config, resolve=True)
    pipeline.run = Run(target, settings, wandb_id="", lock=None)  # if the reference must be remade
    model, _ = pipeline.actor_critic(None, config.seed)
    load_trained(model.lm, checkpoint)
    export(model.lm, load_tokenizer(*pipeline.reference()), target)
    console.print(f"{checkpoint} as a model: {target / 'model'}", soft_wrap=True)
    return target


def load_trained(lm: nn.Module, checkpoint: Path) -> None:
    """Put the policy's trained weights of a checkpoint into `lm`; RunError if it lacks some."""
    state = torch.load(checkpoint, weights_only=True, map_location="cpu")["state_dict"]
    prefix = "model.lm."
    weights = {name[len(prefix) :]: x for name, x in state.items() if name.startswith(prefix)}
    missing = {n for n, p in lm.named_parameters() if p.requires_grad} - set(weights)
    if missing:
        raise RunError(f"{checkpoint}: lacks weights of the policy: {', '.join(sorted(missing))}")
    lm.load_state_dict(weights, strict=False)


def _checkpoint(folder: Path, wanted: str | None) -> Path:
    there = sorted((folder / "checkpoints").glob("*.ckpt"))
    if wanted is None and there:
        return there[-1]
    for path in there:
        if wanted in (path.name, path.stem, str(path)):
            return path
    names = ", ".join(path.name for path in there) or "none"
    raise RunError(f"checkpoint={wanted}: {folder} has {names}")

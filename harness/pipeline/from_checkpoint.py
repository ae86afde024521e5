"""A policy as it was at a checkpoint of its run, as a folder that plain transformers loads."""

from pathlib import Path

from omegaconf import OmegaConf

from harness.disk.files import STATE
from harness.errors import RunError
from harness.parts.choices import Choices
from harness.pipeline.model_folder import export
from harness.pipeline.pipeline import Pipeline
from harness.pipeline.policy_models import actor_critic
from harness.quiet import quiet_transformers
from harness.reports.console import make_console
from harness.reports.plain_console import WHOLE, line
from harness.runs.checkpoints import find_checkpoint, load_trained
from harness.runs.folder import Run, today
from harness.runs.identity import read_state
from harness.typed import from_here
from lightning_modules.policy import PolicyModule


def export_checkpoint(
    choices: Choices, folder: Path, wanted: str | None, target: Path | None
) -> Path:
    """Write the policy of the run in `folder` as it was at one of its checkpoints; `wanted` None
    means the last one. Returns the folder, by default exports/<checkpoint> below the run's.
    """
    quiet_transformers()
    pipeline = Pipeline(choices, make_console())
    config = pipeline.cfg
    if not isinstance(pipeline.algorithm, PolicyModule):
        raise RunError(f"run={folder}: is one of algo={config.algo.name}; export takes policies")
    checkpoint = find_checkpoint(folder, wanted)
    target = target or folder / "exports" / checkpoint.stem
    target.mkdir(parents=True, exist_ok=True)
    settings = OmegaConf.to_container(config, resolve=True)
    date = read_state(folder / STATE).get("date") or today(settings)
    # If the reference must be remade.
    pipeline.run = Run(target, settings, wandb_id="", lock=None, date=date)
    model, _ = actor_critic(pipeline, None, config.seed)
    load_trained(model.lm, checkpoint)
    encoder = pipeline.load_encoder(*pipeline.reference())
    export(model.lm, encoder, target, pipeline.algorithm.options.temperature)
    made, source = ((from_here(path), WHOLE) for path in (target / "model", checkpoint))
    pipeline.console.print(line(source, " as a model: ", made))
    return target

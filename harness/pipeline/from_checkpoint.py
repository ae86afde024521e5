"""A policy as it was at a checkpoint of its run, as a folder that plain transformers loads."""

from pathlib import Path

from omegaconf import OmegaConf

from harness.errors import RunError
from harness.parts.choices import Choices
from harness.pipeline.model_folder import export
from harness.pipeline.pipeline import Pipeline
from harness.pipeline.policy_models import actor_critic
from harness.quiet import quiet_transformers
from harness.reports.console import make_console
from harness.reports.plain_console import WHOLE, line
from harness.runs.checkpoints import find_checkpoint, load_trained
from harness.runs.command import EXPORTS
from harness.runs.folder import Run, today
from harness.typed import from_here
from lightning_modules.options.paths import MODEL
from lightning_modules.policy import PolicyModule


def export_checkpoint(choices: Choices, wanted: str | None, target: Path | None) -> Path:
    """Write the policy of the run that the choices are of as it was at one of its checkpoints;
    `wanted` None means the last one. Returns the folder, by default exports/<checkpoint> below the
    run's.
    """
    quiet_transformers()
    pipeline = Pipeline(choices, make_console())
    config, folder = pipeline.cfg, choices.origin.folder
    if not isinstance(pipeline.algorithm, PolicyModule):
        its = f"; its model is {folder / MODEL}" if (folder / MODEL).is_dir() else ""
        raise RunError(
            f"run={folder}: is one of algo={config.algo.name}; export takes policies{its}"
        )
    checkpoint = find_checkpoint(folder, wanted)
    target = target or folder / EXPORTS / checkpoint.stem
    target.mkdir(parents=True, exist_ok=True)
    settings = OmegaConf.to_container(config, resolve=True)
    # If the reference must be remade.
    pipeline.run = Run(target, settings, wandb_id="", lock=None, date=today(settings))
    with pipeline.console.log.kept_in(target, config):
        model, _ = actor_critic(pipeline, None, config.seed)
        load_trained(model.lm, checkpoint)
        encoder = pipeline.load_unlimited(*pipeline.reference())
        export(model.lm, encoder, target, pipeline.algorithm.options.temperature)
        made, source = ((from_here(path), WHOLE) for path in (target / MODEL, checkpoint))
        pipeline.console.print(line(source, " as a model: ", made))
    return target

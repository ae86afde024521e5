"""task=export: a folder for plain transformers from a checkpoint of a run."""

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from harness.disk.files import CONFIG
from harness.errors import USER_ERRORS, RunError
from harness.overrides import require_names
from harness.parts.choices import Choices
from harness.runs.foreign import policy_config, refuse_links
from harness.runs.nearby import require_run
from harness.runs.renamed import with_new_names
from harness.surroundings import require_writable


def export_run(cfg: DictConfig) -> Path:
    """Write the policy of `cfg.run` as it was at one of its checkpoints; returns the folder.

    The run's own configuration says what the policy is, whatever else is given here.
    """
    require_names(cfg)
    if not cfg.run:
        raise RunError("run has no value: give run=<folder of a run>")
    folder = Path(cfg.run)
    require_run("run", folder)
    refuse_links(folder)
    target = Path(cfg.to) if cfg.to else None
    require_writable(target or folder / "exports", "to")
    typed = HydraConfig.get().overrides.task
    config = policy_config(_written(folder), cfg, typed, folder / CONFIG)
    try:
        choices = Choices(config)
        from harness.pipeline.from_checkpoint import export_checkpoint

        return export_checkpoint(choices, folder, cfg.checkpoint, target)
    except InstantiationException as error:
        if isinstance(error.__cause__, USER_ERRORS):
            raise error.__cause__ from error
        said = str(error.__cause__ or error).splitlines()[0]
        raise RunError(f"{folder / CONFIG}: nothing can be built of it ({said:.300})") from error


def _written(run: Path) -> dict[str, Any]:
    """What the run's folder says of its configuration, by today's names; nothing is looked up."""
    try:
        written = OmegaConf.to_container(OmegaConf.load(run / CONFIG))
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        raise RunError(f"run={run}: its {CONFIG} cannot be read ({error})") from error
    sections = ("algo", "stages", "model", "adapter", "data", "hardware")
    if not isinstance(written, dict) or not all(isinstance(written.get(s), dict) for s in sections):
        raise RunError(f"run={run}: its {CONFIG} is not that of a run")
    return with_new_names(written)

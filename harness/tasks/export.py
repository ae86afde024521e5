"""task=export: a folder for plain transformers from a checkpoint of a run."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from harness.errors import RunError
from harness.overrides import require_names
from harness.parts.choices import Choices
from harness.runs.files import CONFIG, STATE
from harness.runs.renamed import with_new_names


def export_run(cfg: DictConfig) -> Path:
    """Write the policy of `cfg.run` as it was at one of its checkpoints; returns the folder.

    The run's own configuration is used, whatever else is given here.
    """
    require_names(cfg)
    if not cfg.run:
        raise RunError("run has no value: give run=<folder of a run>")
    folder = Path(cfg.run)
    if not (folder / STATE).is_file():
        raise RunError(f"run={folder}: holds no run (there is no {STATE} in it)")
    choices = Choices(_config_of(folder))
    from harness.pipeline.from_checkpoint import export_checkpoint

    return export_checkpoint(choices, folder, cfg.checkpoint, Path(cfg.to) if cfg.to else None)


def _config_of(run: Path) -> DictConfig:
    """The run's own configuration, by today's names."""
    try:
        written = OmegaConf.to_container(OmegaConf.load(run / CONFIG))
    except (OSError, YAMLError, OmegaConfBaseException) as error:
        raise RunError(f"run={run}: its {CONFIG} cannot be read ({error})") from error
    if not isinstance(written, dict) or not {"algo", "data", "model"} <= written.keys():
        raise RunError(f"run={run}: its {CONFIG} is not that of a run")
    return OmegaConf.create(with_new_names(written))

"""task=export: a folder for plain transformers from a checkpoint of a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from omegaconf import DictConfig

from harness.disk.contents import in_units
from harness.disk.files import CONFIG, STATE
from harness.errors import USER_ERRORS, RunError
from harness.overrides import require_names
from harness.parts.choices import Choices
from harness.reports.console import make_console, say
from harness.runs.foreign import policy_config, refuse_links, written_config
from harness.runs.identity import read_state
from harness.runs.nearby import require_run
from harness.runs.used_stages import Origin, find_stages
from harness.surroundings import require_writable
from harness.typed import option
from lightning_modules.options.paths import CONFIG as MODEL_CONFIG
from lightning_modules.options.paths import CRITIC, MODEL


def export_run(cfg: DictConfig) -> Path:
    """Write the policy of `cfg.run` as it was at one of its checkpoints; returns the folder.

    The run's own configuration says what the policy is, whatever else is given here. Of a run that
    is finished, and nothing else asked for, it is said where its model is.
    """
    require_names(cfg)
    if not cfg.run:
        raise RunError("run has no value: give run=<folder of a run>")
    folder = Path(cfg.run)
    require_run("run", folder)
    refuse_links(folder)
    written = written_config(folder)
    state = read_state(folder / STATE)
    done = state["finished"] and (folder / MODEL / MODEL_CONFIG).is_file()
    if done and cfg.checkpoint is None and cfg.to is None:
        say(make_console(alone=True), _where_it_is(folder, written))
        return folder
    target = Path(cfg.to) if cfg.to else None
    require_writable(target or folder / "exports", "to")
    config = policy_config(written, cfg, HydraConfig.get().overrides.task, folder / CONFIG)
    caches = (cfg.cache_dir, written.get("cache_dir"))
    stages = find_stages(folder, state, ["sft", "reward_model"], caches)
    # Adapters fit the weights that they were trained on, and no others.
    origin = Origin(folder, state.get("date"), *stages, exact=config.adapter.config is not None)
    try:
        choices = Choices(config, origin)
        from harness.pipeline.from_checkpoint import export_checkpoint

        return export_checkpoint(choices, cfg.checkpoint, target, written.get("reward") or {})
    except InstantiationException as error:
        if isinstance(error.__cause__, USER_ERRORS):
            raise error.__cause__ from error
        said = str(error.__cause__ or error).splitlines()[0]
        raise RunError(f"{folder / CONFIG}: nothing can be built of it ({said:.300})") from error


def _where_it_is(folder: Path, written: Mapping[str, Any]) -> list[str]:
    """Of a finished run: its model, which any program of Transformers loads, and what else it has
    that can be exported.
    """
    checkpoints = sorted((folder / "checkpoints").glob("[!.]*.ckpt"))
    names = ", ".join(f"{path.stem} ({in_units(path.stat().st_size)})" for path in checkpoints)
    lines = [f"{folder} is finished, and its model is {folder / MODEL}: nothing is to be exported"]
    if (folder / CRITIC).is_dir():
        lines.append(f"its value function is {folder / CRITIC}")
    is_policy = "iterations" in written["algo"]
    if names and is_policy:
        run = option("run", folder)
        lines.append(f"its checkpoints: {names}; task=export {run} checkpoint=<name> exports one")
    return lines

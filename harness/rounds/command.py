"""The command of a round, as if it had been typed: a training that goes on from the one before."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from harness.disk.files import JOB, STATE
from harness.overrides import place_of
from harness.runs.command import ROUND
from harness.tracking.names import default_group
from harness.typed import quoted
from lightning_modules.options.paths import CRITIC

CONFIGS = Path(__file__).parents[2] / "conf"
# Of task=rounds alone, or of its folder.
OWN = (
    *("task", "rounds", "pairs", "labels", "overlap", "instructions", "host", "port"),
    *("resume", "logger.group"),
)


def round_overrides(
    cfg: DictConfig, number: int, folder: Path, before: Path | None, labels: Sequence[Path]
) -> list[str]:
    """The overrides of round `number` of these rounds, which is to be in `folder`; `before` is the
    run that it goes on from, `labels` are the files of all labels so far.
    """
    typed = [str(override) for override in HydraConfig.get().overrides.task]
    own = {
        ROUND: f"{{number:{number},pairs:{cfg.pairs},labels:{cfg.labels}}}",
        "data.more": _listed([*_listing(cfg.data.get("more")), *map(str, labels)]),
        "hydra.run.dir": quoted(str(folder)),
    }
    if before is not None:
        own["algo.policy_from"] = quoted(str(before))
        # What lies on the policy's weights with the reward model begins as that.
        if (before / CRITIC).is_dir() and not cfg.adapter.get("one_base"):
            own["algo.critic_from"] = quoted(str(before))
    if "group" in cfg.logger:
        own["logger.group"] = quoted(cfg.logger.group or group_of(folder.parent))
    if (folder / STATE).is_file():
        own["resume"] = quoted(str(folder))
    kept = [o for o in typed if place_of(o) not in {*OWN, *own}]
    return [*kept, *(f"{'+' * (key == ROUND)}{key}={value}" for key, value in own.items())]


def group_of(folder: Path) -> str:
    """What the rounds in a folder are grouped by in W&B: its name, after that of its sweep."""
    group = default_group(folder)
    return f"{group} {folder.name}" if (folder / JOB).is_file() else group


@contextmanager
def as_command(overrides: Sequence[str], folder: Path) -> Iterator[DictConfig]:
    """The config of a command with these overrides that is to run in `folder`. What Hydra says of
    the command in hand is of this one meanwhile.
    """
    holder = HydraConfig.instance()
    around = holder.cfg
    composing = (
        nullcontext()
        if GlobalHydra.instance().is_initialized()
        else initialize_config_dir(str(CONFIGS), version_base="1.3")
    )
    with composing:
        cfg = compose("config", list(overrides), return_hydra_config=True)
    with open_dict(cfg):
        cfg.hydra.runtime.output_dir = str(folder)
        # Within a sweep it is one of its jobs.
        cfg.hydra.mode = around.hydra.mode
        cfg.hydra.runtime.choices["hydra/launcher"] = around.hydra.runtime.choices["hydra/launcher"]
    holder.set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    try:
        yield cfg
    finally:
        holder.cfg = around


def _listing(value: Any) -> list[str]:
    """The files that an option names: none, one or several."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else OmegaConf.to_container(value)


def _listed(files: Sequence[str]) -> str:
    return f"[{','.join(map(quoted, files))}]" if files else "null"

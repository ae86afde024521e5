"""rlhf-ladder: `python run.py algo=ppo model=llama`. See `python run.py --help`."""

import os
import sys

# Threads of OpenMP that wait by spinning make two runs on one machine ten times slower than one.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig

from harness.errors import USER_ERRORS
from harness.overrides import with_names_as_text
from harness.runs.renamed import refuse_old_names


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float | None:
    """Compose, then call the chosen task. What the user can fix ends with one clear message."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        from harness.sweeps.job import run_job

        return run_job(cfg)
    try:
        instantiate(cfg.task)(cfg)
    except (InstantiationException, *USER_ERRORS) as error:
        cause = error.__cause__ if isinstance(error, InstantiationException) else error
        if not isinstance(cause, USER_ERRORS) or os.environ.get("HYDRA_FULL_ERROR"):
            raise
        sys.exit(f"error: {cause}")
    return None


if __name__ == "__main__":
    try:
        refuse_old_names(sys.argv[1:])
        sys.argv[1:] = with_names_as_text(sys.argv[1:])
    except USER_ERRORS as error:
        sys.exit(f"error: {error}")
    main()

"""Which of several processes of a run this one is, whatever a scheduler's variables around it say.

Only a run's own first process starts others (`hardware=ddp`). RANK, SLURM_PROCID and the like may
be of a job of which this is one process among many, or left over in a shell.
"""

import os

from lightning_utilities.core.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from harness.errors import RunError
from harness.typed import program

# The folder of the run to whose first process this one belongs; the first one sets it.
LEADER = "RLHF_LADDER_RUN"
LOCAL_RANK = "LOCAL_RANK"  # Lightning's, of a process that it launches
# What Lightning and torch would take for their own.
FOREIGN = (
    "RANK",
    LOCAL_RANK,
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "NODE_RANK",
    "GROUP_RANK",
    "ROLE_RANK",
    "JSM_NAMESPACE_RANK",
    "MASTER_ADDR",
    "MASTER_PORT",
    "STANDALONE_PORT",
    "TORCHELASTIC_RUN_ID",
)
# How many copies of one program were started, each with these variables, and by what.
COPIES = {
    "SLURM_STEP_NUM_TASKS": "srun",
    "OMPI_COMM_WORLD_SIZE": "mpirun",
    "MV2_COMM_WORLD_SIZE": "mpirun",
    "PMI_SIZE": "mpirun",
    "JSM_NAMESPACE_SIZE": "jsrun",
}


def this_rank() -> int:
    """0 for the process that a run began as, above 0 for those that it launched."""
    told = os.environ.get(LOCAL_RANK, "0") if LEADER in os.environ else "0"
    return int(told) if told.isdecimal() else 0


def has_one_device(config: DictConfig) -> bool:
    """Whether a run is one process. For every further device Lightning starts the program again."""
    hardware = OmegaConf.to_container(config.hardware)
    devices = hardware.get("devices")
    alone = devices in (1, "1") or (isinstance(devices, list) and len(devices) == 1)
    return alone and hardware.get("num_nodes", 1) == 1


def settle() -> None:
    """Make Lightning take this process for the one that it is, before it looks for itself.

    Raises RunError if a launcher has started several copies of the run.
    """
    if this_rank() == 0:
        _refuse_copies()
        for name in FOREIGN:
            os.environ.pop(name, None)
    rank_zero_only.rank = this_rank()


def _refuse_copies() -> None:
    counts = COPIES | ({"WORLD_SIZE": "torchrun"} if "TORCHELASTIC_RUN_ID" in os.environ else {})
    shell = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")  # one, for a person
    for variable, launcher in counts.items():
        count = os.environ.get(variable, "")
        if count.isdecimal() and int(count) > 1 and not (shell and launcher == "srun"):
            raise RunError(
                f"{variable}={count}: {launcher} has started {count} copies of this run. Start one,"
                f" which starts the others on the devices of its machine: `{program()}"
                f" hardware=ddp`. If there is only one, `unset {variable}`"
            )

"""A process is of rank 0 unless a run of ours launched it, whatever variables are around it."""

import json
import os
import subprocess
import sys

import pytest

from harness.ranks import FOREIGN, LEADER

# What a process is to us and to Lightning, and whether a Trainer would launch others.
CODE = """
import json, os, sys
from harness.ranks import settle, this_rank
before = dict(os.environ)
for variables in json.loads(sys.argv[1]):
    os.environ.clear()
    os.environ.update(before | variables)
    settle()
    from harness.parts.hardware import make_trainer
    from lightning_fabric.utilities.rank_zero import _get_rank, rank_zero_only
    from omegaconf import DictConfig
    hardware = {"name": "cpu", "accelerator": "cpu", "devices": 1, "strategy": "auto"}
    trainer = make_trainer(DictConfig(hardware | {"precision": "32-true"}), logger=False)
    environment = trainer._accelerator_connector.cluster_environment
    print(this_rank(), rank_zero_only.rank, trainer.global_rank, trainer.is_global_zero,
          environment.creates_processes_externally, trainer.world_size)
"""
AROUND = {
    "slurm process": {"SLURM_PROCID": "1", "SLURM_LOCALID": "1", "SLURM_NTASKS": "2"},
    "slurm": {"SLURM_NTASKS": "4", "SLURM_JOB_ID": "7"},
    "slurm shell": {"SLURM_STEP_NUM_TASKS": "4", "SLURM_JOB_NAME": "bash", "SLURM_JOB_ID": "7"},
    "left over": {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "NODE_RANK": "1"},
    "no numbers": {"RANK": "", "LOCAL_RANK": "x", "MASTER_PORT": "y", "MASTER_ADDR": "::"},
    "jsrun": {"JSM_NAMESPACE_RANK": "4", "JSM_NAMESPACE_LOCAL_RANK": "1", "LSB_JOBID": "1"},
    "mpi": {"OMPI_COMM_WORLD_RANK": "1", "PMI_RANK": "1", "PMI_SIZE": "1"},
    "kubeflow": {"KUBERNETES_PORT": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1", "RANK": "1"},
    "inside a run": {LEADER: "/a/run", "LOCAL_RANK": "0", "WORLD_SIZE": "2"},
}


def run(variables: dict[str, str], code: str, *arguments: str) -> subprocess.CompletedProcess:
    known = (*FOREIGN, LEADER)
    kept = {k: v for k, v in os.environ.items() if k not in known and not k.startswith("SLURM")}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command, env=kept | variables, capture_output=True, text=True, encoding="utf-8"
    )


def test_a_process_by_itself_is_alone():
    """The first case also while Lightning is not imported yet."""
    cases = list(AROUND.values())
    done = run(cases[0], CODE, json.dumps(cases))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["0 0 0 True False 1"] * len(cases)


def test_a_process_that_a_run_launched_keeps_its_rank():
    code = "from harness.ranks import *; settle(); print(this_rank(), rank_zero_only.rank)"
    done = run({LEADER: "/a/run", "LOCAL_RANK": "1", "SLURM_PROCID": "0", "PMI_SIZE": "8"}, code)
    assert done.stdout.split() == ["1", "1"], done.stderr


@pytest.mark.parametrize(
    ("variables", "named", "launcher"),
    [
        ({"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "RANK": "0"}, "WORLD_SIZE=2", "torchrun"),
        ({"SLURM_STEP_NUM_TASKS": "4"}, "SLURM_STEP_NUM_TASKS=4", "srun"),
        ({"OMPI_COMM_WORLD_SIZE": "3"}, "OMPI_COMM_WORLD_SIZE=3", "mpirun"),
        ({"JSM_NAMESPACE_SIZE": "6"}, "JSM_NAMESPACE_SIZE=6", "jsrun"),
    ],
)
def test_copies_are_told_to_be_one_run(variables, named, launcher):
    done = run(variables, "from harness.ranks import settle; settle()")
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"harness.errors.RunError: {named}: {launcher} has started")
    assert "hardware=ddp" in last

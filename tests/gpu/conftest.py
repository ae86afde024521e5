"""What needs a GPU: `pytest -m gpu`. Without one these tests skip; GPU_TESTS_DEVICE=cpu runs them
on the CPU all the same, to see that they run.
"""

import os
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lightning_modules.policy import PolicyModule
from lightning_modules.rewards.reward import Responses
from tests.exact.world import TableReward, score_table
from tests.harness.conftest import cache_dir, configure, metrics_of, tiny_policy  # noqa: F401
from tests.lightning_modules import tiny_runs

DEVICE = torch.device(os.environ.get("GPU_TESTS_DEVICE", "cuda"))
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if DEVICE.type == "cpu" or torch.cuda.is_available():
        return
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="torch sees no GPU"))


@pytest.fixture
def device() -> torch.device:
    return DEVICE


@pytest.fixture
def hardware() -> str:
    """The override of a run on the device."""
    return "hardware=cpu" if DEVICE.type == "cpu" else "hardware=gpu"


class TableOnDevice(TableReward):
    """As a reward must be: scores where the responses are."""

    def score(self, responses: Responses) -> Tensor:
        return super().score(responses).to(responses.sequences.device)


@pytest.fixture
def ready():
    """ready(algorithm, lora=, ...): a module in the world of 121 responses, in float32."""

    def make(
        algorithm: str,
        *,
        lora: bool = False,
        base: torch.dtype = torch.float32,
        kind: str = "llama",
        **options,
    ) -> PolicyModule:
        options = {"iterations": 4, "beta": 0.1} | options
        module, _ = tiny_runs.ready(
            tiny_runs.make(algorithm, **options),
            lora=lora,
            kind=kind,
            reward=TableOnDevice(score_table()),
        )
        with module.collector.reference.active() as reference:
            _cast(reference, base)
        _cast(module.model, base if lora else torch.float32)
        return module

    return make


def _cast(model: nn.Module, frozen: torch.dtype) -> None:
    """Trained parameters in float32, others in `frozen`; statistics of scores stay as they are."""
    for parameter in model.parameters():
        dtype = torch.float32 if parameter.requires_grad else frozen
        parameter.data = parameter.data.to(dtype)
    for buffer in model.buffers():
        buffer.data = buffer.data.float() if buffer.dtype == torch.float64 else buffer.data


@pytest.fixture
def fit():
    """fit(module, folder, ...): through the real Trainer on the device; the rows it logged."""
    accelerator = "cpu" if DEVICE.type == "cpu" else "gpu"
    return partial(tiny_runs.fit, accelerator=accelerator, devices=1)

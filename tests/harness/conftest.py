"""Configs composed as the command line composes them, at budgets of seconds."""

import csv
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict

CONF = Path(__file__).parents[2] / "conf"
# Folders of tests that look at pictures.
RENDERED = ("comparison", "pictures", "reports", "tracking")
LOOKED_AT = ("test_compare.py", "test_rounds.py")
PIXEL = b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP6DwABBQECz6AuzQAAAABJRU5ErkJggg=="
)
# One small world for all tests, so that they share its stages.
TINY = (
    "data.train_demonstrations=96",
    "data.train_pairs=96",
    "data.val_pairs=48",
    "model.vocab_size=400",
    "stages.sft.epochs=1",
    "stages.reward_model.epochs=1",
    "hardware=cpu",
    "logger=csv",
)
TINY_POLICY = (
    "algo.iterations=4",
    "algo.prompts_per_iteration=8",
    "algo.micro_batch_size=3",
    "algo.evaluate_every=2",
    "algo.val_prompts=8",
    "callbacks.checkpoint.every_n_epochs=1",
)


@pytest.fixture(autouse=True)
def composed_pictures(request, monkeypatch) -> None:
    """Figures are made and saved as one pixel, but where tests look at them: to render them is a
    third of a small run.
    """
    if request.path.parent.name not in RENDERED and request.path.name not in LOOKED_AT:
        monkeypatch.setattr("matplotlib.figure.Figure.savefig", save_a_pixel)


def save_a_pixel(figure: object, path: Path, **options: object) -> None:
    path.write_bytes(PIXEL)


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory) -> Path:
    """Stages that all tests share, as runs do."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def tiny_policy() -> tuple[str, ...]:
    return (*TINY, *TINY_POLICY)


@pytest.fixture(scope="session")
def configure(cache_dir) -> Callable[..., DictConfig]:
    """configure(folder, *overrides): what `python run.py <overrides> hydra.run.dir=<folder>` gets,
    at a tiny budget. Not `named`: as if Hydra had chosen the folder.
    """

    def make(folder: Path, *overrides: str, named: bool = True) -> DictConfig:
        budget = TINY
        if {"data=files", "data=ultrafeedback"} & set(overrides):
            budget = tuple(o for o in TINY if not o.startswith("data."))
        if not any(o in ("algo=sft", "algo=reward_model") for o in overrides):
            budget += TINY_POLICY
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose(
                "config",
                [
                    *budget,
                    f"cache_dir={cache_dir}",
                    *overrides,
                    *([f"hydra.run.dir={folder}"] if named else []),
                ],
                return_hydra_config=True,
            )
        with open_dict(cfg):
            cfg.hydra.runtime.output_dir = str(folder)
        HydraConfig.instance().set_config(cfg)
        with open_dict(cfg):
            del cfg["hydra"]
        return cfg

    return make


@pytest.fixture
def metrics_of() -> Callable[[Path], list[dict[str, str]]]:
    """metrics_of(folder): the rows of metrics.csv but for what depends on the clock."""

    def read(folder: Path) -> list[dict[str, str]]:
        with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        clock = ("time/", "throughput/")
        return [{k: v for k, v in row.items() if not k.startswith(clock)} for row in rows]

    return read

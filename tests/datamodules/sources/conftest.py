"""A cache of the data sets library for each test, and sources as the options make them."""

from pathlib import Path

import datasets
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from omegaconf import OmegaConf

CONF = Path(__file__).parents[3] / "conf"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """The library's cache of this test, away from the user's own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    return folder


@pytest.fixture
def composed():
    """A source from a command line, as a run makes it."""

    def source(*overrides: str):
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose("config", list(overrides)).data
        assert config.recommended
        own = [key for key in config if key not in ("recommended", "more")]
        return instantiate(OmegaConf.masked_copy(config, own))

    return source

"""What a config chooses, found to be right before anything heavy is imported."""

import time

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from datamodules.sources.source import Source
from harness.checks.config import check_config
from harness.quiet import quiet

# Advice that a data set gives to other options, which have read it already.
ADVICE = "recommended"


class Choices:
    """A config whose options are checked, and its data, read. Neither needs torch, Lightning or
    Transformers, which take seconds to import; only where a GPU is asked for is it looked for.
    """

    def __init__(self, cfg: DictConfig):
        self.started = time.perf_counter()  # of the run, for those who wait for it
        quiet()
        check_config(cfg)
        if cfg.hardware.accelerator == "gpu":
            from harness.parts.hardware import check_hardware

            check_hardware(cfg.hardware)
        self.cfg = cfg
        kept = [key for key in cfg.data if key != ADVICE]
        self.source: Source = instantiate(OmegaConf.masked_copy(cfg.data, kept))

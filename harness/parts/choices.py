"""What a config chooses, found to be right before anything heavy is imported."""

import time

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from datamodules.added import add_feedback
from datamodules.sources.source import Source
from harness.checks.config import check_config
from harness.parts.suited_loss import require_suited_loss
from harness.quiet import quiet
from harness.runs.used_stages import Origin

# Advice that a data set gives to other options, which have read it already.
ADVICE = "recommended"


class Choices:
    """A config whose options are checked, and its data, read. Neither needs torch, Lightning or
    Transformers, which take seconds to import; only where a GPU is asked for is it looked for.

    `origin` is the run whose config it is, if it is an earlier one's.
    """

    def __init__(self, cfg: DictConfig, origin: Origin | None = None):
        self.started = time.perf_counter()  # of the run, for those who wait for it
        quiet()
        check_config(cfg)
        if cfg.hardware.accelerator == "gpu":
            from harness.parts.hardware import check_hardware

            check_hardware(cfg.hardware)
        self.cfg = cfg
        self.origin = origin
        data = OmegaConf.to_container(cfg.data, resolve=True)  # it may refer to the whole config
        data.pop(ADVICE, None)
        more = data.pop("more", None)
        self.source: Source = instantiate(data)
        if more:
            add_feedback(self.source, more)
        require_suited_loss(cfg, self.source)


def has_judge(cfg: DictConfig) -> bool:
    """Whether a judge is chosen."""
    return "_target_" in cfg.judge

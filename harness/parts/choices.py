"""What a config chooses, found to be right before anything heavy is imported."""

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from datamodules.sources.source import Source
from harness.checks.options import check_options

# Advice that a data set gives to other options, which have read it already.
ADVICE = "recommended"


class Choices:
    """A config whose options are checked, and its data, read. Neither needs torch, Lightning or
    Transformers, which take seconds to import.
    """

    def __init__(self, cfg: DictConfig):
        check_options(cfg)
        self.cfg = cfg
        kept = [key for key in cfg.data if key != ADVICE]
        self.source: Source = instantiate(OmegaConf.masked_copy(cfg.data, kept))

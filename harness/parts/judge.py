"""The judge of a run, and how one that is a model in this process reads."""

from datetime import datetime
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from datamodules.tokenization.encoder import NO_LIMIT, Encoder
from datamodules.tokenization.loading import generation_stops, load_tokenizer
from datamodules.tokenization.templates import ChatOptions, midnight
from lightning_modules.judges.judge import Judge
from lightning_modules.models.loading import fetch_config
from lightning_modules.models.usable import embedding_rows
from lightning_modules.options.paths import model_folder
from lightning_modules.options.remote_code import trusts


def judge_of(cfg: DictConfig) -> Judge | None:
    """The judge that is chosen, None if nobody is to judge."""
    return instantiate(cfg.judge) if "_target_" in cfg.get("judge", {}) else None


def judge_encoder(path: str | Path, date: datetime | None = None) -> Encoder:
    """The tokenizer of a model that judges, without limits; `date` is what its chat template is
    told when it asks.
    """
    path = model_folder(path)
    return Encoder(
        load_tokenizer(path, has_option=False, trust_remote_code=trusts(path)),
        NO_LIMIT,
        NO_LIMIT,
        chat=ChatOptions(date=date or midnight()),
        stops=generation_stops(path, trust_remote_code=trusts(path)),
        rows=embedding_rows(fetch_config(path)),
        needs_stop=False,
    )

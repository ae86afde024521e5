"""Keeps the libraries' notices off the terminal; errors still come through."""

import logging
import os
import warnings


def quiet() -> None:
    """What can be said before the libraries are imported: some read it then."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    for name in (
        "bitsandbytes",
        "pytorch_lightning",
        "lightning_fabric",
        "lightning",
        "peft",
        "httpx",
    ):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("wandb").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")


def quiet_transformers() -> None:
    """The rest, once Transformers is imported."""
    import transformers

    quiet()  # imports may have added filters
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

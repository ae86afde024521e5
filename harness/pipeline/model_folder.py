"""Models as folders that plain transformers loads."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from pytorch_lightning.utilities import rank_zero_only
from transformers import GenerationConfig, PreTrainedModel

from datamodules.tokenization.encoder import Encoder
from harness.disk.files import open_to_others, sync_names, sync_tree, writing
from lightning_modules.models.adapters import merged
from lightning_modules.models.vocabulary import ids_without_text


@rank_zero_only
def export(
    model: PreTrainedModel | PeftModel,
    encoder: Encoder,
    folder: Path,
    temperature: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write `folder/model` (adapters merged in) with its tokenizer, and `folder/adapter` if any.
    Weights of the model are written in `dtype`, those of the adapter as they are.

    What plain transformers samples from a policy is then what was trained: from the whole
    vocabulary at `temperature`, to the same stop tokens. A reward model's head is part of both
    folders. Written beside its place and renamed when complete.
    """
    if isinstance(model, PeftModel):
        # A critic's adapter beside it is no part of the policy.
        with whole_folder(folder / "adapter") as draft:
            model.save_pretrained(draft, selected_adapters=[model.active_adapter])
    plain = merged(model, dtype)
    special = special_ids(plain, encoder)
    for config in (plain.config, plain.config.get_text_config()):
        config.update(special)
    if plain.can_generate():
        # Sampling settings of the base would describe another distribution than the trained one,
        # and so would what transformers fills in where nothing is written (top_k=50).
        plain.generation_config = GenerationConfig(
            **special,
            do_sample=True,
            temperature=temperature,
            top_k=0,
            top_p=1.0,
            suppress_tokens=ids_without_text(plain) or None,
        )
    tokenizer = encoder.tokenizer
    if tokenizer.pad_token_id != special["pad_token_id"]:
        tokenizer = deepcopy(tokenizer)  # who gave it goes on with its own padding
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(special["pad_token_id"])
    with whole_folder(folder / "model") as draft:
        plain.save_pretrained(draft)
        tokenizer.save_pretrained(draft)


def export_dtype(callbacks: Mapping[str, Any]) -> torch.dtype:
    """`callbacks.export_precision`, which earlier runs have not."""
    return getattr(torch, callbacks.get("export_precision", "float32"))


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder to write to, which takes the place of `folder` when all is on the disk; the
    old one goes after that. DiskError if it cannot be written.
    """
    draft, old = (folder.with_name(f".{folder.name}.{mark}") for mark in ("unfinished", "old"))
    with writing(folder):
        for left in (draft, old):  # of a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        try:
            yield draft
            open_to_others(draft)
            sync_tree(draft)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)  # on a full disk it would be in the way
            raise
        if folder.exists():
            folder.rename(old)
        draft.rename(folder)
        sync_names(folder.parent)
        shutil.rmtree(old, ignore_errors=True)


def special_ids(model: PreTrainedModel, encoder: Encoder) -> dict[str, int | list[int] | None]:
    """BOS, what ends a response, and padding, as configs name them; each has an embedding.

    A reward model keeps the padding that it was trained with.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    stops = list(encoder.stop_ids)
    pad = encoder.pad_id if model.can_generate() else model.config.pad_token_id
    if pad is None or not 0 <= pad < rows:
        pad = stops[0]
    return {
        "bos_token_id": encoder.tokenizer.bos_token_id,
        "eos_token_id": stops if len(stops) > 1 else stops[0],
        "pad_token_id": pad,
    }

"""Models as folders that plain transformers loads."""

import shutil
from pathlib import Path

from peft import PeftModel
from pytorch_lightning.utilities import rank_zero_only
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from lightning_modules.models.adapters import merged


@rank_zero_only
def export(
    model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, folder: Path
) -> None:
    """Write `folder/model` (adapters merged in) with its tokenizer, and `folder/adapter` if any.

    A reward model's head is part of both. Written beside its place and renamed when complete.
    """
    if isinstance(model, PeftModel):
        # A critic's adapter beside it is no part of the policy.
        model.save_pretrained(folder / "adapter", selected_adapters=[model.active_adapter])
    draft = folder / ".model.unfinished"
    shutil.rmtree(draft, ignore_errors=True)
    plain = merged(model)
    if plain.can_generate():
        # Sampling settings of the base would describe another distribution than the trained one.
        plain.generation_config = GenerationConfig(
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            do_sample=True,
        )
    plain.save_pretrained(draft)
    tokenizer.save_pretrained(draft)
    shutil.rmtree(folder / "model", ignore_errors=True)
    draft.rename(folder / "model")

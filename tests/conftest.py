"""Small real parts: a tokenizer trained on the embedded world, and random models of both kinds."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("WANDB_SILENT", "true")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from datamodules.sources.landmarks import Landmarks
from datamodules.tokenization.encoder import Encoder
from datamodules.tokenization.loading import train_tokenizer
from tests.commands.serving import serving
from tests.real_model import Unavailable
from tests.real_model import real_model as make_real_model

torch.set_num_threads(1)  # the models are so small that a second thread only waits

ROOT = Path(__file__).parents[1]
MOST_WORKERS = 4  # each needs up to 4 GiB, the runs that its tests start included
ARCHITECTURES = ("llama", "gpt2")
# Both ask for dropout, which no RL computation may follow.
CONFIGS = {
    "llama": lambda **ids: LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        attention_dropout=0.3,
        **ids,
    ),
    "gpt2": lambda **ids: GPT2Config(
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=128,
        resid_pdrop=0.3,
        embd_pdrop=0.3,
        attn_pdrop=0.3,
        **ids,
    ),
}


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Whole folders are run by several processes, where pytest-xdist is installed; what was asked
    for by file or by name, under a debugger, or with `-n` stays as it was asked for.
    """
    if not config.pluginmanager.hasplugin("xdist") or "PYTEST_XDIST_WORKER" in os.environ:
        return
    if config.option.numprocesses is not None or config.option.usepdb:
        return
    if any(Path(config.invocation_params.dir, arg).is_dir() for arg in config.args):
        config.option.numprocesses = min(MOST_WORKERS, os.cpu_count() or 1)
        # Neighbours stay together for what their fixtures share, until a process runs out of work.
        config.option.dist = "worksteal"
        # What tests start has the cores to share.
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: what is left at the end can be shared out."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def world() -> Landmarks:
    return Landmarks(train_demonstrations=200, train_pairs=200, val_pairs=60)


@pytest.fixture(scope="session")
def encoder(world) -> Encoder:
    return Encoder(train_tokenizer(world.texts(), 512), 32, 16)


@pytest.fixture(params=ARCHITECTURES)
def architecture(request) -> str:
    return request.param


@pytest.fixture
def lm(architecture, encoder):
    """A random causal LM with logits far from uniform, in evaluation mode."""
    tokenizer = encoder.tokenizer
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        CONFIGS[architecture](
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    for parameter in model.parameters():
        parameter.data.mul_(3.0)
    return model.eval()


@pytest.fixture(scope="session")
def warm_python(tmp_path_factory) -> Iterator[list[str]]:
    """Words to put in the place of `python`: processes of their own with the libraries loaded."""
    with serving(tmp_path_factory.mktemp("warm") / "socket", ROOT, os.environ) as socket:
        yield ["env", f"WARM={socket}", sys.executable, "-IS", str(ROOT / "tests/commands/ask.py")]


@pytest.fixture(scope="session")
def real_model() -> Path:
    """The folder of SmolLM2-135M-Instruct, downloaded once for all runs of the tests."""
    try:
        return make_real_model()
    except Unavailable as error:
        pytest.skip(str(error))

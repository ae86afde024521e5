"""What a model or a function is, whatever its name and place: equal contents are the same thing.

Neither torch nor Transformers is imported, so that a run can be recognised in a second.
"""

import functools
import hashlib
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

from lightning_modules.options.paths import (
    critic_folder,
    model_folder,
    policy_adapter,
    value_adapter,
)

# What Transformers reads of a model's folder; a README beside it is no part of the model.
READ = (".py", ".safetensors", ".bin", ".json", ".txt", ".model", ".jinja", ".gguf", ".tiktoken")
# What trainers leave beside a model.
LEFT = ("training_args.bin", "trainer_state.json", "optimizer.bin", "scheduler.bin")


def pretrained_identity(path: str | Path, revision: str | None = None) -> dict[str, Any]:
    """A hub model's id and commit, or the hashes of the files of a folder (or of the run that made
    it), by their names.
    """
    folder = Path(model_folder(path))
    if not folder.is_dir():
        return {"hub": str(path), "commit": _commit(str(path), revision)}
    files = [
        p
        for p in sorted((*folder.iterdir(), *folder.glob("*_templates/*")))
        if p.suffix in READ and p.name not in LEFT and p.is_file()
    ]
    with ThreadPoolExecutor() as threads:  # hashing lets go of the interpreter's lock
        hashes = threads.map(file_hash, files)
    return {"files": dict(zip((str(p.relative_to(folder)) for p in files), hashes, strict=True))}


def critic_identity(path: str | Path) -> dict[str, Any]:
    """The same of a value function, with the adapter that it may have on the policy's weights."""
    folder = critic_folder(path)
    found, adapter = pretrained_identity(folder), value_adapter(folder)
    return found | {"adapter": pretrained_identity(adapter)} if adapter.is_dir() else found


def policy_identity(path: str | Path) -> dict[str, Any]:
    """The same of a policy, with the adapter by which its run has trained it."""
    found, adapter = pretrained_identity(path), policy_adapter(path)
    return found | {"adapter": pretrained_identity(adapter)} if adapter.is_dir() else found


def file_hash(path: Path) -> str:
    """The SHA-256 of a file. A process reads a file that does not change once, whatever it is
    renamed to.
    """
    status = path.stat()
    key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    if key not in _HASHES:
        with open(path, "rb") as file:
            _HASHES[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _HASHES[key]


_HASHES: dict[tuple[int, ...], str] = {}


@functools.cache
def _commit(name: str, revision: str | None) -> str | None:
    """The commit of a hub model: of the copy in the local cache, or of the one to be fetched.

    What was asked for, where the hub cannot be reached; whoever loads the model says why.
    """
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(name, "config.json", revision=revision)).parent.name
    except Exception:  # of the network, of the hub, of a name that is none
        return revision


def code_identity(module: ModuleType) -> dict[str, str]:
    """Hashes, by its name, of a module's code, and of what it uses in the same folder and below."""
    if not getattr(module, "__file__", None):
        return {module.__name__: "built in"}
    folder = Path(module.__file__).parent
    return {m.__name__: file_hash(Path(m.__file__)) for m in _used(module, folder, set())}


def _used(module: ModuleType, folder: Path, seen: set[str]) -> Iterator[ModuleType]:
    file = getattr(module, "__file__", None)
    if module.__name__ in seen or not file or not Path(file).is_relative_to(folder):
        return
    seen.add(module.__name__)
    yield module
    for value in list(vars(module).values()):
        name = value.__name__ if isinstance(value, ModuleType) else _module_of(value)
        if used := sys.modules.get(name):
            yield from _used(used, folder, seen)


def _module_of(value: Any) -> str:
    name = getattr(value, "__module__", None)
    return name if isinstance(name, str) else ""

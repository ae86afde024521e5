"""Where a public set lies: on the Hugging Face hub, or in a local copy laid out in the same way.

Both become a root and the names of files below it, so that they are read by the same code. From the
hub only the files that are needed are fetched, once; then the hub's own cache serves them, offline
too.
"""

import codecs
import fnmatch
import glob
import gzip
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import datasets
from datasets import Dataset, DatasetDict, IterableDataset
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.utils import filter_repo_objects

from datamodules.records import DataError
from datamodules.sources.reading.text import lines_of, reading, refuse_pointer

READABLE = (".parquet", ".json", ".jsonl", ".json.gz", ".jsonl.gz")
SAVED = ("dataset_dict.json", "dataset_info.json")  # what save_to_disk writes
Names = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Published:
    """A repository of data sets on the hub: the revision, and the files of it that are needed."""

    repository: str
    revision: str
    patterns: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.repository} (revision {self.revision})"


@dataclass(frozen=True)
class Copy:
    """Files below a root, which is a local folder or "hf://datasets/<repository>@<revision>"."""

    root: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """Rows as they were published; `lines` says that each is a line of JSON in column "text".
    `files` of JSON on this machine are those that they come from.
    """

    rows: Dataset | IterableDataset
    lines: bool
    files: tuple[str, ...] = ()


def local_copy(path: Path) -> Copy:
    """A file, or the readable files below a folder. Raises DataError if there are none."""
    # Links stay as they are: a hub's cache names no formats where they lead.
    path = Path(os.path.expanduser(path)).absolute()
    if not path.exists():
        raise DataError(
            f"data.path={path}: no such file or folder; give a copy of the set,"
            " or data.path=null to load it from the hub"
        )
    if path.is_file():
        root, files = path.parent, [path]
    else:
        root, files = path, sorted(p for p in path.rglob("*") if p.is_file())
    names = tuple(str(f.relative_to(root)) for f in files if f.name.lower().endswith(READABLE))
    if not names:
        raise DataError(
            f"data.path={path}: nothing to read there; it must be {', '.join(READABLE)}"
        )
    return Copy(str(root), names)


def hub_copy(published: Published, streaming: bool) -> Copy:
    """The files on the hub: fetched, or only listed if they are streamed."""
    try:
        if not streaming:
            folder = snapshot_download(
                published.repository,
                repo_type="dataset",
                revision=published.revision,
                allow_patterns=list(published.patterns),
            )
            copy = local_copy(Path(folder))
            _require_all(copy.names, published)
            return copy
        files = HfApi().list_repo_files(
            published.repository, repo_type="dataset", revision=published.revision
        )
        _require_all(files, published)
    except Exception as error:  # of the network, of the hub, of the file system
        raise DataError(
            f"{published}: cannot be fetched from the hub ({_reason(error)})."
            " Give a copy of it with data.path=<folder or file>; or, to fetch it,"
            " unset HF_HUB_OFFLINE, check the connection and data.revision, and if the set is"
            " private or gated log in with `hf auth login`"
        ) from error
    names = filter_repo_objects(files, allow_patterns=list(published.patterns))
    revision = quote(published.revision, safe="")
    return Copy(f"hf://datasets/{published.repository}@{revision}", tuple(sorted(names)))


def _require_all(names: Iterable[str], published: Published) -> None:
    """Offline, a cache may hold a part of what is asked for."""
    names = list(names)
    for pattern in published.patterns:
        if not fnmatch.filter(names, pattern):
            raise FileNotFoundError(f"no file {pattern}")


def open_parts(
    copy: Copy, splits: Names, wants: Callable[[tuple[str, ...]], bool], streaming: bool
) -> dict[str, Part]:
    """The rows of each split, by our names; under "" those of files that no split is named for.

    `splits` gives the names that the set has for ours, the first that is there counts. `wants` is
    asked for each file: the name of the root, and the parts of its name below.
    """
    root = Path(copy.root).name
    saved = any(name in SAVED for name in copy.names)
    wanted = [n for n in copy.names if wants((root,) if saved else (root, *Path(n).parts))]
    if not wanted:
        raise DataError(
            f"{copy.root}: no file of the rows that were asked for; there is"
            f" {', '.join(copy.names[:5]) or 'nothing'}"
        )
    if saved:
        return _open_saved(copy.root, splits, streaming)
    return {s: _open(copy.root, f, streaming) for s, f in by_split(wanted, splits).items()}


def _open_saved(folder: str, splits: Names, streaming: bool) -> dict[str, Part]:
    try:
        saved = datasets.load_from_disk(folder)
    except Exception as error:  # the library's own, Arrow's, of the file system
        raise DataError(f"{folder}: cannot be read ({_reason(error)})") from error
    tables = saved if isinstance(saved, DatasetDict) else {"": saved}
    parts = {}
    for split, names in by_split(tables, splits).items():
        rows = datasets.concatenate_datasets([tables[name] for name in names])
        parts[split] = Part(rows.to_iterable_dataset() if streaming else rows, lines=False)
    return parts


def by_split(names: Iterable[str], splits: Names) -> dict[str, list[str]]:
    """Names such as "data/train_prefs-00000-of-00001.parquet", by the split that they are of."""
    names = list(names)
    found = {}
    for split, words in splits.items():
        for word in words:
            named = re.compile(rf"(^|[/._-]){word}([/.-]|$)")
            if files := [name for name in names if named.search(name)]:
                found[split] = files
                break
    return found or {"": names}


def _open(root: str, names: list[str], streaming: bool) -> Part:
    """Files of one kind: where there is Parquet, JSON beside it is something else."""
    tables = [name for name in names if name.lower().endswith(".parquet")]
    files = [f"{root}/{name}" for name in tables or names]
    is_local = not root.startswith("hf://")
    # JSON lines are parsed row by row: one bad line spoils nothing but itself.
    kind, features = "text", datasets.Features({"text": datasets.Value("string")})
    if tables:
        kind, features = "parquet", None
    elif is_local and any(map(_is_array, files)):
        kind, features = "json", None
    if is_local and "::" in root:
        raise DataError(
            f"data.path={root}: the datasets library takes '::' in a name for a link; rename the"
            " folder"
        )
    for file in files if is_local else ():
        with reading(file):
            refuse_pointer(Path(file))
    texts = tuple(files) if is_local and not tables else ()
    _require_rows(texts)
    # It takes names for patterns, too.
    patterns = [glob.escape(file) for file in files] if is_local else files
    try:
        rows = datasets.load_dataset(
            kind,
            data_files={"rows": patterns},
            split="rows",
            features=features,
            streaming=streaming,
        )
    except Exception as error:  # the library's own, Arrow's, of the file system
        found = damage_of(texts) or f"{files[0]}: cannot be read ({_reason(error)})"
        raise DataError(found) from error
    return Part(rows, kind == "text", texts)


def _require_rows(files: Iterable[str]) -> None:
    """The library has no word on an empty file beside others. Raises DataError for one, which may
    be what is left of a download, and for another encoding.
    """
    for file in files:
        if next(lines_of(Path(file)), None) is None:
            raise DataError(f"{file}: is empty, no rows in it; copy or download it again")


def damage_of(files: Iterable[str]) -> str | None:
    """What makes these files unreadable as UTF-8, with the place; None if it is something else."""
    for file in files:
        try:
            for _ in lines_of(Path(file)):
                pass
        except DataError as error:
            return str(error)
    return None


def _is_array(file: str) -> bool:
    opener = gzip.open if file.lower().endswith(".gz") else open
    try:
        with opener(file, "rb") as content:
            return content.read(64).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")
    except (OSError, EOFError):
        return False  # whoever reads it will say why


def _reason(error: BaseException) -> str:
    """The library's errors of a build say nothing; what caused them does."""
    while type(error).__module__.startswith("datasets") and error.__cause__:
        error = error.__cause__
    return f"{type(error).__name__}: {error}"

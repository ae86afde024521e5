"""Files are whole or named, whatever library writes them."""

import errno
import os
import shlex

import pytest
import torch
from filelock import FileLock
from hydra.core.override_parser.overrides_parser import OverridesParser
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from harness.disk.files import check_room, going_on_later, write_text, writing
from harness.disk.locks import held, is_held
from harness.errors import DiskError, RunError
from tests.harness.runs.test_checkpoints import files_of_at_most

WRITERS = {
    "torch": lambda path: torch.save({"x": torch.zeros(9999)}, path.open("wb")),
    "safetensors": lambda path: save_file({"x": torch.zeros(9999)}, path),
    "tokenizers": lambda path: Tokenizer(
        WordLevel({str(i): i for i in range(9999)}, unk_token="0")
    ).save(str(path)),
    "text": lambda path: write_text(path, "x" * 9999),
}


@pytest.mark.parametrize("library", WRITERS)
def test_what_a_library_says_of_a_limit_becomes_one_error(library, tmp_path):
    path = tmp_path / "file"
    with (
        files_of_at_most(1000),
        pytest.raises(DiskError, match=r"file: cannot be written \(File too large\)"),
        writing(path),
    ):
        WRITERS[library](path)


def test_other_errors_stay_what_they_are(tmp_path):
    with pytest.raises(ZeroDivisionError), going_on_later(tmp_path), writing(tmp_path):
        1 / 0  # noqa: B018
    with pytest.raises(RunError, match=r"^mine$"), going_on_later(tmp_path), writing(tmp_path):
        raise RunError("mine")


@pytest.mark.parametrize("name", ["a run", "v[2] (é), it's"])
def test_a_run_that_a_disk_ends_says_how_to_go_on(tmp_path, name):
    """As one can paste it: a shell takes it apart, then Hydra."""
    with pytest.raises(DiskError, match="No space") as refused, going_on_later(tmp_path / name):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    pasted = str(refused.value).partition("Then ")[2].removesuffix(" goes on")
    (override,) = OverridesParser.create().parse_overrides(shlex.split(pasted))
    assert (override.key_or_group, override.value()) == ("resume", str(tmp_path / name))


def test_a_text_that_does_not_fit_leaves_the_one_before(tmp_path):
    path = tmp_path / "summary.json"
    write_text(path, "before")
    with files_of_at_most(1000), pytest.raises(DiskError, match=r"summary\.json"):
        write_text(path, "x" * 2000)
    assert path.read_text(encoding="utf-8") == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_room_is_looked_for_where_the_folder_will_be_and_nothing_is_made(tmp_path):
    check_room(tmp_path / "not" / "yet")
    with files_of_at_most(1000), pytest.raises(DiskError, match="yet: cannot be written"):
        check_room(tmp_path / "not" / "yet")
    assert list(tmp_path.iterdir()) == []


def test_a_lock_is_seen_by_others_and_named_where_it_cannot_be(tmp_path):
    with held(tmp_path / "lock"):
        assert is_held(tmp_path / "lock")
    assert not is_held(tmp_path / "lock")
    with pytest.raises(DiskError, match=r"cannot be locked"), held(tmp_path):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_is_named(number, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(DiskError, match="on a file system that can lock files"):
        is_held(tmp_path / "lock")

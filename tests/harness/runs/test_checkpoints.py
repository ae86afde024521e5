"""Checkpoints are whole, or told from those that are."""

import os
import resource
from contextlib import contextmanager

import pytest
import torch

from harness.errors import DiskError, RunError
from harness.runs.checkpoints import (
    WholeCheckpoints,
    check_readable,
    find_checkpoint,
    newest_readable,
    steps_done,
    take_newest,
)


def state(steps: int, size: int = 5) -> dict:
    torch.manual_seed(steps)
    return {
        "state_dict": {"model.lm.a": torch.randn(size), "model.lm.b": torch.randn(3, 4)},
        "loops": {"fit_loop": {"epoch_loop.batch_progress": {"total": {"processed": steps}}}},
        "optimizer": {"lr": 0.1, "betas": [0.9, 0.999], "name": "adam"},
    }


def save(path, steps: int, size: int = 5):
    WholeCheckpoints().save_checkpoint(state(steps, size), path)
    return path


def equal(a, b) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@contextmanager
def files_of_at_most(size: int):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_any_flipped_bit_is_caught_or_harmless(tmp_path):
    """One of every byte, and all of the directory at the end, which no checksum covers."""
    whole = save(tmp_path / "a.ckpt", 3).read_bytes()
    directory = whole.index(b"PK\x01\x02")
    broken = tmp_path / "b.ckpt"
    caught = 0
    for place in range(len(whole)):
        for bit in range(8) if place >= directory else [place % 8]:
            data = bytearray(whole)
            data[place] ^= 1 << bit
            broken.write_bytes(data)
            try:
                check_readable(broken)
            except RunError:
                caught += 1
            else:
                assert equal(torch.load(broken, weights_only=True), state(3)), (place, bit)
    assert caught > len(whole)


def test_any_truncation_is_caught(tmp_path):
    whole = save(tmp_path / "a.ckpt", 3).read_bytes()
    for length in range(len(whole)):
        (tmp_path / "b.ckpt").write_bytes(whole[:length])
        with pytest.raises(RunError, match=r"b\.ckpt: is damaged"):
            check_readable(tmp_path / "b.ckpt")


def test_the_newest_is_that_with_most_steps_whatever_its_name_and_date(tmp_path):
    for name, steps in (("z", 2), ("iteration-00004-v1", 10), ("a", 9)):
        os.utime(save(tmp_path / f"{name}.ckpt", steps), (100 - steps, 100 - steps))
    assert newest_readable(tmp_path) == (tmp_path / "iteration-00004-v1.ckpt", [])
    assert steps_done(tmp_path / "iteration-00004-v1.ckpt") == 10


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"no zip at all", "half", "zeros", "folder", "another kind"]
)
def test_the_newest_that_can_be_read_is_taken_and_the_others_are_named(content, tmp_path):
    good = save(tmp_path / "iteration-00001.ckpt", 2)
    bad = tmp_path / "iteration-00003.ckpt"
    if content == "folder":
        bad.mkdir()
    elif content == "another kind":
        torch.save({"weights": torch.zeros(2)}, bad)
    elif isinstance(content, str):
        data = save(bad, 4).read_bytes()
        data = data[: len(data) // 2] + bytes(len(data) - len(data) // 2) * (content == "zeros")
        bad.write_bytes(data)
    else:
        bad.write_bytes(content)
    path, notes = newest_readable(tmp_path)
    assert path == good
    assert len(notes) == 1
    assert str(bad) in notes[0]
    assert bad.exists()
    (tmp_path / ".iteration-00005.ckpt.unfinished").write_bytes(b"half")
    assert take_newest(tmp_path) == (path, notes)
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {"iteration-00001.ckpt", "iteration-00003.ckpt.damaged"}


def test_if_none_can_be_read_it_is_said_and_nothing_begins_again_in_silence(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.ckpt").write_bytes(b"torn")
    with pytest.raises(RunError, match=r"(?s)no checkpoint can be read.*a\.ckpt.*b\.ckpt"):
        take_newest(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"a.ckpt", "b.ckpt"}
    assert newest_readable(tmp_path / "nowhere") == (None, [])


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path):
    path = save(tmp_path / "a.ckpt", 1)
    before = path.read_bytes()
    with (
        files_of_at_most(20_000),
        pytest.raises(DiskError, match=r"a\.ckpt: cannot be written \(File too large\)"),
    ):
        save(path, 2, size=100_000)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.ckpt"]


def test_export_takes_the_checkpoint_by_name_and_names_what_is_damaged(tmp_path):
    first = save(tmp_path / "checkpoints" / "iteration-00000.ckpt", 1)
    second = save(tmp_path / "checkpoints" / "iteration-00001.ckpt", 2)
    assert find_checkpoint(tmp_path, None) == second
    assert find_checkpoint(tmp_path, "iteration-00000") == first
    second.write_bytes(second.read_bytes()[:-1])
    assert find_checkpoint(tmp_path, None) == first
    with pytest.raises(RunError, match=r"iteration-00001\.ckpt: is damaged"):
        find_checkpoint(tmp_path, "iteration-00001.ckpt")
    with pytest.raises(RunError, match=r"checkpoint=nowhere: .* has iteration-00000 \("):
        find_checkpoint(tmp_path, "nowhere")

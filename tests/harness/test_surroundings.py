"""A user without name or home, and folders that cannot be written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import surroundings
from harness.errors import RunError
from harness.surroundings import find_places, require_writable

PLACES = ("HF_HUB_CACHE", "HF_DATASETS_CACHE", "WANDB_DATA_DIR", "MPLCONFIGDIR", "HOME", "USER")


@pytest.fixture
def closed(monkeypatch):
    """Folders that this process cannot write, though it may be root's."""
    folders = set()

    def access(path, mode):
        return not any(Path(path).is_relative_to(folder) for folder in folders)

    monkeypatch.setattr(surroundings.os, "access", access)
    return folders


@pytest.fixture
def home(tmp_path, monkeypatch):
    for name in (*surroundings._usual(), "HF_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USER", "somebody")
    return folder


def changed(tmp_path) -> dict[str, str]:
    before = dict(os.environ)
    find_places(tmp_path / "below")
    found = {k: v for k, v in os.environ.items() if before.get(k) != v}
    os.environ.clear()
    os.environ.update(before)
    return found


def test_usual_places_that_can_be_written_stay(home, closed, tmp_path):
    assert changed(tmp_path) == {}
    assert not (tmp_path / "below").exists()


def test_places_in_a_home_that_cannot_be_written_are_below(home, closed, tmp_path):
    closed.add(home)
    (home / ".cache" / "huggingface" / "hub").mkdir(parents=True)  # it can be read
    found = changed(tmp_path)
    assert "HF_HUB_CACHE" not in found
    assert "HOME" not in found
    for name in ("HF_DATASETS_CACHE", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "MPLCONFIGDIR"):
        assert Path(found[name]).parent == tmp_path / "below"
        assert Path(found[name]).is_dir()


def test_a_chosen_place_that_cannot_be_written(home, closed, tmp_path, monkeypatch):
    closed.add(tmp_path / "chosen")
    (tmp_path / "chosen").mkdir()
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "chosen" / "data"))
    assert changed(tmp_path) == {"WANDB_DATA_DIR": str(tmp_path / "below" / "wandb_data_dir")}


def test_without_a_home_everything_is_below(home, closed, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/proc/none")
    closed.add(Path("/proc"))
    assert changed(tmp_path) == {"HOME": str(tmp_path / "below" / "home")}


def test_a_user_whom_nobody_knows_has_a_name(tmp_path):
    """As libraries ask for it."""
    code = (
        "import getpass, sys; from pathlib import Path; from harness import surroundings as s\n"
        "def unknown(uid): raise KeyError(uid)\n"
        "import pwd; pwd.getpwuid = unknown\n"
        "s.find_places(Path(sys.argv[1])); print(getpass.getuser(), Path.home())"
    )
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "PYTHONPATH")}
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "below"],
        env=kept,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.stdout.split() == [f"user{os.getuid()}", str(tmp_path / "below" / "home")], done


def test_a_folder_that_can_be_made_is_writable_and_nothing_is_left(tmp_path):
    require_writable(tmp_path / "new" / "deeper", "cache_dir")
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_folder_should_be_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=rf"cache_dir={tmp_path}/file/x: {tmp_path}/file is no fold"):
        require_writable(tmp_path / "file" / "x", "cache_dir")


def test_a_folder_that_takes_no_files_is_named():
    with pytest.raises(RunError, match="to=/proc/x: nothing can be written in /proc"):
        require_writable(Path("/proc/x"), "to")

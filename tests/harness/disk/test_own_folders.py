import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from omegaconf import OmegaConf

from harness.disk.own_folders import (
    OwnRunFolder,
    drop_if_empty,
    hold,
    is_free,
    own_folder,
    wait_for,
)
from harness.errors import RunError


def config(folder, *overrides):
    return OmegaConf.create(
        {"hydra": {"run": {"dir": str(folder)}, "overrides": {"hydra": list(overrides)}}}
    )


def test_no_two_get_the_same_folder(tmp_path):
    with ThreadPoolExecutor(16) as threads:
        folders = list(threads.map(own_folder, [tmp_path / "runs" / "now"] * 40))
    assert len(set(folders)) == 40
    assert all(folder.is_dir() for folder in folders)
    assert {f.name for f in folders} == {"now", *(f"now-{n}" for n in range(2, 41))}


def test_a_single_run_has_a_folder_of_its_own_unless_it_was_named(tmp_path):
    (tmp_path / "now").mkdir()
    cfg = config(tmp_path / "now")
    OwnRunFolder().on_run_start(cfg)
    assert cfg.hydra.run.dir == str(tmp_path / "now-2")
    assert (tmp_path / "now-2").is_dir()
    named = config(tmp_path / "now", f"hydra.run.dir={tmp_path / 'now'}")
    OwnRunFolder().on_run_start(named)
    assert named.hydra.run.dir == str(tmp_path / "now")


def test_a_folder_that_cannot_be_made_is_named_with_its_option(tmp_path, capsys):
    (tmp_path / "file").write_text("", encoding="utf-8")
    for overrides in ((), ("hydra.run.dir=x",)):
        with pytest.raises(SystemExit, match="1"):
            OwnRunFolder().on_run_start(config(tmp_path / "file" / "run", *overrides))
        told = f"hydra.run.dir={tmp_path / 'file' / 'run'}: {tmp_path / 'file'} is no folder"
        assert told in capsys.readouterr().err


def test_a_folder_is_held_by_one_and_let_go_of_when_its_process_is_killed(tmp_path):
    script = (
        "import sys, time, pathlib; from harness.disk.own_folders import hold;"
        " lock = hold(pathlib.Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        assert process.stdout.readline() == "held\n"
        assert not is_free(tmp_path)
        with pytest.raises(RunError, match="another process is running in it"):
            hold(tmp_path)
        process.kill()
        wait_for(tmp_path)
    assert is_free(tmp_path)
    assert hold(tmp_path).is_locked


def test_only_an_empty_folder_is_dropped(tmp_path):
    for name in ("empty", "full"):
        (tmp_path / name).mkdir()
    (tmp_path / "full" / "a").write_text("", encoding="utf-8")
    for name in ("empty", "full", "missing"):
        drop_if_empty(tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["full"]

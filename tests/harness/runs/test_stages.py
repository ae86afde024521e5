import json
import multiprocessing
import time
from pathlib import Path

import pytest

from harness.runs.stages import MARKER, StageCache, code_identity, fingerprint


def make_file(folder: Path) -> dict:
    (folder / "result").write_text("done", encoding="utf-8")
    return {"val/loss": 0.5}


def test_a_stage_is_made_once_and_then_reused(tmp_path):
    cache = StageCache(tmp_path)
    first = cache.get("sft", {"seed": 0}, make_file)
    second = cache.get("sft", {"seed": 0}, lambda folder: pytest.fail("made again"))
    assert (first.reused, second.reused) == (False, True)
    assert first.path == second.path
    assert (second.path / "result").read_text(encoding="utf-8") == "done"
    assert second.summary == {"val/loss": 0.5}


def test_another_recipe_is_another_stage(tmp_path):
    cache = StageCache(tmp_path)
    paths = {cache.get("sft", {"seed": seed}, make_file).path for seed in (0, 1)}
    assert len(paths) == 2


def test_fingerprint_depends_on_values_and_not_on_their_order():
    recipe = {"a": 1, "b": {"c": [1, 2]}}
    assert fingerprint(recipe) == fingerprint({"b": {"c": [1, 2]}, "a": 1})
    assert fingerprint(recipe) != fingerprint({"a": 1, "b": {"c": [2, 1]}})


def test_code_identity_changes_with_the_code(tmp_path):
    file = tmp_path / "model.py"
    file.write_text("x = 1", encoding="utf-8")
    before = code_identity([file])
    file.write_text("x = 2", encoding="utf-8")
    assert code_identity([file]) != before


def test_a_stage_that_fails_leaves_nothing_that_looks_finished(tmp_path):
    def fail(folder: Path) -> dict:
        (folder / "half").write_text("", encoding="utf-8")
        raise RuntimeError("killed")

    cache = StageCache(tmp_path)
    with pytest.raises(RuntimeError, match="killed"):
        cache.get("sft", {}, fail)
    assert not list(tmp_path.rglob(MARKER))
    stage = cache.get("sft", {}, make_file)
    assert not stage.reused
    assert not (stage.path / "half").exists()


def _slow(root: Path, log: Path) -> None:
    def make(folder: Path) -> dict:
        with open(log, "a", encoding="utf-8") as file:
            file.write("made\n")
        time.sleep(0.5)
        return make_file(folder)

    StageCache(root).get("sft", {}, make)


def test_two_processes_make_a_stage_once(tmp_path):
    log = tmp_path / "log"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_slow, args=(tmp_path / "cache", log)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert log.read_text(encoding="utf-8") == "made\n"
    (marker,) = (tmp_path / "cache").rglob(MARKER)
    assert json.loads(marker.read_text(encoding="utf-8"))["summary"] == {"val/loss": 0.5}

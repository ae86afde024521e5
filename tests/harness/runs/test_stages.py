import json
import multiprocessing
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.disk.files import writing
from harness.errors import DiskError
from harness.runs.stages import MARKER, StageCache, code_identity, fingerprint
from tests.harness.runs.test_checkpoints import files_of_at_most


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


def test_a_stage_with_checkpoints_goes_on_from_them_and_ends_without(tmp_path):
    def stop(folder: Path) -> dict:
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "kept-00003.ckpt").write_text("", encoding="utf-8")
        raise KeyboardInterrupt

    def go_on(folder: Path) -> dict:
        assert [path.name for path in (folder / "checkpoints").iterdir()] == ["kept-00003.ckpt"]
        return make_file(folder)

    cache = StageCache(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        cache.get("sft", {}, stop)
    stage = cache.get("sft", {}, go_on)
    assert not stage.reused
    assert not (stage.path / "checkpoints").exists()


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


def make_model(folder: Path) -> dict:
    (folder / "model").mkdir()
    save_file({"w": torch.arange(64.0)}, folder / "model" / "model.safetensors")
    (folder / "model" / "tokenizer.json").write_text('{"model": {}}', encoding="utf-8")
    (folder / "report.md").write_text("good", encoding="utf-8")
    return {"val/loss": 0.5, "undefined": float("nan")}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 4
    path.write_bytes(data)


DAMAGE = {
    "stage.json": {
        "empty": lambda path: path.write_text("", encoding="utf-8"),
        "torn": lambda path: path.write_text(
            path.read_text(encoding="utf-8")[:-20], encoding="utf-8"
        ),
        "missing": lambda path: path.unlink(),
        "no object": lambda path: path.write_text("[1]", encoding="utf-8"),
        "nothing": lambda path: path.write_text("{}", encoding="utf-8"),
        "a number changed": lambda path: path.write_text(
            path.read_text(encoding="utf-8").replace("0.5", "0.7"), encoding="utf-8"
        ),
        "files forgotten": lambda path: path.write_text(
            path.read_text(encoding="utf-8").replace("files", "f"), encoding="utf-8"
        ),
        "a folder": lambda path: (path.unlink(), path.mkdir()),
    },
    "model/model.safetensors": {
        "cut off": lambda path: path.write_bytes(path.read_bytes()[:-1]),
        "one bit": flip,
        "missing": lambda path: path.unlink(),
        "a folder": lambda path: (path.unlink(), path.mkdir()),
    },
    "model/tokenizer.json": {
        "empty": lambda path: path.write_text("", encoding="utf-8"),
        "another of this size": lambda path: path.write_text('{"modle": {}}', encoding="utf-8"),
    },
}
DAMAGES = [(file, kind) for file, kinds in DAMAGE.items() for kind in kinds]


@pytest.mark.parametrize(("file", "kind"), DAMAGES, ids=lambda x: x.replace(" ", "_"))
def test_a_damaged_stage_is_named_and_made_anew(file, kind, tmp_path):
    cache = StageCache(tmp_path)
    first = cache.get("sft", {"seed": 0}, make_model)
    DAMAGE[file][kind](first.path / file)
    said = []
    second = cache.get("sft", {"seed": 0}, make_model, said.append)
    assert not second.reused
    assert second.path == first.path
    assert len(said) == 1
    assert str(first.path / file) in said[0]
    assert load_file(second.path / "model" / "model.safetensors")["w"].sum() == 63 * 32
    assert cache.get("sft", {"seed": 0}, make_model, said.append).reused
    assert len(said) == 1
    assert first.path.with_name(f"{first.path.name}.damaged").is_dir()


def test_what_only_people_read_may_change(tmp_path):
    cache = StageCache(tmp_path)
    stage = cache.get("sft", {}, make_model)
    (stage.path / "report.md").write_text("my notes", encoding="utf-8")
    assert cache.get("sft", {}, lambda folder: pytest.fail("made again")).reused


@pytest.mark.parametrize("kind", ["as it was", "empty", "cut off"])
def test_a_stage_of_an_earlier_version_is_used_unless_it_is_cut_off(kind, tmp_path):
    cache = StageCache(tmp_path)
    stage = cache.get("sft", {}, make_model)
    marker = json.loads((stage.path / MARKER).read_text(encoding="utf-8"))
    old = {key: marker[key] for key in ("seconds", "summary", "recipe")}
    (stage.path / MARKER).write_text(json.dumps(old), encoding="utf-8")
    weights = stage.path / "model" / "model.safetensors"
    if kind == "empty":
        (stage.path / "model" / "tokenizer.json").write_text("", encoding="utf-8")
    if kind == "cut off":
        weights.write_bytes(weights.read_bytes()[:-1])
    assert cache.get("sft", {}, make_model).reused == (kind == "as it was")


def test_a_stage_that_does_not_fit_on_the_disk_leaves_no_half(tmp_path):
    with (
        files_of_at_most(100),
        pytest.raises(DiskError, match=r"sft/.*cannot be written \(File too large\)"),
    ):
        StageCache(tmp_path).get("sft", {}, make_file_of_1000)
    assert {path.suffix for path in (tmp_path / "sft").iterdir()} == {".lock"}


def make_file_of_1000(folder: Path) -> dict:
    with writing(folder / "result"):
        (folder / "result").write_text("x" * 1000, encoding="utf-8")
    return {}

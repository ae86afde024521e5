"""Files of a finished and of an unfinished run, cut off or changed: whatever is done with the run
then gives the right result, or one clear error that names the file.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.comparison.reading import LeftOut, read_run
from harness.errors import USER_ERRORS
from harness.tasks.evaluate import evaluate
from harness.tasks.export import export_run
from harness.tasks.train import train
from lightning_modules.policy import PolicyModule

ALL_CHECKPOINTS = "+callbacks.checkpoint.save_top_k=-1"


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def nul(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def junk(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00 junk\n" * 9)


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def nothing(path: Path) -> None:
    path.write_text("{}", encoding="utf-8")


def a_list(path: Path) -> None:
    path.write_text("[1]\n", encoding="utf-8")


def gone(path: Path) -> None:
    path.unlink()


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def without_row(path: Path) -> None:
    rows = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(rows[:2] + rows[3:]))


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 8
    path.write_bytes(data)


LAST = "checkpoints/iteration-00002.ckpt"
UNFINISHED = [
    *((LAST, damage) for damage in (half, empty, nul, junk, torn, flipped, a_folder, gone)),
    *(("metrics.csv", damage) for damage in (half, empty, nul, torn, without_row, gone, a_folder)),
    *(("samples.jsonl", damage) for damage in (half, empty, nul, junk, torn, a_list, gone)),
    *(("traces.jsonl", damage) for damage in (half, empty, nul, junk, torn, a_list, gone)),
    *(("run.json", damage) for damage in (half, empty, nul, junk, torn, nothing, a_list)),
    ("config.yaml", half),
    ("config.yaml", nul),
]
FINISHED = [
    *(("model/model.safetensors", damage) for damage in (half, empty, torn, junk, gone)),
    *(("model/tokenizer.json", damage) for damage in (half, empty, junk, gone)),
    *(("model/config.json", damage) for damage in (half, empty, junk, gone, nothing)),
]


@pytest.fixture
def runs(configure, tmp_path_factory, monkeypatch) -> dict[str, Path]:
    """The folders of a run that ended and of one that stopped after three of four iterations, made
    once for all tests.
    """
    if not MADE:
        folder = tmp_path_factory.mktemp("runs")
        train(configure(folder / "whole", ALL_CHECKPOINTS))
        collect = PolicyModule.collect

        def stop(self, batch):
            if self.current_epoch == 3:
                raise RuntimeError("power cut")
            return collect(self, batch)

        with monkeypatch.context() as patch:
            patch.setattr(PolicyModule, "collect", stop)
            with pytest.raises(RuntimeError, match="power cut"):
                train(configure(folder / "broken", ALL_CHECKPOINTS))
        MADE.update({name: folder / name for name in ("whole", "broken")})
    return MADE


MADE: dict[str, Path] = {}


def ids(value: object) -> str:
    return value.__name__ if isinstance(value, Callable) else str(value)


def refusal(action: Callable[[], object]) -> str | None:
    """What the user is told instead; None if it is done."""
    try:
        action()
    except USER_ERRORS as error:
        return str(error)
    return None


@pytest.mark.parametrize(("name", "damage"), UNFINISHED, ids=ids)
def test_a_damaged_run_is_resumed_as_if_it_were_whole_or_the_file_is_named(
    name, damage, runs, configure, metrics_of, tmp_path, capsys
):
    folder = tmp_path / "run"
    shutil.copytree(runs["broken"], folder)
    damage(folder / name)
    if error := refusal(lambda: train(configure(folder, ALL_CHECKPOINTS, "resume=auto"))):
        assert name in error
        return
    said = " ".join(capsys.readouterr().out.split())  # however its lines are broken
    if name.startswith("metrics") and damage in (gone, a_folder):
        assert "metrics.csv: is missing" in said
        return
    assert metrics_of(folder) == metrics_of(runs["whole"])
    if name.endswith("jsonl"):
        whole = (runs["whole"] / name).read_text(encoding="utf-8").splitlines()
        lines = (folder / name).read_text(encoding="utf-8").splitlines()
        assert set(lines) <= set(whole)
        # A file that was cut off lacks rows of before, which nothing can bring back.
        assert lines[-3:] == whole[-3:]
    elif name == LAST and damage is not gone:
        assert f"{folder / name}: " in said


@pytest.mark.parametrize(("name", "damage"), FINISHED, ids=ids)
def test_a_damaged_model_is_named_when_it_is_evaluated(name, damage, runs, configure, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(runs["whole"], folder)
    damage(folder / name)
    options = ("task=evaluate", f"policy={folder}", "evaluation.prompts=4")
    with pytest.raises(USER_ERRORS, match="model"):
        evaluate(configure(tmp_path / "evaluation", *options))


@pytest.mark.parametrize("damage", [half, empty, flipped, a_folder])
def test_a_damaged_checkpoint_is_named_when_it_is_exported(damage, runs, configure, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(runs["whole"], folder)
    last = folder / "checkpoints" / "iteration-00003.ckpt"
    damage(last)
    options = ("task=export", f"run={folder}")
    with pytest.raises(USER_ERRORS, match=r"iteration-00003\.ckpt: is damaged|cannot be read"):
        export_run(configure(tmp_path / "a", *options, "checkpoint=iteration-00003"))
    shutil.rmtree(folder / "model")  # or there would be nothing to export
    assert export_run(configure(tmp_path / "b", *options)).name == "iteration-00002"


@pytest.mark.parametrize("name", ["run.json", "summary.json", "metrics.csv"])
@pytest.mark.parametrize("damage", [half, empty, nul, junk, nothing, a_list], ids=ids)
def test_a_damaged_run_is_named_when_it_is_compared(name, damage, runs, tmp_path):
    from harness.comparison.reading import collect

    for folder in ("good", "bad"):
        shutil.copytree(runs["whole"], tmp_path / folder)
    damage(tmp_path / "bad" / name)
    found, left_out = collect([str(tmp_path)])
    assert [run.folder.name for run in found] == ["good"]
    assert [item.folder.name for item in left_out] == ["bad"]
    assert name in left_out[0].reason or "val/score" in left_out[0].reason
    assert not isinstance(read_run(tmp_path / "good"), LeftOut)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *(("run.json", damage) for damage in (half, a_list)),
        *(("summary.json", damage) for damage in (half, empty, a_list, gone)),
    ],
    ids=ids,
)
def test_a_finished_run_that_is_damaged_is_named_when_it_is_resumed(
    name, damage, runs, configure, tmp_path
):
    folder = tmp_path / "run"
    shutil.copytree(runs["whole"], folder)
    damage(folder / name)
    with pytest.raises(USER_ERRORS, match=name):
        train(configure(folder, ALL_CHECKPOINTS, "resume=auto"))

"""When and by which commands runs were made."""

import os
from datetime import datetime, timedelta

import pytest

from harness.comparison.origins import origins, when
from harness.comparison.reading import collect
from harness.comparison.writing import write_comparison
from tests.harness.comparison.synthetic_runs import write_run


@pytest.fixture
def runs(tmp_path):
    """Two jobs of a sweep and a run of its own."""
    for i in range(2):
        job = write_run(tmp_path / "sweep" / f"{i}_ppo", seed=i)
        (job / "job.json").write_text("{}", encoding="utf-8")
    (write_run(tmp_path / "alone", seed=2) / ".hydra").mkdir()
    kept = {
        "sweep/multirun.yaml": "hydra: {overrides: {task: ['seed=0,1', 'data.path=''a b''']}}",
        "alone/.hydra/overrides.yaml": "- seed=2\n- model.api_key=abcdefgh",
    }
    for name, text in kept.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def made(folder):
    found = origins(collect([str(folder)])[0])
    return {origin.folder.name: (origin.command, len(origin.runs)) for origin in found}


def test_commands_can_be_typed_again_and_hold_no_secret(runs):
    command, jobs = made(runs)["sweep"]
    assert jobs == 2
    assert command.startswith("python run.py -m seed=0,1 ")
    typed = os.popen(f"printf '%s\\n' {command}").read().splitlines()  # as a shell reads it
    assert typed == ["python", "run.py", "-m", "seed=0,1", "data.path='a b'"]
    command, jobs = made(runs)["alone"]
    assert jobs == 1
    assert command.startswith("python run.py seed=2 ")
    assert "abcdefgh" not in command


@pytest.mark.parametrize("damage", [b"", b"[", b"hydra: 1", b"hydra: {overrides: {task: [1]}}"])
def test_what_cannot_be_read_is_no_command(damage, runs):
    (runs / "sweep" / "multirun.yaml").write_bytes(damage)
    assert made(runs)["sweep"] == (None, 2)


def test_the_page_says_when_from_what_and_how(runs):
    for i, run in enumerate((runs / "sweep" / "0_ppo", runs / "sweep" / "1_ppo", runs / "alone")):
        os.utime(run / "summary.json", (86400 * i, 86400 * i))
    found = write_comparison([str(runs)], runs / "out", "python run.py task=compare runs=here")
    text = (runs / "out" / "comparison.md").read_text(encoding="utf-8").replace("\\", "")
    assert f"Runs finished: {when([0, 2 * 86400])}" in text
    assert str(runs / "sweep") in text
    assert "Commit: c0ffee" in text
    for command in (*[command for command, _ in made(runs).values()], "task=compare runs=here"):
        assert command in text
    assert not found.left_out


@pytest.mark.parametrize(
    ("finished", "known"), [(86400.0 * 400, True), (None, False), (1e300, False), (-1, False)]
)
def test_a_run_says_itself_when_it_ended(finished, known, tmp_path):
    """A copy of its files is of another time."""
    folder = write_run(tmp_path / "run", summary={"time/finished": finished})
    os.utime(folder / "summary.json", (86400 * 800, 86400 * 800))
    (run,), _ = collect([str(tmp_path)])
    assert when([run.ended]).startswith("1971-02-" if known else "1972-03-")


def test_times_of_one_day_name_it_once():
    noon = datetime(2026, 1, 31, 12, 0).astimezone()
    zone = noon.tzname()
    later = [(noon + timedelta(**more)).timestamp() for more in ({}, {"hours": 1}, {"days": 1})]
    assert when(later[:1]) == f"2026-01-31 12:00 {zone}"
    assert when(later[1::-1]) == f"2026-01-31 12:00 to 13:00 {zone}"
    assert when(later) == f"2026-01-31 12:00 to 2026-02-01 12:00 {zone}"

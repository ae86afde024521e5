import json
from datetime import date

import pytest

from harness.errors import RunError
from harness.runs import folder
from harness.runs.files import STATE
from harness.runs.folder import open_run


def stop(run) -> None:
    """As when its process ends."""
    run.release()


def test_a_new_run_writes_down_its_config(configure, tmp_path):
    run = open_run(configure(tmp_path, "seed=3"))
    assert json.loads((tmp_path / STATE).read_text(encoding="utf-8"))["config"]["seed"] == 3
    assert "seed: 3" in (tmp_path / "config.yaml").read_text(encoding="utf-8")
    assert not run.resumed


def test_a_folder_in_use_is_left_alone(configure, tmp_path):
    run = open_run(configure(tmp_path))
    with pytest.raises(RunError, match="another process is running in it"):
        open_run(configure(tmp_path, f"resume={tmp_path}"))
    stop(run)
    assert open_run(configure(tmp_path, f"resume={tmp_path}")).resumed


def test_auto_takes_the_newest_unfinished_run_of_the_same_config(configure, tmp_path):
    for name, overrides, finished in (
        ("old", ("seed=1",), False),
        ("done", ("seed=1",), True),
        ("other", ("seed=2",), False),
    ):
        run = open_run(configure(tmp_path / name, *overrides))
        run.save(finished=finished)
        stop(run)
    run = open_run(configure(tmp_path / "new", "seed=1", "resume=auto", named=False))
    assert run.folder == tmp_path / "old"
    stop(run)
    fresh = open_run(configure(tmp_path / "fresh", "seed=9", "resume=auto", named=False))
    assert fresh.folder == tmp_path / "fresh"
    assert not fresh.resumed


def test_where_and_how_is_logged_may_differ_and_nothing_else(configure, tmp_path):
    stop(open_run(configure(tmp_path)))
    stop(open_run(configure(tmp_path, "resume=auto", "logger=none", "callbacks.samples=3")))
    with pytest.raises(RunError, match=r"stages\.sft\.epochs: 1 then, 2 now"):
        open_run(configure(tmp_path, "resume=auto", "stages.sft.epochs=2"))


class Day(date):
    """A calendar that is turned by hand."""

    shown = date(2026, 1, 31)

    @classmethod
    def today(cls):
        return cls.shown


def test_a_run_keeps_the_date_on_which_it_began(configure, tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "date", Day)
    run = open_run(configure(tmp_path / "run"))
    assert run.date == "2026-01-31"
    stop(run)
    monkeypatch.setattr(Day, "shown", date(2026, 2, 1))
    run = open_run(configure(tmp_path / "run", "resume=auto"))
    assert (run.resumed, run.date) == (True, "2026-01-31")
    stop(run)
    run = open_run(configure(tmp_path / "new"))
    assert run.date == "2026-02-01"
    stop(run)
    given = configure(tmp_path / "given", "model.date=2024-02-29")
    run = open_run(given)
    assert run.date == "2024-02-29"
    monkeypatch.setenv(folder.LEADER, str(tmp_path / "run"))
    monkeypatch.setattr(folder, "this_rank", lambda: 1)
    assert open_run(given).date == "2026-01-31"


def test_resuming_what_is_no_run_is_an_error(configure, tmp_path):
    with pytest.raises(RunError, match="holds no run"):
        open_run(configure(tmp_path / "new", f"resume={tmp_path / 'nothing'}"))

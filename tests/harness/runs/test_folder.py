import json
from datetime import date

import pytest
import torch

from harness.disk.files import STATE
from harness.errors import RunError
from harness.runs import folder
from harness.runs.folder import open_run as opened


def open_run(cfg, inputs=None):
    return opened(cfg, lambda: inputs or {"data": {"source": "landmarks"}})


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


def test_how_much_goes_through_a_model_at_a_time_may_be_given_anew(configure, tmp_path):
    stop(open_run(configure(tmp_path)))
    anew = ["algo.micro_batch_size=1", "algo.micro_batch_tokens=9", "hardware.checkpointing=true"]
    run = open_run(configure(tmp_path, "resume=auto", *anew))
    assert run.resumed
    assert run.config["algo"]["micro_batch_tokens"] == 9


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
    with pytest.raises(RunError, match="no such folder"):
        open_run(configure(tmp_path / "new", f"resume={tmp_path / 'nothing'}"))


THEN = {"data": {"sha256": "1"}, "reward.path": {"my_reward": "2"}}
NOW = {"data": {"sha256": "1"}, "reward.path": {"my_reward": "3"}}


def test_a_run_does_not_go_on_with_other_inputs_unless_that_is_asked_for(configure, tmp_path):
    stop(open_run(configure(tmp_path), THEN))
    written = (tmp_path / STATE).read_bytes()
    with pytest.raises(
        RunError, match=r"resume_anyway=true(.|\n)*  reward\.path: my_reward changed"
    ):
        open_run(configure(tmp_path, f"resume={tmp_path}"), NOW)
    assert (tmp_path / STATE).read_bytes() == written
    stop(open_run(configure(tmp_path, f"resume={tmp_path}"), THEN))
    run = open_run(configure(tmp_path, f"resume={tmp_path}", "resume_anyway=true"), NOW)
    stop(run)
    assert run.changed == ["reward.path: my_reward changed"]
    # It stays known, also when it goes on once more.
    run = open_run(configure(tmp_path, f"resume={tmp_path}"), THEN)
    stop(run)
    assert run.changed == ["reward.path: my_reward changed"]


def test_auto_leaves_runs_with_other_inputs_alone_and_says_so(configure, tmp_path):
    stop(open_run(configure(tmp_path / "old"), THEN))
    auto = ("resume=auto",)
    run = open_run(configure(tmp_path / "new", *auto, named=False), NOW)
    stop(run)
    assert run.folder == tmp_path / "new"
    assert "old is like this run, but reward.path: my_reward changed" in run.notes[0]
    run = open_run(configure(tmp_path / "newer", *auto, named=False), THEN)
    assert run.folder == tmp_path / "old"
    assert len(run.notes) == 1
    assert "new is like this run, but" in run.notes[0]


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}", "null", '{"config": 1}', "\x00\x00"])
def test_one_damaged_run_among_others_is_named_and_harms_itself_only(text, configure, tmp_path):
    stop(open_run(configure(tmp_path / "whole"), THEN))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / STATE).write_text(text, encoding="utf-8")
    run = open_run(configure(tmp_path / "new", "resume=auto", named=False), THEN)
    assert run.folder == tmp_path / "whole"
    assert str(tmp_path / "damaged" / STATE) in run.notes[0]
    with pytest.raises(RunError, match="is damaged"):
        open_run(configure(tmp_path / "new", f"resume={tmp_path / 'damaged'}"), THEN)
    stop(run)


def test_a_stage_that_is_another_one_is_refused_once_something_was_trained_with_it(
    configure, tmp_path
):
    run = open_run(configure(tmp_path), THEN)
    run.require_stage("sft", "a")
    stop(run)
    resumed = ("resume=auto",)
    run = open_run(configure(tmp_path, *resumed), THEN)
    run.require_stage("sft", "b")  # nothing was trained yet
    stop(run)
    (tmp_path / "checkpoints").mkdir()
    one_step = {"fit_loop": {"epoch_loop.batch_progress": {"total": {"processed": 1}}}}
    checkpoint = {"state_dict": {}, "loops": one_step}
    torch.save(checkpoint, tmp_path / "checkpoints" / "iteration-00000.ckpt")
    run = open_run(configure(tmp_path, *resumed), THEN)
    with pytest.raises(RunError, match="sft: was stage b, is a now"):
        run.require_stage("sft", "a")
    stop(run)
    run = open_run(configure(tmp_path, *resumed, "resume_anyway=true"), THEN)
    run.require_stage("sft", "a")
    assert "sft: was stage b" in run.changed[0]


def test_a_refused_command_changes_nothing_of_the_run_in_its_folder(configure, tmp_path):
    stop(open_run(configure(tmp_path, "seed=3"), THEN))
    files = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert "seed: 3" in (tmp_path / ".hydra" / "config.yaml").read_text(encoding="utf-8")
    with pytest.raises(RunError, match="seed: 3 then, 4 now"):
        open_run(configure(tmp_path, "seed=4", "resume=auto"), THEN)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == files


def test_no_secret_is_written(configure, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_inthe_environment")
    monkeypatch.setenv("ROOM", "inthe_environment_too")
    open_run(
        configure(
            tmp_path,
            "+my_token=typed_secret",
            "+hub.note='${oc.env:HF_TOKEN}'",
            "+room=${oc.env:ROOM}",
        ),
        THEN,
    )
    text = "".join(p.read_text(encoding="utf-8") for p in tmp_path.rglob("*") if p.is_file())
    assert "typed_secret" not in text
    assert "inthe_environment" not in text
    assert "${oc.env:HF_TOKEN}" in text


def test_an_input_that_was_moved_is_the_same_input(configure, tmp_path):
    """Its content is compared, and not what it is called."""
    here = ("data=files", f"data.path={tmp_path / 'here.jsonl'}")
    there = ("data=files", f"data.path={tmp_path / 'there.jsonl'}")
    stop(open_run(configure(tmp_path / "run", *here), THEN))
    run = open_run(configure(tmp_path / "run", *there, "resume=auto"), THEN)
    stop(run)
    assert (run.resumed, run.changed) == (True, [])
    found = open_run(configure(tmp_path / "new", *here, "resume=auto", named=False), THEN)
    stop(found)
    assert found.folder == tmp_path / "run"
    with pytest.raises(RunError, match="my_reward changed"):
        open_run(configure(tmp_path / "run", *there, "resume=auto"), NOW)


@pytest.mark.parametrize("key", ["inputs", "stages", "changed", "date", "config"])
def test_a_value_of_another_kind_is_damage(key, configure, tmp_path):
    stop(open_run(configure(tmp_path), THEN))
    state = json.loads((tmp_path / STATE).read_text(encoding="utf-8")) | {key: 5}
    (tmp_path / STATE).write_text(json.dumps(state), encoding="utf-8")
    with pytest.raises(RunError, match=f"is damaged, it does not say '{key}'"):
        open_run(configure(tmp_path, "resume=auto"), THEN)


def test_auto_with_nothing_to_resume_names_the_nearest_run_and_how_it_differs(configure, tmp_path):
    for name, options, finished in (
        ("far", ("seed=4", "algo.beta=0.3", "algo.lam=0.5"), False),
        ("near", ("seed=4",), False),
        ("done", ("seed=5",), True),
    ):
        run = open_run(configure(tmp_path / name, *options))
        run.save(finished=finished)
        stop(run)
    new = open_run(configure(tmp_path / "new", "seed=6", "resume=auto", named=False))
    (note,) = new.notes
    assert not new.resumed
    stop(new)
    assert f"the nearest, {tmp_path / 'near'}," in note or f"{tmp_path / 'done'}," in note
    assert "seed (4 then, 6 now)" in note or "seed (5 then, 6 now)" in note
    again = open_run(configure(tmp_path / "again", "seed=5", "resume=auto", named=False))
    assert again.notes[0].endswith(f"the nearest, {tmp_path / 'done'}, is finished")
    stop(again)
    named = open_run(configure(tmp_path / "named", "resume=auto"))
    assert "holds no run yet" in named.notes[0]
    stop(named)


def test_a_folder_that_is_none_leads_to_the_runs_near_it(configure, tmp_path):
    run = open_run(configure(tmp_path / "sweep" / "2026-01-31_seed0"))
    stop(run)
    for given, meant in (
        (tmp_path / "sweep" / "2026-01-31_sed0", f"did you mean {run.folder}?"),
        (tmp_path / "sweep", f"those in it are {run.folder}"),
        (run.folder / "model", f"the run is {run.folder}"),
        (tmp_path / "sweep" / "other", f"the newest beside it are {run.folder}"),
    ):
        with pytest.raises(RunError, match=r"no such folder|holds no run") as error:
            open_run(configure(tmp_path / "new", f"resume={given}"))
        assert meant in str(error.value)

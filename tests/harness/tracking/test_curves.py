"""curves.png is there when a training ends or is stopped, and ends nothing itself."""

import pytest

from harness.tasks.train import train


def stop(error):
    def raised(self, *args, **kwargs):
        if self.trainer.current_epoch == 1:
            raise error

    return raised


def test_a_run_and_its_stages_leave_their_curves(configure, tmp_path):
    summary = train(configure(tmp_path / "run", "algo=ppo"))
    assert (tmp_path / "run" / "curves.png").is_file()
    for stage in ("sft", "reward_model"):
        folder = summary[f"stages/{stage}/path"]
        assert (tmp_path / folder / "curves.png").is_file()


@pytest.mark.parametrize(("error", "drawn"), [(SystemExit(143), True), (ValueError(), False)])
def test_a_run_that_is_stopped_leaves_what_it_has(error, drawn, configure, tmp_path, monkeypatch):
    monkeypatch.setattr("lightning_modules.policy.PolicyModule.on_train_epoch_start", stop(error))
    with pytest.raises(type(error)):
        train(configure(tmp_path, "algo=reinforce", "reward=gold", "algo.iterations=3"))
    assert (tmp_path / "curves.png").is_file() == drawn


def test_a_picture_that_fails_ends_nothing(configure, tmp_path, monkeypatch, capsys):
    def fails(*args, **options):
        raise ValueError("no font")

    monkeypatch.setattr("harness.tracking.curves.draw_run", fails)
    summary = train(configure(tmp_path, "algo=reinforce", "reward=gold"))
    assert summary["rollout/episodes"] > 0
    assert "curves.png: left out, as it could not be drawn: no font" in capsys.readouterr().err

"""A policy that learns from a judge: behind a real server, broken off and resumed."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from harness.errors import JudgeError
from harness.tasks.train import train
from tests.lightning_modules.judges.server import Server, serving

KEY = "sk-" + "n0t-for-files" * 3
BUDGET = (
    *("algo.iterations=3", "algo.val_prompts=4", "algo.prompts_per_iteration=4"),
    *("algo.evaluate_every=3", "callbacks.samples=2"),
)
# What the self-check scores, in both orders: a resumed one has other responses to look at.
CHECKED = 16


def weights(folder):
    return AutoModelForCausalLM.from_pretrained(folder / "model").state_dict()


def test_a_run_that_its_budget_ends_goes_on_as_if_it_had_not_and_asks_nothing_twice(
    configure, tmp_path, metrics_of, monkeypatch
):
    monkeypatch.setenv("JUDGES_KEY", KEY)
    server = Server(key=KEY)

    def run(folder, cache, *options):
        given = ("algo=rloo", "reward=judge", "reward.form=win", "judge=helpful")
        place = ("judge.model=toy", f"judge.base_url=http://127.0.0.1:{port}/v1")
        secret = ("judge.key_from=JUDGES_KEY", f"judge.cache={tmp_path / cache}")
        return train(configure(folder, *given, *BUDGET, *place, *secret, *options))

    with serving(server.handle) as port:
        whole = run(tmp_path / "whole", "a.sqlite")
        asked = dict(server.asked)
        assert set(asked.values()) == {1}
        server.asked.clear()
        broken = tmp_path / "broken"
        with pytest.raises(JudgeError, match=r"judge\.max_requests"):
            run(broken, "b.sqlite", f"judge.max_requests={len(asked) // 2}")
        assert sum(server.asked.values()) == len(asked) // 2
        resumed = run(broken, "b.sqlite", f"resume={broken}", "judge.max_requests=1000")
        assert max(server.asked.values()) == 1
        assert asked.keys() <= server.asked.keys()
        assert len(server.asked) <= len(asked) + CHECKED

    assert (resumed["val/score"], resumed["val/win_rate"]) == (
        whole["val/score"],
        whole["val/win_rate"],
    )
    assert whole["judge"] == f"toy at http://127.0.0.1:{port}/v1, by judge=helpful"
    unbroken = weights(tmp_path / "whole")
    for name, tensor in weights(broken).items():
        assert torch.equal(tensor, unbroken[name]), name
    rows = metrics_of(tmp_path / "whole")
    assert sum(float(row["judge/requests"]) for row in rows) >= len(asked) // 2
    assert all(float(row["judge/failed"]) == 0 for row in rows)
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file

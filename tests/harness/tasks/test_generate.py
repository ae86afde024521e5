"""task=generate: what is written is the policy's own, once, whatever happens meanwhile."""

import os
import signal
import time
from collections import Counter

import pytest

from datamodules.records import DataError
from harness.errors import RunError
from harness.feedback.answers import prompt_id, read_answers
from harness.tasks.evaluate import evaluate
from harness.tasks.generate import generate
from harness.tasks.train import train
from lightning_modules.errors import OptionError


@pytest.fixture(scope="module")
def run(configure, tmp_path_factory):
    """The folder of a finished run of PPO."""
    folder = tmp_path_factory.mktemp("runs") / "ppo"
    train(configure(folder, "algo=ppo", "algo.iterations=1"))
    return folder


@pytest.fixture
def written(configure, tmp_path):
    """written(*overrides, to=name): the rows of task=generate, and its file."""

    def make(*overrides, to):
        options = ("task=generate", *overrides, f"to={tmp_path / to}")
        generate(configure(tmp_path / "hydra", *options))
        file = tmp_path / to / "answers.jsonl"
        return read_answers(file), file

    return make


def test_answers_depend_on_prompt_sample_and_policy_alone(run, written):
    both = f"policies={{new: {run}, old: reference, twin: {run}}}"
    rows, file = written(both, "prompts=8", "samples=2", to="first")
    assert [row.id for row in rows] == [prompt_id(row.prompt) for row in rows]
    assert Counter((a.policy, a.sample) for row in rows for a in row.answers) == {
        (name, sample): 8 for name in ("new", "old", "twin") for sample in (0, 1)
    }
    _, again = written(both, "prompts=8", "samples=2", "batch_size=3", to="second")
    assert again.read_bytes() == file.read_bytes()
    more, _ = written(f"policy={run}", "prompts=4", "samples=3", to="third")
    known = {row.id: [a.text for a in row.answers[:2]] for row in rows}
    shared = [row for row in more if row.id in known]
    assert shared
    for row in shared:
        assert [a.text for a in row.answers[:2]] == known[row.id]
        assert {a.policy for a in row.answers} == {"ppo"}
    texts = Counter(a.text for row in rows for a in row.answers)
    assert len(texts) > 0.8 * texts.total()  # the same policy twice does not say the same twice


def test_every_answer_is_the_policys_own_and_says_how_it_ended(run, written):
    rows, _ = written(f"policy={run}", "prompts=20", to="answers")
    answers = [row.answers[0] for row in rows]
    assert {a.stopped for a in answers} == {True, False}
    longest = max(a.tokens for a in answers)
    assert all(a.tokens == longest for a in answers if not a.stopped)
    assert {a.text for a in answers if a.tokens == 1 and a.stopped} <= {""}


def test_killed_in_the_middle_it_goes_on_to_the_same_bytes(run, written, configure, tmp_path):
    options = (f"policy={run}", "split=all", "prompts=60", "samples=2", "batch_size=14")
    _, whole = written(*options, to="whole")
    config = configure(tmp_path / "hydra", "task=generate", *options, f"to={tmp_path / 'torn'}")
    file = tmp_path / "torn" / "answers.jsonl"
    child = os.fork()
    if child == 0:
        try:
            generate(config)
        finally:
            os._exit(1)  # too late
    while not file.exists() or file.read_bytes().count(b"\n") < 10:
        time.sleep(0.002)
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    kept = file.read_bytes()
    count = kept.count(b"\n")
    assert 10 <= count < 60
    assert kept == whole.read_bytes()[: len(kept)]
    file.write_bytes(kept + whole.read_bytes()[len(kept) :][:50])  # half a row
    written(*options, to="torn")
    assert file.read_bytes() == whole.read_bytes()


def test_other_options_do_not_go_on_with_a_file(run, written):
    written(f"policy={run}", "prompts=4", to="answers")
    with pytest.raises(RunError, match="samples: 1 then, 2 now"):
        written(f"policy={run}", "prompts=4", "samples=2", to="answers")


def test_a_file_of_answers_is_a_file_of_prompts(run, written, configure, tmp_path, monkeypatch):
    rows, file = written(f"policy={run}", "prompts=10", to="answers")
    of_file = ("data=files", f"data.path={file}", "data.max_prompt_tokens=32")
    again, _ = written(f"policy={run}", *of_file, "split=all", to="again")
    assert {row.id for row in again} == {row.id for row in rows}
    assert {row.id: row.answers for row in again} == {row.id: row.answers for row in rows}
    (tmp_path / "short_reward.py").write_text(
        "def score(prompts, responses):\n    return [-float(len(r)) for r in responses]\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    short = ("reward=function", "reward.path=short_reward:score", "data.max_response_tokens=16")
    summary = evaluate(
        configure(
            tmp_path / "eval", "task=evaluate", f"policy={run}", f"against={run}", *of_file, *short
        )
    )
    assert summary["val/score"] < 0
    with pytest.raises(DataError, match="prompts alone"):
        train(configure(tmp_path / "toy", *of_file, *short))
    own = (f"model.pretrained={run}/model", "algo=reinforce", "algo.iterations=1")
    summary = train(configure(tmp_path / "train", *of_file, *short, *own))
    assert summary["val/score"] < 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "policy=None: give policy="),
        (("policies=[]",), "give policy="),
        (("policy=a", "policies=[b]"), "policies="),
        (("policies={x: a, y: [b]}",), "give policy="),
        (("policies=[a,a]",), "names a twice"),
        (("policy=a", "samples=0"), "samples=0"),
        (("policy=a", "split=test"), "split=test"),
        (("policy=a", "temperature=0"), "temperature=0"),
    ],
)
def test_what_cannot_be_meant_is_refused(configure, tmp_path, options, said):
    with pytest.raises(OptionError) as caught:
        generate(configure(tmp_path / "run", "task=generate", *options))
    assert said in str(caught.value)

"""Rounds of feedback at a tiny budget, through the same entry as the command line."""

import json

import pytest
from hydra.core.hydra_config import HydraConfig

from datamodules.sources.landmarks import Landmarks
from harness.comparison.grouping import configurations
from harness.comparison.reading import collect
from harness.disk.files import STATE
from harness.feedback.answers import read_answers
from harness.rounds import loop, pairs
from harness.tasks.rounds import rounds
from lightning_modules.errors import OptionError
from lightning_modules.policy import PolicyModule

TWO = ("task=rounds", "rounds=2", "pairs=6", "algo.iterations=2", "selfcheck=false")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where a test makes the rounds that others look at too."""
    return tmp_path_factory.mktemp("rounds") / "whole"


@pytest.fixture
def whole(place, configure):
    if not place.exists():
        rounds(configure(place, *TWO))
    return place


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_round_learns_from_all_labels_so_far_and_goes_on_with_the_policy(whole):
    summary = read(whole / "summary.json")
    first, second = (read(whole / f"round-{k}" / "summary.json") for k in (1, 2))
    prompts = {p.text for p in Landmarks().prompts("train")}
    for number in (1, 2):
        answers = read_answers(whole / "answers" / f"round-{number}.jsonl")
        policy = "reference" if number == 1 else "round 1"
        assert {a.policy for row in answers for a in row.answers} == {policy}
        said = {row.prompt.text: {a.text for a in row.answers} for row in answers}
        labels = lines(whole / "labels" / f"round-{number}.jsonl")
        assert len(labels) == 6
        for label in labels:
            assert label["prompt"] in prompts
            assert {label["chosen"], label["rejected"]} == said[label["prompt"]]
    # The reward model is another one, of all labels; the reference stays that of the first round.
    assert (first["data/rows of data.more"], second["data/rows of data.more"]) == (6, 12)
    assert first["stages/reward_model/path"] != second["stages/reward_model/path"]
    assert first["stages/sft/path"] == second["stages/sft/path"]
    assert second["policy_from"] == second["critic_from"] == str(whole / "round-1")
    config = read(whole / "round-2" / STATE)["config"]
    assert config["round"] == {"number": 2, "pairs": 6, "labels": "gold"}
    # What the summary says of all rounds is what theirs say.
    assert summary["val/kl"] == summary["round_2/val/kl"] == second["val/kl"]
    assert summary["round_1/val/score"] == first["val/score"]
    assert summary["rollout/episodes"] == 2 * second["rollout/episodes"]
    assert summary["round_1/labels"] == summary["round_2/labels"] == 6
    assert (whole / "rounds.png").stat().st_size > 10_000
    # A round is a command that can be typed.
    typed = (whole / "round-2" / ".hydra" / "overrides.yaml").read_text(encoding="utf-8")
    assert "+round={number:2,pairs:6,labels:gold}" in typed
    assert "task=" not in typed


def test_finished_rounds_are_not_done_again_and_more_may_follow(whole, configure, monkeypatch):
    monkeypatch.setattr(PolicyModule, "training_step", None)
    around = configure(whole, *TWO, "resume=auto")
    kept = HydraConfig.get().runtime.output_dir
    assert rounds(around) == read(whole / "summary.json")
    assert HydraConfig.get().runtime.output_dir == kept


def test_rounds_of_several_seeds_are_compared_by_their_number(whole, configure, tmp_path):
    other = (*TWO, "rounds=1", "seed=1")
    rounds(configure(tmp_path / "other", *other))
    runs, left_out = collect([str(whole), str(tmp_path / "other")])
    assert left_out == []
    found = {c.name: c.seeds for c in configurations(runs)}
    assert found == {"round.number=1": [0, 1], "round.number=2": [0]}


class Killed(BaseException):
    """The end of a process."""


@pytest.fixture
def killed(monkeypatch):
    """killed(module, name, call): let the `call`-th call of a function be the last one."""

    def kill(place, name, call):
        function, calls = getattr(place, name), []

        def last(*args, **kwargs):
            calls.append(name)
            if len(calls) == call:
                raise Killed
            return function(*args, **kwargs)

        monkeypatch.setattr(place, name, last)

    return kill


def test_what_is_killed_anywhere_ends_as_what_was_not(
    whole, configure, tmp_path, killed, monkeypatch, metrics_of
):
    command = (*TWO, "resume=auto")
    for place, name, call in (
        (pairs, "append_whole", 4),
        (loop, "write_rows", 1),
        (PolicyModule, "update", 2),
        (loop, "train_chosen", 2),
        (PolicyModule, "update", 2),
        (loop, "accuracy", 2),
        (loop, "write_summary", 1),
    ):
        killed(place, name, call)
        with pytest.raises(Killed):
            rounds(configure(tmp_path / "run", *command))
        monkeypatch.undo()
        # A line that was not written to its end.
        if name == "append_whole":
            with open(tmp_path / "run" / "answers" / "round-1.jsonl", "ab") as file:
                file.write(b'{"id": "')
    rounds(configure(tmp_path / "run", *command))
    for number in (1, 2):
        assert metrics_of(tmp_path / "run" / f"round-{number}") == metrics_of(
            whole / f"round-{number}"
        )
    for file in ("answers/round-1", "answers/round-2", "answers/round-3", "labels/round-2"):
        path = f"{file}.jsonl"
        assert (tmp_path / "run" / path).read_bytes() == (whole / path).read_bytes()
    model = "round-2/model/model.safetensors"
    assert (tmp_path / "run" / model).read_bytes() == (whole / model).read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("rounds=0",), r"rounds=0: must be at least 1"),
        (("pairs=many",), r"pairs=many: must be a whole number"),
        (("labels=me",), r"labels=me: must be one of gold, judge, people"),
        (("labels=judge",), r"labels=judge: needs a judge"),
        (("reward=gold",), r"reward=gold: rounds fit a reward model"),
        (("hardware.devices=2",), r"hardware=cpu: a round has one device"),
    ],
)
def test_what_cannot_be_is_refused(options, message, configure, tmp_path):
    with pytest.raises(OptionError, match=message):
        rounds(configure(tmp_path / "run", *TWO, *options))


def test_gold_labels_need_a_world_that_knows(configure, tmp_path):
    file = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"{i}?", "chosen": "a", "rejected": "b"} for i in range(30)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(OptionError, match=r"labels=gold: data=files has no annotators"):
        rounds(configure(tmp_path / "run", *TWO, "data=files", f"data.path={file}"))

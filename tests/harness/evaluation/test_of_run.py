"""What an evaluation takes from its run, and what it does not believe of it."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from harness.command_line.of_runs import choices_of_run, with_options_of_run
from harness.disk.files import CONFIG, STATE
from harness.errors import RunError
from harness.evaluation.of_run import taken_from_run
from harness.evaluation.verdict import player_names
from harness.runs.command import run_of
from harness.runs.secrets import kept
from harness.tasks.evaluate import evaluate
from harness.tasks.train import train
from lightning_modules.errors import OptionError

OF_ITS_OWN = ("algo.temperature=0.7", "seed=3", "algo.val_prompts=6", "data.val_pairs=40")
MADE: dict[str, Path] = {}


@pytest.fixture
def trained(configure, tmp_path_factory) -> Path:
    """A finished run with options of its own, made once."""
    if not MADE:
        folder = tmp_path_factory.mktemp("trained") / "2026-01-31_12-00-00_tiny"
        train(configure(folder, "algo=reinforce", *OF_ITS_OWN))
        MADE["run"] = folder
    return MADE["run"]


@pytest.fixture
def written(configure, tmp_path):
    """written(*overrides): the folder of a run of these options, which has trained nothing."""

    def write(*overrides, name="then", stages=None) -> Path:
        folder = tmp_path / name
        config = kept(configure(folder, *overrides))
        (folder / "model").mkdir(parents=True)
        (folder / "model" / "config.json").write_text("{}", encoding="utf-8")
        (folder / CONFIG).write_text(yaml.safe_dump(config), encoding="utf-8")
        state = {"finished": True, "wandb_id": "x", "stages": stages or {}, "config": config}
        (folder / STATE).write_text(json.dumps(state), encoding="utf-8")
        return folder

    return write


def of(run: Path) -> tuple[str, str]:
    return "task=evaluate", f"policy={run}"


def summary_of(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def test_a_run_is_evaluated_as_it_evaluated_itself(trained, configure, tmp_path, monkeypatch):
    """Wherever one stands, and though the cache of this command is another one."""
    monkeypatch.chdir(tmp_path)
    # The last is the run's own: `configure` types another one, which would win.
    options = (f"cache_dir={tmp_path / 'own'}", "algo.val_prompts=6")
    found = evaluate(configure(tmp_path / "e", "task=evaluate", f"policy={trained}", *options))
    then = summary_of(trained)
    scores = ("val/score", "reference/score", "val/win_rate")
    for name in (*scores, "val/kl", "val/length", "reference/length", "val/entropy"):
        assert found[name] == pytest.approx(then[name], rel=1e-5), name
    for name in ("seed", "data", "stages/sft/path", "stages/reward_model/path"):
        assert found[name] == then[name]
    assert found["stages/reward_model/reused"] is True
    assert not list((tmp_path / "own").glob("*/*/model"))
    lines = (tmp_path / "e" / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 6


def test_a_run_links_what_it_was_trained_from_and_with(trained):
    then = summary_of(trained)
    for name, stage in (("reference", "sft"), ("reward_model", "reward_model")):
        assert (trained / name).resolve() == Path(then[f"stages/{stage}/path"]).resolve()
        assert not (trained / name).readlink().is_absolute()


def test_a_stage_that_is_gone_is_said_before_another_is_trained(
    trained, configure, tmp_path, capsys
):
    run = tmp_path / "moved"
    shutil.copytree(trained, run, symlinks=True)
    (run / "reward_model").unlink()
    config = yaml.safe_load((run / CONFIG).read_text(encoding="utf-8"))
    config["cache_dir"] = "gone"
    (run / CONFIG).write_text(yaml.safe_dump(config), encoding="utf-8")
    options = (*of(run), f"cache_dir={tmp_path / 'own'}")
    with pytest.raises(RunError, match="its reward model is not there any more"):
        evaluate(configure(tmp_path / "a", *options, "data.seed=1"))
    assert not (tmp_path / "own").exists()
    evaluate(configure(tmp_path / "b", *options, "data.val_pairs=40"))
    said = capsys.readouterr().out
    mark = Path(summary_of(trained)["stages/reward_model/path"]).name
    assert said.index(f"reward_model/{mark}) is not there") < said.index("reward_model: trained")
    assert [p.name for p in (tmp_path / "own" / "reward_model").glob("[!.]*[!k]")] == [mark]


@pytest.mark.parametrize(
    ("typed", "known"),
    [
        ((), {"sft", "reward_model"}),
        (("reward=gold",), {"sft"}),
        (("data=ultrafeedback",), {"sft", "reward_model"}),
        (("data=ultrafeedback", "reward=gold", "against=x"), {"sft"}),
        (("data=ultrafeedback", "reward=learned", "against=x"), {"sft"}),
        (("reward=learned",), {"sft", "reward_model"}),
        (("reward=learned", "reward.ensemble=2"), {"sft"}),
        (("stages.reward_model.epochs=9",), {"sft"}),
        (("stages.sft.epochs=9",), set()),
        (("model=gpt2",), set()),
    ],
)
def test_stages_serve_unless_what_was_typed_would_make_others(
    typed, known, configure, written, tmp_path
):
    """As no stage is there, those that would serve are lost ones."""
    run = written(stages={"sft": "a" * 16, "reward_model": "b" * 16})
    cfg = configure(tmp_path / "e", "task=evaluate", f"policy={run}", *typed)
    if typed == ("data=ultrafeedback",):
        with pytest.raises(RunError, match="give reward=learned"):
            taken_from_run(cfg, typed)
    else:
        assert taken_from_run(cfg, typed).origin.lost.keys() == known


def test_what_is_typed_wins_and_the_rest_is_the_runs(configure, written, tmp_path):
    run = written("data.seed=7", "data.decisiveness=2", "reward=gold", "algo.temperature=0.5")
    typed = ["data.seed=8", "evaluation.prompts=5"]
    taken = taken_from_run(configure(tmp_path / "e", *of(run), *typed), typed)
    assert (taken.config.data.seed, taken.config.data.decisiveness) == (8, 2)
    assert taken.config.reward.name == "gold"
    assert (taken.config.evaluation.prompts, taken.config.evaluation.temperature) == (5, 0.5)
    assert "reward gold" in taken.notes[0]
    assert "typed: data.seed=8 evaluation.prompts=5" in taken.notes[0]
    typed = ["data=files", "data.path=x"]
    cfg = configure(tmp_path / "e", *of(run), *typed)
    assert taken_from_run(cfg, typed).config.data == cfg.data
    assert taken_from_run(cfg, []).config.data.seed == 7


def test_an_option_that_the_runs_data_do_not_have_is_named(configure, written, tmp_path):
    run = written()
    typed = ["++data.limit=3"]
    with pytest.raises(OptionError, match=r"data\.limit: .* it has .*seed, train_demonst"):
        taken_from_run(configure(tmp_path / "e", *of(run), *typed), typed)


def test_paths_are_those_of_where_the_run_was_started(configure, written, tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "pairs.jsonl").touch()
    run = written("data=files", "data.path=pairs.jsonl", "data.val_path=[none.jsonl,p*.jsonl]")
    (run / ".hydra").mkdir()
    home = {"hydra": {"runtime": {"cwd": str(tmp_path / "home"), "choices": {}}}}
    (run / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump(home), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    data = taken_from_run(configure(tmp_path / "e", *of(run)), []).config.data
    assert data.path == str(tmp_path / "home" / "pairs.jsonl")
    assert data.val_path == ["none.jsonl", str(tmp_path / "home" / "p*.jsonl")]


def test_code_that_a_runs_folder_names_is_not_imported(configure, written, tmp_path):
    run = written("reward=function", "reward.path=theirs:score")
    with pytest.raises(RunError, match=r"reward\.path=theirs:score: code .* not imported"):
        taken_from_run(configure(tmp_path / "e", *of(run)), [])
    typed = ["++reward.path=theirs:score"]
    taken = taken_from_run(configure(tmp_path / "e", *of(run), *typed), typed)
    assert taken.config.reward.path == "theirs:score"


def test_a_reward_model_is_judged_on_its_own_data(configure, written, tmp_path):
    run = written("algo=reward_model", "data.seed=7")
    typed = ["reward=checkpoint", f"reward.path={run / 'model'}"]
    cfg = configure(tmp_path / "e", "task=evaluate", *typed)
    assert taken_from_run(cfg, typed).config.data.seed == 7
    assert taken_from_run(cfg, [*typed, "data=landmarks"]).config.data.seed == 0


def test_a_run_without_a_model_is_named_with_what_to_do(configure, written, tmp_path):
    run = written()
    shutil.rmtree(run / "model")
    for name in ("policy", "against"):
        cfg = configure(tmp_path / "e", "task=evaluate", f"policy={tmp_path}", f"{name}={run}")
        with pytest.raises(RunError, match=rf"{name}={run}: this run has no model/.*resume={run}"):
            taken_from_run(cfg, [])


def test_a_model_from_elsewhere_is_told_what_is_used(configure, tmp_path):
    cfg = configure(tmp_path / "e", "task=evaluate", f"policy={tmp_path}", "reward=gold")
    assert taken_from_run(cfg, ["reward=gold"]).notes[0].startswith("by default data=landmarks;")


def test_policies_have_names_that_tell_them_apart(written, tmp_path):
    run, other = written(name="2026-01-31_12-00-00_ppo_seed1"), written(name="2_ppo_seed1")
    assert player_names(str(run), None) == ("ppo_seed1", "reference")
    assert player_names(f"{run}/model", str(other)) == ("ppo_seed1", "2_ppo_seed1")
    assert (
        player_names(str(run), f"{run}/exports/iteration-00001")[1] == "ppo_seed1 iteration-00001"
    )
    assert player_names("org/model", f"{tmp_path}/model") == ("org/model", f"{tmp_path}/model")


def test_options_of_a_run_need_not_be_those_of_the_defaults(written):
    run = written()
    (run / ".hydra").mkdir()
    chosen = {"data": "files", "reward": "learned", "model": "../../model", "task": "train"}
    text = yaml.safe_dump({"hydra": {"runtime": {"choices": chosen, "cwd": "/"}}})
    (run / ".hydra" / "hydra.yaml").write_text(text, encoding="utf-8")
    assert run_of(str(run / "model")) == run_of(str(run)) == run
    typed = ["data.limit=3", "reward=gold", "reward.x=1", "seed=1"]
    assert with_options_of_run([*of(run), *typed])[2:] == [f"++{typed[0]}", *typed[1:]]
    assert choices_of_run([*of(run), *typed]) == ["data=files"]
    for other in (["task=evaluate", *typed], [f"policy={run}", *typed]):
        assert with_options_of_run(other) == other
        assert choices_of_run(other) == []

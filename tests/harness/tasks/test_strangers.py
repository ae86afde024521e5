"""Folders of strangers: what they bring is read, and never run."""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from harness.disk.files import CONFIG, STATE
from harness.errors import USER_ERRORS, RunError
from harness.tasks.compare import compare
from harness.tasks.evaluate import evaluate
from harness.tasks.export import export_run
from harness.tasks.train import train
from lightning_modules.errors import ModelError

MODULE = "from pathlib import Path\nPath({mark!r}).touch()\n"


class Payload:
    """Pickled, it touches a file when it is read."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return tmp_path_factory.mktemp("original") / "run"


@pytest.fixture
def run(original, configure, tmp_path) -> Path:
    """A finished run, in a folder of its own."""
    if not original.is_dir():
        train(configure(original, "algo=reinforce"))
    return Path(shutil.copytree(original, tmp_path / "run"))


@pytest.fixture
def mark(tmp_path, monkeypatch):
    """The file that a payload touches; the test fails if it is there in the end."""
    # A prompt for consent would be answered with yes.
    monkeypatch.setattr("builtins.input", lambda *text: pytest.fail(f"asked: {text}"))
    yield tmp_path / "mark"
    assert not (tmp_path / "mark").exists(), "the payload ran"


def change(run: Path, section: str, **values) -> None:
    config = yaml.safe_load((run / CONFIG).read_text(encoding="utf-8"))
    place = config
    for name in section.split("."):
        place = place[name]
    place |= values
    (run / CONFIG).write_text(yaml.safe_dump(config), encoding="utf-8")


def export(configure, tmp_path, run, *options):
    named = ("task=export", f"run={run}", "checkpoint=iteration-00003")
    return export_run(configure(tmp_path / "x", *named, *options))


def test_the_folder_itself_can_be_exported(configure, tmp_path, run, mark):
    target = export(configure, tmp_path, run)
    assert (target / "model" / "model.safetensors").is_file()


def test_a_config_that_runs_a_command(configure, tmp_path, run, mark):
    change(run, "model.config", _target_="os.system", _partial_=False, command=f"touch {mark}")
    with pytest.raises(RunError, match=r"config\.yaml: model\.config\._target_='os\.system'"):
        export(configure, tmp_path, run)


def test_a_config_that_loads_a_pickle(configure, tmp_path, run, mark):
    (run / "weights.pt").write_bytes(pickle.dumps(Payload(mark)))
    change(run, "data", _target_="torch.load", f=str(run / "weights.pt"), weights_only=False)
    with pytest.raises(RunError, match=r"config\.yaml: data\._target_='torch\.load'"):
        export(configure, tmp_path, run)


def test_a_config_that_is_more_than_yaml(configure, tmp_path, run, mark):
    text = (run / CONFIG).read_text(encoding="utf-8")
    (run / CONFIG).write_text(
        f'{text}\nx: !!python/object/apply:os.system ["touch {mark}"]\n', encoding="utf-8"
    )
    with pytest.raises(RunError, match=r"config\.yaml cannot be read"):
        export(configure, tmp_path, run)


def test_a_reward_of_a_strangers_is_not_imported(configure, tmp_path, run, mark, monkeypatch):
    (tmp_path / "strangers_reward.py").write_text(MODULE.format(mark=str(mark)), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    config = yaml.safe_load((run / CONFIG).read_text(encoding="utf-8"))
    config["reward"] = {
        "_target_": "lightning_modules.rewards.programmed.FunctionReward",
        "name": "function",
        "path": "strangers_reward:score",
    }
    (run / CONFIG).write_text(yaml.safe_dump(config), encoding="utf-8")
    assert export(configure, tmp_path, run).is_dir()


def test_a_checkpoint_that_is_a_pickle(configure, tmp_path, run, mark):
    for checkpoint in (run / "checkpoints").glob("*.ckpt"):
        torch.save({"state_dict": Payload(mark)}, checkpoint)
    with pytest.raises((*USER_ERRORS, pickle.UnpicklingError)):
        export(configure, tmp_path, run)


def test_an_export_is_not_written_through_a_link(configure, tmp_path, run, mark):
    (tmp_path / "precious" / "model").mkdir(parents=True)
    (tmp_path / "precious" / "model" / "thesis").touch()
    (run / "exports").mkdir()
    (run / "exports" / "iteration-00003").symlink_to(tmp_path / "precious")
    with pytest.raises(RunError, match="exports/iteration-00003: is a link to"):
        export(configure, tmp_path, run)
    assert (tmp_path / "precious" / "model" / "thesis").is_file()


def test_resuming_and_comparing_believe_no_config(configure, tmp_path, run, mark):
    """Both read run.json; what is built is what the command line says."""
    change(run, "model.config", _target_="os.system", _partial_=False, command=f"touch {mark}")
    state = json.loads((run / STATE).read_text(encoding="utf-8"))
    state["config"]["logger"] = {"_target_": "os.system", "command": f"touch {mark}"}
    state["config"]["callbacks"]["checkpoint"] = {"_target_": "os.system"}
    (run / STATE).write_text(json.dumps(state), encoding="utf-8")
    assert compare(configure(tmp_path / "c", "task=compare", f"runs={run}"))
    again = configure(tmp_path / "r", "algo=reinforce", f"resume={run}")
    train(again)
    state["config"]["model"]["config"] = {"_target_": "os.system", "command": f"touch {mark}"}
    (run / STATE).write_text(json.dumps(state), encoding="utf-8")
    with pytest.raises(RunError, match="configured differently"):
        train(again)


def test_resuming_writes_through_no_link(configure, tmp_path, run, mark):
    (tmp_path / "precious").write_text("thesis", encoding="utf-8")
    (run / ".run.json").symlink_to(tmp_path / "precious")
    with pytest.raises(RunError, match=r"\.run\.json: is a link to"):
        train(configure(tmp_path / "r", "algo=reinforce", f"resume={run}"))
    assert (tmp_path / "precious").read_text(encoding="utf-8") == "thesis"


AUTO = ("AutoConfig", "AutoModelForCausalLM", "AutoModelForSequenceClassification")
CODE = {
    "a kind of model": ({"model_type": "strange"}, ModelError),
    "a usual model": ({}, None),  # Transformers has a class for it
}


def bring_code(model: Path, mark: Path, **changes) -> None:
    """Let a model's folder have code of its own, as on the hub."""
    (model / "strange.py").write_text(MODULE.format(mark=str(mark)), encoding="utf-8")
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    config["auto_map"] = dict.fromkeys(AUTO, "strange.Strange")
    (model / "config.json").write_text(json.dumps(config | changes), encoding="utf-8")


@pytest.mark.parametrize(("changes", "error"), CODE.values(), ids=CODE)
def test_code_beside_a_model_is_not_run(configure, tmp_path, run, mark, changes, error):
    bring_code(run / "model", mark, **changes)
    cfg = configure(
        *(tmp_path / "e", "task=evaluate", f"policy={run}", "evaluation.prompts=4"),
        "reward=gold",
    )
    if error is None:
        assert evaluate(cfg)
        return
    with pytest.raises(error, match=r"auto_map in config\.json.*model\.trust_remote_code=true"):
        evaluate(cfg)


def test_code_beside_a_tokenizer_is_not_run(configure, tmp_path, run, mark):
    file = run / "model" / "tokenizer_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config |= {"auto_map": {"AutoTokenizer": ["strange.Slow", "strange.Fast"]}}
    config["tokenizer_class"] = "Strange"
    (run / "model" / "strange.py").write_text(MODULE.format(mark=str(mark)), encoding="utf-8")
    file.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(USER_ERRORS, match=r"tokenizer_config.*trust_remote_code=true"):
        evaluate(configure(tmp_path / "e", "task=evaluate", f"policy={run}", "reward=gold"))


def test_weights_that_are_a_pickle_are_not_unpickled(configure, tmp_path, run, mark):
    (run / "model" / "model.safetensors").unlink()
    (run / "model" / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(mark)))
    torch.save({"weight": Payload(mark)}, run / "model" / "pytorch_model.bin")
    with pytest.raises(ModelError, match=str(run / "model")):
        evaluate(configure(tmp_path / "e", "task=evaluate", f"policy={run}", "reward=gold"))


def test_code_that_a_user_trusts_is_run(configure, tmp_path, run, mark):
    """The model's own config class, which the rest of its code need not replace."""
    model = run / "model"
    bring_code(model, mark)
    (model / "strange.py").write_text(
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "class Own(LlamaConfig):\n    model_type = 'own'\n"
        "class OwnLM(LlamaForCausalLM):\n    config_class = Own\n    own = True\n",
        encoding="utf-8",
    )
    config = json.loads((model / "config.json").read_text(encoding="utf-8")) | {"model_type": "own"}
    config["auto_map"] = {
        "AutoConfig": "strange.Own",
        "AutoModelForCausalLM": "strange.OwnLM",
    }
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    options = (f"model.pretrained={model}", "algo=reinforce", "reward=gold")
    with pytest.raises(ModelError, match=r"model\.trust_remote_code=true"):
        train(configure(tmp_path / "a", *options))
    assert train(configure(tmp_path / "b", *options, "model.trust_remote_code=true"))
    saved = json.loads((tmp_path / "b" / "model" / "config.json").read_text(encoding="utf-8"))
    assert saved["model_type"] == "own"

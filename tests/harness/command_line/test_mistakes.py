"""What is typed wrongly ends in one message that names the option and what was meant."""

import copy
import re

import pytest

from harness.command_line.arguments import look_through
from harness.command_line.composing import Composer
from harness.errors import OptionError


@pytest.fixture(autouse=True)
def _composed_once(monkeypatch):
    """The same choices are composed once, and copied for each test: it takes the most time."""
    monkeypatch.setattr(Composer, "compose", lambda self, o: copy.deepcopy(_composed(self, o)))


def _composed(composer, overrides):
    key = (*map(str, composer.loader.get_search_path().get_path()), *overrides)
    if key not in COMPOSED:
        COMPOSED[key] = compose(composer, overrides)
    return COMPOSED[key]


COMPOSED, compose = {}, Composer.compose


def told(line: str) -> str:
    with pytest.raises(OptionError) as error:
        look_through(line.split())
    said = str(error.value)
    assert "\n" not in said
    assert "To append" not in said
    return said


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("algo.bta=0.1", "algo.beta"),
        ("+algo.bta=0.1", "algo.beta"),
        ("algo.lr=1e-5", "algo.optimizer.lr"),
        ("lr=1e-5", "algo.optimizer.lr"),
        ("beta=0.1", "algo.beta"),
        ("iterations=3", "algo.iterations"),
        ("algo=sft batch_size=3", "algo.batch_size"),
        ("hydra.run.dri=x", "hydra.run.dir"),
        ("stages.sft.epoch=3", "stages.sft.epochs"),
        ("model.lora=true", "adapter=lora"),
        ("gpu=true", "hardware=gpu"),
        ("alg=ppo", "algo=ppo"),
        ("tsk=evaluate", "task=evaluate"),
        ("optimizer=adamw", "algo/optimizer=adamw"),
        ("algo=pppo", "algo=ppo"),
        ("model=lama", "model=llama"),
        ("data=ultrafeedbak", "data=ultrafeedback"),
        ("trainer.max_epochs=3", "algo.iterations=3"),
        ("lora.r=8", "adapter=lora adapter.config.r=8"),
        ("algo.optimizer.lrr=1", "algo.optimizer.lr"),
        ("--cfg jb", "--cfg job"),
        ("--hepl", "--help"),
        ("-m algo.bta=1,2", "algo.beta"),
        ("-m algo=ppo,pppo", "algo=ppo"),
        ("-m experiment=ladder algo.beat=1", "algo.beta"),
    ],
)
def test_a_misspelt_name_leads_to_the_one_that_is_near(line, meant):
    assert f"did you mean {meant}?" in told(line) or f"did you mean {meant}? " in told(line)


@pytest.mark.parametrize(
    ("line", "where", "here"),
    [
        ("algo=a2c algo.clip_range=0.1", "algo=ppo", "algo=a2c"),
        ("-m algo=ppo,a2c algo.clip_range=0.1", "algo=ppo", "algo=a2c"),
        ("data.limt=5", "data=files", "data=landmarks"),
        ("policy=x", "task=evaluate", "task=train"),
    ],
)
def test_an_option_of_another_choice_says_of_which(line, where, here):
    said = told(line)
    assert where in said.partition(", and this is ")[0]
    assert said.endswith(f", and this is {here}")


@pytest.mark.parametrize(
    ("line", "write"),
    [
        ("algo ppo", "algo=ppo"),
        ("algo:ppo", "algo=ppo"),
        ("algo = ppo", "algo=ppo"),
        ("ppo", "algo=ppo"),
        ("--algo ppo", "algo=ppo"),
        ("--algo=ppo", "algo=ppo"),
        ("-algo", "algo=..."),
        ("+algo.beta=1", "algo.beta=1"),
        ("+algo=a2c", "algo=a2c"),
        ("algo/ladder=a2c_to_go", "algo=ladder/a2c_to_go"),
        ("model=./mine", "model=pretrained model.pretrained=./mine"),
        ("data=pairs.jsonl", "data=files data.path=pairs.jsonl"),
        ("reward=mine:score", "reward=function reward.path=mine:score"),
    ],
)
def test_what_is_written_otherwise_is_shown_as_it_is_written_here(line, write):
    assert re.search(rf"\bwrite {re.escape(write)}(,|$)", told(line))


@pytest.mark.parametrize(
    ("line", "wants"),
    [
        ("algo.beta=abc", "a number"),
        ("algo.lam=yes", "a number"),
        ("algo.iterations=ten", "a whole number"),
        ("algo.iterations=1.5", "a whole number"),
        ("seed=abc", "a whole number"),
        ("selfcheck=maybe", "true or false"),
        ("model.vocab_size=big", "a whole number"),
        ("logger.artifacts=maybe", "true or false"),
        ("data=files data.path=x data.held_out=ten", "a number"),
        ("data=files data.path=x data.limit=ten", "a whole number or null"),
        ("callbacks.samples=few", "a whole number"),
        ("hardware.devices=two", "how many"),
        ("task=evaluate evaluation.prompts=ten", "a whole number"),
        ("-m algo.beta=0.1,abc", "a number"),
    ],
)
def test_a_value_of_another_kind_is_told_with_what_the_option_wants(line, wants):
    option, value = re.search(r"([\w.]+)=(?:0\.1,)?(\w[\w.]*)$", line).groups()
    assert told(line).startswith(f"{option}={value}: must be {wants}")


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("~algo", "~algo: "),
        ("~algo.beta", "~algo.beta: "),
        ("model.lr=1e-5", "model.lr=1e-5: "),
        ("algo=ppo,a2c", "algo=ppo,a2c: "),
        ("algo=[ppo]", "algo=[ppo]: one is chosen"),
        ("experiment=[smoke,ladder]", "experiment"),
        ("-m +algo.optimizer.eps=1e-5,1e-6 algo.optimizer.betas=0.9,0.8", "algo.optimizer.betas"),
        ("sft.epochs=1", "sft.epochs=1: there is no such option; did you mean stages.sft.epochs=1"),
        ("algo.clip_range=[0.1", "algo.clip_range=[0.1: "),
        ("experiment=ladder", "experiment=ladder: "),
        ("-m algo.beta=interval(0,1)", "algo.beta=interval(0,1): "),
        ("algo.adaptive_beta.target=3", "algo.adaptive_beta.target=3: "),
        ("+nothing=1", "+nothing=1: "),
        ("--resolve", "--resolve: "),
    ],
)
def test_what_cannot_be_done_is_named(line, option):
    assert told(line).startswith(option)


@pytest.mark.parametrize("plugin", ["sweep=optuna", "sweep=ray", "sweep=slurm", "sweep=joblib"])
def test_a_plugin_that_is_not_installed_names_the_extra(plugin, monkeypatch):
    monkeypatch.setattr("harness.command_line.choices.find_spec", lambda name: None)
    said = told(f"-m {plugin} seed=1,2")
    assert said.startswith(f"{plugin}: ")
    assert said.endswith('pip install -e ".[sweep]"')


@pytest.mark.parametrize(
    "line",
    [
        "",
        "algo=a2c seed=3",
        "algo.clip_range=[0.1,0.2] algo.max_grad_norm=null hardware.devices=[0,1]",
        "experiment=smoke data=files data.path=x",
        "algo.adaptive_beta={target:1,horizon:1000}",
        "+algo.optimizer.betas=[0.9,0.95]",
        "reward=combined +reward@reward.rewards.third=checkpoint +reward.weights.third=0.5",
        "-m experiment=ladder seed=1,2",
        "-m algo=a2c,ppo algo.beta=0.1,0.2 seed=range(1,4)",
        "-m +algo.optimizer.eps=1e-5,1e-6",
        "-m algo=glob(p*)",
        "data=files data.path=[a.jsonl,b.jsonl] data.columns.prompt=0",
        "--cfg job algo=sft",
    ],
)
def test_what_is_right_stays_as_it_is(line):
    assert look_through(line.split()) == line.split()


def test_flags_may_stand_anywhere():
    assert look_through(["algo=sft", "-m", "seed=1,2"]) == ["-m", "algo=sft", "seed=1,2"]


def own_file(folder, group: str, text: str) -> str:
    (folder / group).mkdir()
    (folder / group / "mine.yaml").write_text(text, encoding="utf-8")
    return f"--config-dir {folder} {group}=mine"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("algo:\n  bta: 1\n", ["experiment=mine", "algo.bta", "did you mean algo.beta?"]),
        ("alg:\n  beta: 1\n", ["experiment=mine", "alg"]),
        ("data:\n  limt: 1\n", ["experiment=mine", "data.limt", "data.limit"]),
        ("algo: 3\n", ["algo=3"]),
        ("seed: x\n", ["seed=x: must be a whole number"]),
        ("algo: [1\nx: 2\n", ["mine.yaml, line 3", "not valid YAML"]),
        ("defaults:\n  - override /alg: ppo\n", ["experiment/mine.yaml", "/alg"]),
        ("defaults:\n  - override /algo: pppo\n", ["algo=pppo", "did you mean algo=ppo?"]),
    ],
)
def test_a_mistake_in_an_experiment_of_ones_own_is_told_too(tmp_path, text, words):
    said = told(own_file(tmp_path, "experiment", f"# @package _global_\n{text}"))
    assert [word for word in words if word not in said] == []


def test_an_experiment_that_nothing_would_read_is_refused(tmp_path):
    assert "# @package _global_" in told(own_file(tmp_path, "experiment", "seed: 9\n"))


@pytest.mark.parametrize(
    ("group", "text"),
    [
        ("experiment", "# @package _global_\nmine: 0.3\nalgo:\n  beta: ${mine}\n"),
        ("algo", "defaults:\n  - ppo\n\nname: mine\n_target_: mine.MyPPO\nown: 3\n"),
        ("data", "name: mine\n_target_: mine.Data\nown: 3\nrecommended: {beta: 1}\n"),
        ("reward", "name: mine\n_target_: mine.Reward\nown: [1]\n"),
    ],
)
def test_files_of_ones_own_may_have_names_of_their_own(tmp_path, group, text):
    line = own_file(tmp_path, group, text).split()
    assert look_through(line) == line

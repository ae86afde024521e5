"""What is exported, now or from a checkpoint, is the same model in plain transformers."""

import json
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM

from datamodules.tokenization.loading import load_tokenizer
from harness.disk.files import CONFIG, STATE
from harness.errors import RunError
from harness.parts.score_scale import scoring_encoder
from harness.tasks.export import export_run
from harness.tasks.train import train
from lightning_modules.models.scalar import ScalarModel
from lightning_modules.models.scorers import load_scorer
from lightning_modules.rewards.learned import Scorer
from tests.tolerances import of_model

FRESH = """
import json, sys, torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
folder, prompt, responses = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
tokenizer = AutoTokenizer.from_pretrained(folder)
chat = [{"role": "user", "content": prompt}]
start = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
scores = []
for response in responses:
    text = start + response + tokenizer.eos_token
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    scores.append(model(ids).logits[0].tolist())
print(json.dumps(scores))
"""


@pytest.mark.parametrize("adapter", ["none", "lora"])
@pytest.mark.parametrize(("model", "heads"), [("llama", 1), ("gpt2", 3)])
def test_a_reward_model_says_the_same_in_a_fresh_process(
    configure, world, tmp_path, adapter, model, heads
):
    options = (f"model={model}", f"adapter={adapter}", f"reward.ensemble={heads}")
    train(configure(tmp_path, "algo=reward_model", *options))
    folder = tmp_path / "model"
    prompt, responses = world.prompts("val")[0], ["The Taj Mahal is in Agra.", "I do not know."]
    scorer = Scorer(ScalarModel(load_scorer(folder), normalised=False), scoring_encoder(folder))
    here = scorer.heads([prompt] * 2, responses)
    done = subprocess.run(
        [sys.executable, "-c", FRESH, str(folder), prompt.text, json.dumps(responses)],
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
    )
    there = torch.tensor(json.loads(done.stdout.strip().splitlines()[-1]))
    assert here.shape == there.shape == (2, heads)
    torch.testing.assert_close(here, there, rtol=0, atol=of_model(scorer.model.model))
    assert len(set(here.flatten().tolist())) == 2 * heads


@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_the_last_checkpoint_is_the_model_that_the_run_left(configure, tmp_path, adapter):
    every = "callbacks.keep_checkpoints=all"
    train(configure(tmp_path / "run", "algo=ppo", f"adapter={adapter}", every))
    target = export_run(
        configure(
            tmp_path / "x", "task=export", f"run={tmp_path / 'run'}", "checkpoint=iteration-00003"
        )
    )
    then, now = (
        AutoModelForCausalLM.from_pretrained(folder / "model").state_dict()
        for folder in (tmp_path / "run", target)
    )
    critic, again = (
        load_scorer(folder / "critic" / "model").state_dict()
        for folder in (tmp_path / "run", target)
    )
    for name, weight in (then | critic).items():
        torch.testing.assert_close((now | again)[name], weight, rtol=0, atol=1e-6)
    assert load_tokenizer(target / "model").chat_template
    first = export_run(
        configure(
            tmp_path / "y",
            "task=export",
            f"run={tmp_path / 'run'}",
            "checkpoint=iteration-00001",
            f"to={tmp_path / 'first'}",
        )
    )
    assert first == tmp_path / "first"
    earlier = AutoModelForCausalLM.from_pretrained(first / "model").state_dict()
    assert any(not torch.equal(earlier[name], then[name]) for name in then)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "run has no value"),
        (("run=/no/such",), "run=/no/such: no such folder"),
    ],
)
def test_what_cannot_be_exported_is_named(configure, tmp_path, options, message):
    with pytest.raises(RunError, match=message):
        export_run(configure(tmp_path, "task=export", *options))


@pytest.mark.parametrize("written", ["", "algo: [", "- a list", "seed: 0", "${nothing", None])
def test_a_run_whose_config_is_broken_is_named(configure, tmp_path, written):
    run = tmp_path / "run"
    run.mkdir()
    (run / STATE).write_text("{}", encoding="utf-8")
    if written is not None:
        (run / CONFIG).write_text(written, encoding="utf-8")
    with pytest.raises(RunError, match=rf"run={run}: its config\.yaml "):
        export_run(configure(tmp_path / "x", "task=export", f"run={run}"))


def test_a_checkpoint_that_is_not_there_is_named_beside_those_that_are(configure, tmp_path):
    train(configure(tmp_path / "run", "algo=reinforce"))
    wrong = configure(tmp_path / "x", "task=export", f"run={tmp_path / 'run'}", "checkpoint=last")
    with pytest.raises(RunError, match=r"checkpoint=last: .* has iteration-0000\d \("):
        export_run(wrong)
    train(configure(tmp_path / "sft", "algo=sft"))
    its = ("task=export", f"run={tmp_path / 'sft'}")
    with pytest.raises(RunError, match=f"algo=sft; export takes policies; .*{tmp_path}/sft/model"):
        export_run(configure(tmp_path / "y", *its, "checkpoint=epoch-00000"))
    assert export_run(configure(tmp_path / "y", *its)) == tmp_path / "sft"


def test_as_many_checkpoints_as_asked_for_are_kept_over_a_resumption_too(
    configure, tmp_path, capsys
):
    folder = tmp_path / "run"
    options = ("algo=reinforce", "reward=gold", "callbacks.keep_checkpoints=2")
    train(configure(folder, *options, "algo.iterations=3"))
    train(configure(folder, *options, "algo.iterations=4", f"resume={folder}"))
    there = sorted(path.stem for path in (folder / "checkpoints").glob("*.ckpt"))
    assert there == ["iteration-00002", "iteration-00003"]
    capsys.readouterr()
    assert export_run(configure(tmp_path / "x", "task=export", f"run={folder}")) == folder
    said = " ".join(capsys.readouterr().out.split())
    assert f"its model is {folder}/model: nothing is to be exported" in said
    assert all(name in said for name in there)
    assert not (folder / "exports").exists()


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '{"config": {}}'])
def test_a_damaged_state_of_the_run_is_named(text, configure, tmp_path):
    train(configure(tmp_path / "run", "reward=gold"))
    (tmp_path / "run" / STATE).write_text(text, encoding="utf-8")
    cfg = configure(tmp_path / "export", "task=export", f"run={tmp_path / 'run'}")
    with pytest.raises(RunError, match=f"{tmp_path / 'run' / STATE}: is damaged"):
        export_run(cfg)

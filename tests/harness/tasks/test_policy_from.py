"""A policy that begins as an earlier one while its reference stays, or that must not."""

import json
import re
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM

from harness.disk.files import STATE
from harness.tasks.train import train
from lightning_modules.errors import ModelError, OptionError
from lightning_modules.policy import PolicyModule
from tests.tolerances import of_model

# Steps that move a policy far enough to be told from its reference.
SHORT = ("algo=reinforce", "reward=gold", "algo.iterations=2", "selfcheck=false")
FAR = ("algo.entropy_coef=1", "algo.beta=0", "algo.optimizer.lr=0.02", "algo.lr_decay=none")
KINDS = {"full": (), "lora": ("adapter=lora",)}
IDS = torch.arange(5, 25).reshape(2, 10)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """Folders of runs that each test makes if they are not there yet."""
    return tmp_path_factory.mktemp("earlier")


def make(folder, kind, configure):
    if not (folder / kind).exists():
        train(configure(folder / kind, *SHORT, *FAR, *KINDS[kind]))
    return folder / kind


@pytest.mark.parametrize("kind", KINDS)
def test_it_begins_as_the_earlier_one_ended_and_its_reference_is_the_first_one(
    kind, configure, earlier, tmp_path, monkeypatch
):
    folder = make(earlier, kind, configure)
    begun, bind = {}, PolicyModule.bind

    @torch.no_grad()
    def look(self, *, model, reference, **parts):
        begun["policy"] = model.lm(IDS).logits
        with reference.active() as lm:
            begun["reference"] = lm(IDS).logits
        return bind(self, model=model, reference=reference, **parts)

    monkeypatch.setattr(PolicyModule, "bind", look)
    summary = train(configure(tmp_path / "run", *SHORT, *KINDS[kind], f"algo.policy_from={folder}"))
    with torch.no_grad():
        ended = AutoModelForCausalLM.from_pretrained(folder / "model")
        first = AutoModelForCausalLM.from_pretrained(folder / "reference" / "model")
        expected = {"policy": ended(IDS).logits, "reference": first(IDS).logits}
    for name, logits in expected.items():
        torch.testing.assert_close(begun[name], logits, rtol=0, atol=20 * of_model(ended))
    assert (expected["policy"] - expected["reference"]).abs().max() > 0.1
    # The distance goes on from where it was: it is measured from the first reference.
    before = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert before["val/kl"] > 0.1
    assert summary["val/kl"] > 0.1
    assert summary["policy_from"] == str(folder)
    assert summary["stages/sft/path"] == before["stages/sft/path"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_one_repeats_an_unbroken_one(kind, configure, earlier, tmp_path, metrics_of):
    folder = make(earlier, kind, configure)
    moved = shutil.copytree(folder, tmp_path / "moved", symlinks=True)
    start = (*SHORT, *KINDS[kind], "algo.lr_decay=none")
    train(configure(tmp_path / "whole", *start, f"algo.policy_from={folder}"))
    train(configure(tmp_path / "part", *start, "algo.iterations=1", f"algo.policy_from={folder}"))
    # The same contents elsewhere are the same start.
    rest = (*start, f"algo.policy_from={moved}", f"resume={tmp_path / 'part'}")
    train(configure(tmp_path / "x", *rest))
    assert metrics_of(tmp_path / "part")[-1] == metrics_of(tmp_path / "whole")[-1]
    state = json.loads((tmp_path / "part" / STATE).read_text(encoding="utf-8"))
    expected = {"files", "adapter"} if kind == "lora" else {"files"}
    assert set(state["inputs"]["algo.policy_from"]) == expected


def test_a_run_says_where_it_begins_and_how_far_from_its_reference(
    configure, earlier, tmp_path, capsys
):
    folder = make(earlier, "full", configure)
    start = ("selfcheck=true", "algo=ppo", "algo.iterations=1")
    train(configure(tmp_path / "run", *start, f"algo.policy_from={folder}"))
    said = " ".join(capsys.readouterr().out.split())
    (kl,) = re.findall(r"KL to the reference at the start (\S+) nats a token", said)
    before = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert float(kl) == pytest.approx(before["val/kl_k3"] / before["val/length"], rel=1)
    assert "begun as" in said
    assert "a frozen model: fine-tuned here" in said


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("full", ("adapter=lora",), r"has no adapter"),
        ("lora", ("adapter=lora", "adapter.config.r=3"), r"on other layers, or of another rank"),
        ("full", ("model.vocab_size=420",), r"has another tokenizer than the policy"),
        ("lora", ("adapter=lora", "stage_seed=5"), r"has an adapter on another reference"),
    ],
)
def test_one_that_does_not_fit_is_refused(kind, options, message, configure, earlier, tmp_path):
    folder = make(earlier, kind, configure)
    with pytest.raises(OptionError, match=rf"algo\.policy_from={folder}: .*{message}"):
        train(configure(tmp_path / "run", *SHORT, *options, f"algo.policy_from={folder}"))


def test_what_is_no_policy_is_named(configure, tmp_path):
    (tmp_path / "empty").mkdir()
    for given in ("empty", "nothing"):
        with pytest.raises(ModelError, match=rf"algo\.policy_from: .*{given}.*; give a run that"):
            train(configure(tmp_path / "run", f"algo.policy_from={tmp_path / given}"))

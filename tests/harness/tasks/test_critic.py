"""A critic that begins as the value function of an earlier run, or that must not."""

import json
import shutil

import pytest
import torch

from harness.disk.files import STATE
from harness.tasks.train import train
from lightning_modules.errors import ModelError, OptionError
from lightning_modules.models.actor_critic import ActorCritic
from lightning_modules.models.scalar import ScalarModel
from lightning_modules.models.scorers import load_scorer
from lightning_modules.policy import PolicyModule

ONCE = ("algo.iterations=1", "reward=gold", "algo.missing_eos_penalty=2", "selfcheck=false")
LORA = ("adapter=lora", "algo.critic=adapter")
PROMPT_MASK = torch.ones(2, 3, dtype=torch.bool)
RESPONSE_MASK = torch.ones(2, 4, dtype=torch.bool)
IDS = torch.randint(0, 300, (2, 7), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """The folder of a run that each test makes if it is not there yet."""
    return tmp_path_factory.mktemp("earlier") / "run"


def make(folder, configure):
    if not folder.exists():
        train(configure(folder, *ONCE, *LORA, "algo.critic_warmup=1", "algo.value_lr=0.05"))
    return folder


def test_a_critic_begins_as_an_earlier_one_ended(configure, earlier, tmp_path, monkeypatch):
    folder = make(earlier, configure)
    begun, bind = [], PolicyModule.bind

    @torch.no_grad()
    def look(self, *, model, **parts):
        begun.append(model.values(IDS, PROMPT_MASK, RESPONSE_MASK))
        return bind(self, model=model, **parts)

    monkeypatch.setattr(PolicyModule, "bind", look)
    moved = shutil.copytree(folder, tmp_path / "moved", symlinks=True)
    summary = train(configure(tmp_path / "run", *ONCE, *LORA, f"algo.critic_from={folder}"))
    with torch.no_grad():
        kept = ScalarModel(load_scorer(folder / "critic" / "model"))
        expected = ActorCritic(None, critic=kept).values(IDS, PROMPT_MASK, RESPONSE_MASK)
    torch.testing.assert_close(begun[0], expected, rtol=0, atol=1e-4)
    assert expected.std() > 100 * 1e-4
    assert summary["critic_from"] == str(folder)
    # The same contents elsewhere are the same start, and others are not.
    state = json.loads((tmp_path / "run" / STATE).read_text(encoding="utf-8"))
    assert set(state["inputs"]["algo.critic_from"]) == {"files", "adapter"}
    again = (*ONCE, *LORA, f"algo.critic_from={moved}", f"resume={tmp_path / 'run'}")
    assert train(configure(tmp_path / "x", *again)) == summary


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("algo.critic=head",), r"a value function of algo\.critic=adapter, and algo\.critic=head"),
        ((*LORA, "adapter.config.r=3"), r"an adapter on other layers, or of another rank"),
        ((*LORA, "model.config.hidden_size=64"), r"states of size 128, and the policy's have 64"),
        (("model.vocab_size=420",), r"has another tokenizer than the policy"),
    ],
)
def test_one_that_does_not_fit_is_refused_before_anything_is_trained(
    options, message, configure, earlier, tmp_path
):
    folder = make(earlier, configure)
    with pytest.raises(OptionError, match=rf"algo\.critic_from={folder}: .*{message}"):
        train(configure(tmp_path / "run", *ONCE, *options, f"algo.critic_from={folder}"))
    assert not (tmp_path / "run").exists()


def test_what_is_no_value_function_is_named(configure, tmp_path):
    (tmp_path / "empty").mkdir()
    for given in ("empty", "nothing"):
        with pytest.raises(ModelError, match=rf"algo\.critic_from: .*{given}.*; give a run of"):
            train(configure(tmp_path / "run", f"algo.critic_from={tmp_path / given}"))

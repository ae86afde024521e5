"""task=evaluate policy=...: any policy against any other, by any reward."""

import copy
import json

import pytest
import torch
from transformers import AutoModelForCausalLM, MambaConfig

from datamodules.records import DataError
from datamodules.tokenization.loading import load_tokenizer, train_tokenizer
from harness.checks.audit import CheckError
from harness.tasks.evaluate import evaluate
from harness.tasks.train import train
from tests.lightning_modules.models.families import family_model
from tests.tolerances import of_model

SMALL = ("task=evaluate", "evaluation.prompts=12", "evaluation.batch_size=5")


@pytest.fixture
def reference(configure, tmp_path):
    """The folder of the reference that all tiny runs start from."""
    summary = train(configure(tmp_path / "ppo", "algo=ppo"))
    return summary["stages/sft/path"]


def test_a_policy_against_its_reference_as_training_measured_it(configure, reference, tmp_path):
    policy = tmp_path / "ppo"
    summary = evaluate(configure(tmp_path / "run", *SMALL, f"policy={policy}"))
    assert summary["val/kl_k3"] > 0
    assert 0 <= summary["val/win_rate_ci_low"] <= summary["val/win_rate"] <= 1
    rows = [
        json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").open(encoding="utf-8")
    ]
    assert len(rows) == 12
    mean = sum(row["score"] for row in rows) / 12
    assert summary["val/score"] == pytest.approx(mean)
    named = evaluate(configure(tmp_path / "n", *SMALL, f"policy={policy}", f"against={reference}"))
    assert named["val/win_rate"] == summary["val/win_rate"]
    assert named["reference/score"] == summary["reference/score"]


def test_a_policy_against_itself_has_no_kl_and_wins_half(configure, reference, tmp_path):
    both = (f"policy={reference}", f"against={reference}", "reward=gold")
    summary = evaluate(configure(tmp_path / "run", *SMALL, *both))
    tolerance = of_model(AutoModelForCausalLM.from_pretrained(f"{reference}/model"))
    assert abs(summary["val/kl"]) <= summary["val/length"] * tolerance
    assert summary["val/win_rate_ci_low"] < 0.5 < summary["val/win_rate_ci_high"]
    assert summary["val/gold"] == summary["val/score"]


def test_an_opponent_with_another_tokenizer_is_compared_by_text(
    configure, reference, world, tmp_path
):
    tokenizer = train_tokenizer([text[::-1] for text in world.texts()], 300)
    lm = AutoModelForCausalLM.from_pretrained(f"{reference}/model")
    lm.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    lm.config.eos_token_id = tokenizer.eos_token_id
    lm.save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    players = (f"policy={reference}", f"against={tmp_path / 'other'}")
    summary = evaluate(configure(tmp_path / "run", *SMALL, *players))
    assert "val/kl" not in summary
    assert torch.tensor(summary["val/score"]).isfinite()
    own = load_tokenizer(tmp_path / "other")
    rows = [
        json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").open(encoding="utf-8")
    ]
    for row in rows:
        ids = own(row["reference_answer"], add_special_tokens=False)["input_ids"]
        assert own.decode(ids) == row["reference_answer"]


# -- what is found before anything is trained for it --------------------------------------------

KNOWS = (
    "{% if tone is defined %}{{ tone }}{% endif %}"
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|eos|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture
def player(encoder, tmp_path):
    """player(name, template, model): the folder of a player."""

    def save(name, template=None, model=None):
        model = model or family_model("llama", encoder.tokenizer)
        model.save_pretrained(tmp_path / name)
        tokenizer = copy.deepcopy(encoder.tokenizer)
        tokenizer.chat_template = template or tokenizer.chat_template
        tokenizer.save_pretrained(tmp_path / name)
        return tmp_path / name

    return save


@pytest.fixture
def played(configure, tmp_path):
    """played(policy, against, *overrides): the summary of an evaluation whose stages, if it has
    any, are its own. The opponent is what the options of a pretrained model speak of.
    """

    def run(policy, against, *overrides):
        if not any("model.pretrained" in o for o in overrides):
            overrides = (f"model.pretrained={against}", *overrides)
        players = (f"policy={policy}", f"against={against}", f"cache_dir={tmp_path / 'own_cache'}")
        return evaluate(configure(tmp_path / "run", *SMALL, *players, *overrides))

    return run


def stages_of(tmp_path):
    """The stages that are finished."""
    return list((tmp_path / "own_cache").glob("*/*/model"))


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("template", [{"a": KNOWS, "b": KNOWS}, "{% for m in"])
def test_a_players_template_is_read_before_a_reward_model_is_trained(
    played, player, tmp_path, template, swapped
):
    pair = [player("good"), player("bad", template)]
    with pytest.raises(DataError, match=r"bad: .*(chat_template\.jinja|cannot be read)"):
        played(*reversed(pair) if swapped else pair, f"model.pretrained={pair[0]}")
    assert not stages_of(tmp_path)
    assert not (tmp_path / "run" / "run.json").exists()


def odd(encoder, **sizes):
    """A model whose cache is not one of keys and values."""
    tokenizer = encoder.tokenizer
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    sizes = {"hidden_size": 32, "state_size": 8, "num_hidden_layers": 2}
    config = MambaConfig(vocab_size=len(tokenizer), initializer_range=0.5, **sizes, **ids)
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("swapped", [False, True])
def test_a_player_that_cannot_be_sampled_from_is_refused_before_that_too(
    played, player, encoder, tmp_path, swapped
):
    pair = [player("good"), player("bad", model=odd(encoder))]
    overrides = (f"model.pretrained={pair[0]}",)
    with pytest.raises(CheckError, match="Mamba"):
        played(*reversed(pair) if swapped else pair, *overrides)
    assert not stages_of(tmp_path)


def test_each_player_is_told_what_its_own_template_knows(played, player, tmp_path):
    good, knows = player("good"), player("knows", KNOWS)
    said = {"answer": set(), "reference_answer": set()}
    for tone in ("calm", "loud"):
        played(knows, good, "reward=gold", f"model.template_arguments={{tone: {tone}}}")
        rows = [
            json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").open(encoding="utf-8")
        ]
        for name, found in said.items():
            found.add(tuple(row[name] for row in rows))
    assert len(said["answer"]) == 2
    assert len(said["reference_answer"]) == 1
    with pytest.raises(DataError, match=r"template_arguments\.mood: .*neither"):
        played(knows, good, "reward=gold", "model.template_arguments={mood: calm}")


def test_a_chosen_template_is_that_of_the_pretrained_model_alone(played, player, capsys):
    good, other = player("good"), player("other", {"a": KNOWS, "default": KNOWS})
    played(other, good, "reward=gold", "model.chat_template=a", f"model.pretrained={other}")
    said = " ".join(capsys.readouterr().out.split())  # however its lines are broken
    assert "own chat template" in said

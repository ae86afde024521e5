"""A chat template that takes no system turn, and data with one: met before anything is made."""

import json

import pytest

from datamodules.records import DataError
from datamodules.tokenization.templates import EMBEDDED_TEMPLATE
from harness.tasks.evaluate import evaluate
from harness.tasks.train import train
from tests.lightning_modules.models.families import family_folder

NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
LIMITS = ("data.max_prompt_tokens=32", "data.max_response_tokens=16")


@pytest.fixture
def model(encoder, tmp_path):
    """The folder of a small model with such a template."""
    encoder.tokenizer.chat_template = NO_SYSTEM + EMBEDDED_TEMPLATE
    return family_folder("llama", encoder.tokenizer, tmp_path / "lm")


def said(role, content):
    return {"role": role, "content": content}


def prompt(i, system):
    return [*([said("system", "Be brief.")] if system else []), said("user", f"Say {i}")]


def written(path, rows):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def own(tmp_path):
    """A file of which row 6 has a system turn."""
    rows = [
        {"prompt": prompt(i, i == 5), "chosen": f"It is {i}.", "rejected": "No."} for i in range(24)
    ]
    return ("data=files", f"data.path={written(tmp_path / 'own.jsonl', rows)}", *LIMITS)


@pytest.fixture
def public(tmp_path):
    """A copy of a public set, where three rows have one."""

    def row(i, system):
        both = {
            name: [*prompt(i, system), said("assistant", text)]
            for name, text in (("chosen", f"It is {i}."), ("rejected", "No."))
        }
        return both | {"score_chosen": 2.0, "score_rejected": 1.0}

    train_rows = [row(i, i in (3, 4)) for i in range(24)]
    written(tmp_path / "copy" / "train_prefs.jsonl", train_rows)
    written(tmp_path / "copy" / "test_prefs.jsonl", [row(i, i == 30) for i in range(24, 32)])
    return ("data=ultrafeedback", f"data.path={tmp_path / 'copy'}", *LIMITS)


@pytest.mark.parametrize("algo", ["sft", "reward_model", "rloo"])
def test_own_files_name_the_line_before_anything_is_trained(configure, model, own, tmp_path, algo):
    cache = tmp_path / "own_cache"
    options = (f"algo={algo}", f"model.pretrained={model}", f"cache_dir={cache}")
    with pytest.raises(DataError, match=r"own\.jsonl, line 6: .*refuses.*no system"):
        train(configure(tmp_path / "run", *own, *options))
    assert not cache.exists()
    assert not (tmp_path / "run" / "summary.json").exists()


def test_of_a_public_set_such_rows_are_one_more_in_the_counts(
    configure, model, public, tmp_path, capsys
):
    options = ("algo=reward_model", "algo.epochs=1", f"model.pretrained={model}")
    summary = train(configure(tmp_path / "run", *public, *options))
    assert summary["data/refused by the chat template"] == 3
    assert summary["data/kept"] == 24 + 8 - 3
    assert "3 refused by the chat template" in capsys.readouterr().out


def test_so_are_those_that_the_template_of_a_reward_model_refuses(
    configure, model, public, tmp_path
):
    learned = tmp_path / "learned"
    train(
        configure(
            learned, *public, "algo=reward_model", "algo.epochs=1", f"model.pretrained={model}"
        )
    )
    reward = ("reward=checkpoint", f"reward.path={learned / 'model'}", "task=evaluate")
    summary = evaluate(configure(tmp_path / "run", *public, *reward))
    assert summary["data/refused by the chat template"] == 1  # of the held-out ones, which it reads


def test_the_line_is_named_where_a_reward_model_refuses_it(configure, model, own, public, tmp_path):
    learned = tmp_path / "learned"
    train(
        configure(
            learned, *public, "algo=reward_model", "algo.epochs=1", f"model.pretrained={model}"
        )
    )
    reward = ("reward=checkpoint", f"reward.path={learned / 'model'}", "algo=rloo")
    cache = f"cache_dir={tmp_path / 'own_cache'}"
    with pytest.raises(DataError, match=r"own\.jsonl, line 6: reward model .*no system"):
        train(configure(tmp_path / "run", *own, *reward, cache))
    assert not (tmp_path / "own_cache").exists()

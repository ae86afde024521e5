"""A tokenizer's folder, whole or not."""

import json

import pytest

from datamodules.records import DataError
from datamodules.tokenization.loading import load_tokenizer, train_tokenizer
from datamodules.tokenization.templates import PLAIN_TEMPLATE

TEMPLATE = "chat_template.jinja"
SETTINGS = "tokenizer_config.json"


def saved(folder):
    folder.mkdir(parents=True)
    train_tokenizer(["Where is it?", "In Agra."], 300).save_pretrained(folder)
    assert (folder / TEMPLATE).is_file()
    return folder


@pytest.mark.parametrize("record", ["run.json", "stage.json"])
@pytest.mark.parametrize("settings", ["kept", "removed", "emptied"])
def test_a_model_of_this_project_that_lost_its_template_is_refused(tmp_path, record, settings):
    model = saved(tmp_path / "first" / "model")
    (model.parent / record).write_text("{}", encoding="utf-8")
    assert load_tokenizer(model).chat_template != PLAIN_TEMPLATE
    (model / TEMPLATE).unlink()
    if settings == "removed":
        (model / SETTINGS).unlink()
    elif settings == "emptied":
        (model / SETTINGS).write_text(json.dumps({}), encoding="utf-8")
    with pytest.raises(DataError, match=f"^{model}: its chat template is missing"):
        load_tokenizer(model)


def test_a_model_from_elsewhere_gets_the_plain_template(tmp_path):
    model = saved(tmp_path / "model")
    (model / TEMPLATE).unlink()
    assert load_tokenizer(model).chat_template == PLAIN_TEMPLATE


def test_a_template_that_is_given_serves_a_model_that_lost_its_own(tmp_path):
    model = saved(tmp_path / "first" / "model")
    (model.parent / "run.json").write_text("{}", encoding="utf-8")
    kept = (model / TEMPLATE).rename(tmp_path / "kept.jinja")
    text = kept.read_text(encoding="utf-8")
    assert load_tokenizer(model, template=str(kept)).chat_template == text

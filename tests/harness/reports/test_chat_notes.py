"""What a run says of a model's chat format."""

import pytest

from datamodules.tokenization.encoder import Encoder
from datamodules.tokenization.loading import load_tokenizer, train_tokenizer
from datamodules.tokenization.templates import EMBEDDED_TEMPLATE
from harness.reports.chat_notes import chat_notes


@pytest.mark.parametrize(("template", "is_plain"), [(None, True), (EMBEDDED_TEMPLATE, False)])
def test_the_plain_template_is_named_where_it_serves(tmp_path, template, is_plain):
    tokenizer = train_tokenizer(["Where is it?", "In Agra."], 300)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(tmp_path)
    notes = chat_notes(Encoder(load_tokenizer(tmp_path), 99, 9).format)
    assert any("the plain one" in note for note in notes) is is_plain

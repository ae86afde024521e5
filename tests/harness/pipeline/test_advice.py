"""What a data set recommends is said where it counts, and that a toy learns no language."""

import io
import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from harness.parts.choices import Choices
from harness.parts.parts import Parts
from harness.pipeline.advice import say_advice
from harness.reports.plain_console import PlainConsole
from harness.typed import quoted

ROW = '{"prompt": "Why %d?", "chosen": "Because of %d.", "rejected": "No."}\n'


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "it's, my pairs.jsonl"
    path.write_text("".join(ROW % (i, i) for i in range(30)), encoding="utf-8")
    return path


@pytest.fixture
def said(tmp_path, configure):
    """said(*overrides): what is said of such a run, which is never begun."""

    def say(*overrides: str) -> str:
        out = io.StringIO()
        console = PlainConsole(file=out, width=200)
        say_advice(console, Parts(Choices(configure(tmp_path / "run", *overrides)), console))
        return out.getvalue()

    return say


def test_what_is_given_is_not_recommended(said):
    """The tests' budget gives iterations and the stages' epochs."""
    assert said() == (
        "data=landmarks recommends algo.beta=0.18 (for a toy on this data); change them as you"
        " like\n"
    )
    assert said("algo.beta=0.18") == ""
    assert "algo.beta=0.5" in said("data.recommended.beta=0.5")
    assert "algo.epochs=6" in said("algo=sft")
    assert "algo.epochs" not in said("algo=sft", "budget=smoke")


def test_a_toy_on_real_data_is_told_what_to_type_instead(said, pairs):
    typed = ("algo=sft", "model=gpt2", "model.vocab_size=300", "adapter=lora", "data=files")
    shown = said(*typed, f"data.path={quoted(str(pairs))}")
    weights = 3 * 12 * 128**2 + (1024 + 300) * 128  # of layers and embeddings; biases are few
    assert f"CAUTION: model=gpt2 is a toy of {weights / 1e6:.1f} million parameters" in shown
    assert "27 comparisons" in shown
    line = shown.splitlines()[-1].partition("python run.py ")[2]
    parsed = OverridesParser.create().parse_overrides(shlex.split(line))
    given = {override.key_or_group: override.value() for override in parsed}
    assert given["data.path"] == str(pairs)
    assert (given["model"], given["adapter"], given["algo"]) == ("smollm_135m", "lora", "sft")
    assert not any(key.startswith("model.") for key in given)


def test_pretrained_weights_and_the_embedded_world_need_no_such_words(
    said, pairs, lm, encoder, tmp_path
):
    assert "toy of" not in said("algo=sft")
    for part in (lm, encoder.tokenizer):
        part.save_pretrained(tmp_path / "mine")
    mine = f"model.pretrained={tmp_path / 'mine'}"
    shown = said("data=files", f"data.path={quoted(str(pairs))}", "algo=sft", mine)
    assert "CAUTION" not in shown
    assert "algo.epochs=3 (" in shown
    assert "stages" not in shown

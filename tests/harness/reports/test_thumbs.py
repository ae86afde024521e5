"""What a report says of thumbs, in words that its numbers bear out."""

import pytest
import torch

from datamodules.records import Prompt, Thumb
from harness.reports.held_out_pairs import judge_held_out
from harness.reports.thumbs.report import judged_thumbs, thumbs_section
from harness.reports.thumbs.words import verdict
from lightning_modules.metrics.thumbs import held_out_thumbs
from tests.lightning_modules.supervised_parts import Given, pair


def thumbs(labels, lengths=None):
    """A thumb on each of so many prompts."""
    lengths = lengths or [5] * len(labels)
    return [
        Thumb(Prompt.from_text(f"Number {i}?"), "x" * n, bool(up))
        for i, (up, n) in enumerate(zip(labels, lengths, strict=True))
    ]


def said(rows, score, bias=0.0):
    judged = judged_thumbs(rows, torch.tensor(score), bias)
    return verdict(judged, held_out_thumbs(judged))


def test_a_handful_of_thumbs_says_nothing():
    assert "10 thumbs are too few" in said(thumbs([1, 0] * 5), [1.0, -1.0] * 5)


def test_a_good_reward_is_said_to_be_one():
    labels = [1, 0] * 100
    told = said(thumbs(labels, [5, 6] * 50 + [6, 5] * 50), [4.0, -4.0] * 100)
    assert "in 100.0% of cases, more than taking the longer response (50.0%)" in told
    assert 'foresees 100.0% of thumbs, more than always saying "up" (50.0%)' in told
    assert "as many thumbs up as there are" in told


def test_a_reward_that_counts_characters_is_not_better_than_counting():
    lengths = [9, 4, 8, 5, 2, 7] * 40
    labels = [1, 0, 1, 0, 0, 1] * 40
    told = said(thumbs(labels, lengths), [n / 10 for n in lengths], bias=0.6)
    assert "not shown to be better than taking the longer response (100.0%)" in told


def test_a_bias_that_is_off_is_said_to_be():
    labels = [1, 0] * 100
    assert "too many thumbs up" in said(thumbs(labels), [1.0, -1.0] * 100, bias=-3.0)
    assert "too few thumbs up" in said(thumbs(labels), [1.0, -1.0] * 100, bias=3.0)


def test_upside_down_labels_are_pointed_out():
    assert "do the labels point the right way?" in said(thumbs([1, 0] * 50), [-1.0, 1.0] * 50)


def test_a_reward_without_a_bias_is_judged_by_its_order_alone(tmp_path):
    rows = thumbs([1, 0] * 20)
    text, numbers = thumbs_section(tmp_path, rows, torch.tensor([1.0, -1.0] * 20), None)
    assert "its order alone is judged" in text
    assert numbers["thumbs_auc"] == 1
    assert "thumbs_accuracy" not in numbers


def score(prompts, texts):
    return torch.tensor([[float("nan") if "?" in text else len(text) / 10] for text in texts])


@pytest.mark.parametrize("pairs", [[], [pair("longer", "short")] * 3])
def test_a_report_holds_what_there_is(tmp_path, pairs):
    rows = [*thumbs([1, 0] * 10, range(1, 21)), Thumb(Prompt.from_text("x"), "what?", True)]
    numbers = judge_held_out(
        score, Given([*pairs, *rows]), tmp_path, title="A title", left_out={"empty": 3}, bias=1.0
    )
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert text.startswith("# A title\n")
    assert text.count("## Thumbs\n") == text.count("## Left out\n") == 1
    assert "| held-out thumbs that could not be scored | 1 |" in text
    assert "](report/thumbs.png)" in text
    assert (tmp_path / "report" / "thumbs.png").is_file()
    assert ("val/accuracy" in numbers) == bool(pairs)
    assert numbers["val/thumbs_bias"] == 1.0
    assert "Not liked, highest" in text

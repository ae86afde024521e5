"""What a run says of its data before it begins."""

import io

import pytest
from rich.cells import cell_len

from datamodules.records import Message, Preference, Prompt, Ranking, Thumb
from harness.reports.lessons import pair_lines, say_lessons, thumb_lines
from harness.reports.plain_console import PlainConsole
from tests.lightning_modules.supervised_parts import Given

TALK = Prompt(
    (
        Message("system", "Be brief."),
        Message("user", "Hi."),
        Message("assistant", "Hello."),
        Message("user", "Why so?"),
    )
)


def shown(source, split="train"):
    out = io.StringIO()
    say_lessons(PlainConsole(file=out, width=80), source, split)
    return out.getvalue()


def given(train, val=()):
    return Given(train, val)


def test_a_pair_is_shown_with_all_its_turns_and_its_strength():
    assert pair_lines(Preference(TALK, "Because.", "No.", strength=0.25)) == [
        "  system     Be brief.",
        "  user       Hi.",
        "  assistant  Hello.",
        "  user       Why so?",
        "  preferred  Because.",
        "  other      No.",
        "  strength   0.25",
    ]
    assert not any("strength" in line for line in pair_lines(Preference(TALK, "a", "b")))


@pytest.mark.parametrize(("best", "told"), [(None, "-1 and -3"), ("lowest", "1 and 3")])
def test_of_a_ranking_best_and_worst_are_shown_with_ratings_as_the_file_has_them(best, told):
    lines = pair_lines(Ranking(TALK, ("b", "c", "a"), (-2.0, -3.0, -1.0)), best)
    assert lines[-3:] == [
        "  preferred  a",
        "  other      c",
        f"  ratings    {told}, of 3 responses",
    ]


@pytest.mark.parametrize(
    "text", ["word " * 5000, "x" * 5000, "漢" * 5000, "a\n" * 5000, "漢 a\n" * 99]
)
def test_long_texts_are_a_few_lines_within_80_columns(text):
    end = "the very end"
    prompt = Prompt((Message("user", text + end),) * 9)
    lines = pair_lines(Preference(prompt, text, text + "."))
    assert len(lines) <= (6 + 2) * 4 + 1
    assert max(map(cell_len, lines)) <= 80
    assert sum(end[-5:] in line for line in lines) == 6
    assert any("3 more turns" in line for line in lines)


def test_texts_are_shown_as_they_are():
    texts = ["\\[x = 5\\]", "[/INST] [bold]no[/bold]", "{a} </s> <|eos|>"]
    out = shown(given([Preference(Prompt.from_text(texts[0]), texts[1], texts[2])]))
    assert all(text in out for text in texts)


def test_counts_notes_and_cautions_come_before_the_first_pair_that_teaches():
    tied = Ranking(Prompt.from_text("tied"), ("a", "b"), (1.0, 1.0))
    source = given([tied, Preference(TALK, "Because.", "No.")], [Preference(TALK, "held", "out")])
    source.counts.update({"rows": 1234, "tie": 0, "contradictory pairs": 2})
    source.notes.append("not read, 1 in all: '[bold]'")
    source.cautions.append("ratings look like ranks")
    out = shown(source)
    parts = [
        "data: 1,234 rows, 2 contradictory pairs\n",
        "'[bold]'",
        "CAUTION: ratings look like ranks",
        "the first pair, as it will be taught:",
        "Because.",
    ]
    places = [out.index(part) for part in parts]
    assert places == sorted(places)
    assert "tied" not in out
    assert "held" in shown(source, "val")


def test_the_first_thumb_is_shown_beside_the_first_pair():
    rows = [Preference(TALK, "Because.", "No."), Thumb(TALK, "It is.", liked=False)]
    text = shown(given(rows))
    assert "the first pair, as it will be taught:" in text
    assert "the first of the thumbs, as it will be taught:" in text
    assert thumb_lines(rows[1])[-3:] == [
        "  user       Why so?",
        "  response   It is.",
        "  thumb      down",
    ]
    assert "first pair" not in shown(given(rows[1:]))

import gzip
import json
from pathlib import Path

import datasets
import pytest
from hydra.errors import InstantiationException

from datamodules.records import DataError, Message, Preference, Prompt
from datamodules.sources.files import Files
from datamodules.sources.public.hh import HH, SUBSETS

SHARED = Path(__file__).parents[4] / "../shared/data/hh_harmless.jsonl.gz"
SPLITS = ("train", "val")


def row(question, chosen="good", rejected="bad"):
    head = f"\n\nHuman: Hi.\n\nAssistant: Hello.\n\nHuman: {question}\n\nAssistant: "
    return {"chosen": head + chosen, "rejected": head + rejected}


def to_gzip(path, table):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in table).encode()))
    return path


def repository(folder):
    """Laid out as Anthropic/hh-rlhf is: each subset asks about itself."""
    for subset in SUBSETS:
        for split, count in (("train", 3), ("test", 2)):
            table = [row(f"{subset} {split} {i}?") for i in range(count)]
            to_gzip(folder / subset / f"{split}.jsonl.gz", table)
    attempts = [{"transcript": "\n\nHuman: x", "min_harmlessness_score_transcript": -1.0}]
    to_gzip(folder / "red-team-attempts/red_team_attempts.jsonl.gz", attempts)
    return folder


def read(path, **options):
    return HH(path=str(path), **options)


def asked(source, split):
    return [c.prompt.messages[-1].content for c in source.comparisons(split)]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("subset", "chosen"),
    [("all", SUBSETS), (SUBSETS[1], SUBSETS[1:2]), ([SUBSETS[3], SUBSETS[0]], SUBSETS[::3])],
)
def test_a_subset_is_its_folder_with_the_splits_of_its_files(tmp_path, subset, chosen, streaming):
    source = read(repository(tmp_path), subset=subset, streaming=streaming)
    assert asked(source, "train") == [f"{s} train {i}?" for s in chosen for i in range(3)]
    assert asked(source, "val") == [f"{s} test {i}?" for s in chosen for i in range(2)]
    before = (Message("user", "Hi."), Message("assistant", "Hello."))
    last = Message("user", f"{chosen[0]} train 0?")
    assert source.comparisons("train")[0] == Preference(Prompt((*before, last)), "good", "bad")


def test_the_folder_of_a_subset_may_be_given_alone(tmp_path):
    folder = repository(tmp_path) / SUBSETS[2]
    assert asked(read(folder), "val") == asked(read(folder, subset=SUBSETS[2]), "val")
    assert asked(read(folder), "val") == [f"{SUBSETS[2]} test {i}?" for i in range(2)]


def test_rows_that_say_nothing_are_counted_by_reason(tmp_path):
    table = [
        *(row(f"{i}?") for i in range(4)),
        row("same", "a", "a"),
        row("empty", "a", " "),
        row("", "a", "b"),
        {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: c\n\nAssistant: d"},
        {"chosen": "no transcript", "rejected": "no"},
        {
            "chosen": "\n\nHuman: a\n\nAssistant: b\n\nAssistant: c",
            "rejected": "\n\nHuman: a\n\nAssistant: b\n\nAssistant: d",
        },
    ]
    source = read(to_gzip(tmp_path / "a.jsonl.gz", table))
    assert source.counts == {"rows": 10, "kept": 4, "identical": 1, "empty": 2, "malformed": 3}


def test_responses_end_where_another_turn_begins_and_are_counted(tmp_path):
    more = "\n\nHuman: And?\n\nAssistant: So."
    table = [row(f"{i}?", f"good{more}") for i in range(3)] + [
        row("3?", "good", f"bad{more}"),
        row("4?", f"same{more}", "same\n\nHuman: Or?"),
        row("5?", f" {more}"),
    ]
    source = read(to_gzip(tmp_path / "a.jsonl.gz", table))
    cut = "responses with further turns, cut"
    assert source.counts == {"rows": 6, "kept": 4, "identical": 1, "empty": 1, cut: 4}
    pairs = {(c.chosen, c.rejected) for split in SPLITS for c in source.comparisons(split)}
    assert pairs == {("good", "bad")}


@pytest.mark.parametrize("subset", ["red-team-attempts", [SUBSETS[0], "red-team-attempts"]])
def test_red_team_attempts_are_no_pairs(subset):
    with pytest.raises(DataError, match=r"red-team-attempts are .* no pairs; choose from all"):
        HH(subset=subset)


@pytest.mark.parametrize("subset", ["harmless", [], ["all", "harmless-base"], [*SUBSETS, "x"]])
def test_an_unknown_subset_is_an_error_that_names_those_there_are(subset):
    with pytest.raises(DataError, match=r"data\.subset=.*harmless-base, helpful-base"):
        HH(subset=subset)


def test_a_subset_that_a_copy_does_not_have_is_an_error(tmp_path):
    folder = repository(tmp_path)
    saved = datasets.Dataset.from_list([row(f"{i}?") for i in range(4)])
    saved.save_to_disk(tmp_path / "saved")
    assert len(asked(read(tmp_path / "saved"), "train")) == 3
    for path in (folder / SUBSETS[0], tmp_path / "saved"):
        with pytest.raises(DataError, match="no file of the rows that were asked for"):
            read(path, subset=SUBSETS[1])


@pytest.mark.skipif(not SHARED.is_file(), reason=f"no file {SHARED}")
def test_real_dialogues_are_those_that_files_read():
    source, own = read(SHARED), Files(path=str(SHARED))
    unusual = source.counts["malformed"]
    for split in SPLITS:
        assert len(set(own.comparisons(split)) ^ set(source.comparisons(split))) <= 2 * unusual
    assert source.counts["rows"] == own.counts["rows"]
    assert unusual <= 8


def test_the_option_makes_the_source(tmp_path, composed):
    folder = repository(tmp_path)
    source = composed("data=hh", f"data.path={folder}", "data.subset=[harmless-base,helpful-base]")
    assert source.identity() == read(folder, subset=SUBSETS[:2]).identity()
    with pytest.raises(InstantiationException, match="Anthropic/hh-rlhf"):
        composed("data=hh")

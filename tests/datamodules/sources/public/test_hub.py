"""What all public sets share, shown with pairs of UltraFeedback's schema."""

import codecs
import gzip
import json
import os

import datasets
import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datamodules.records import DataError
from datamodules.sources.files import Files
from datamodules.sources.public import hub
from datamodules.sources.public.repository import by_split
from datamodules.sources.public.ultrafeedback import UltraFeedback

SPLITS = ("train", "val")
REPOSITORY = "HuggingFaceH4/ultrafeedback_binarized"


def row(prompt, chosen="good", rejected="bad", score=8.0):
    user = {"role": "user", "content": str(prompt)}
    return {
        "chosen": [user, {"role": "assistant", "content": chosen}],
        "rejected": [user, {"role": "assistant", "content": rejected}],
        "score_chosen": score,
        "score_rejected": 5.0,
    }


def rows(count, first=0):
    return [row(f"question {i}") for i in range(first, first + count)]


def lines(table):
    return "".join(json.dumps(r) + "\n" for r in table)


def to_parquet(path, table):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(table), path)
    return path


def to_jsonl(path, table):
    path.write_text(lines(table), encoding="utf-8")
    return path


def to_gzip(path, table):
    path.write_bytes(gzip.compress(lines(table).encode()))
    return path


def to_array(path, table):
    path.write_text(json.dumps(table, indent=1), encoding="utf-8")
    return path


def read(path, **options):
    return UltraFeedback(path=str(path), **options)


def everything(source):
    return [c for split in SPLITS for c in source.comparisons(split)]


def prompts(source, split):
    return [c.prompt.text for c in source.comparisons(split)]


def fail(**options):
    with pytest.raises(DataError) as error:
        UltraFeedback(**options)
    return str(error.value)


# Files and splits


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.parquet", to_parquet),
        ("a.jsonl", to_jsonl),
        ("a.json", to_jsonl),
        ("a.json", to_array),
        ("a.jsonl.gz", to_gzip),
        ("a.json.gz", to_gzip),
    ],
)
def test_every_format_gives_the_same_records(tmp_path, name, write, streaming):
    table = [*rows(10), row('Ünï "quoted"\nlines\u2028 🙂', "yes\r\n", "no")]
    source = read(write(tmp_path / name, table), streaming=streaming)
    (tmp_path / "plain").mkdir()
    expected = read(to_parquet(tmp_path / "plain/a.parquet", table))
    assert {c.prompt.text for c in everything(source)} >= {'Ünï "quoted"\nlines\u2028 🙂'}
    assert source.identity() == expected.identity()
    assert source.counts == expected.counts == {"rows": 11, "kept": 11}


ODD = ["v[2]", "[!a]", "a*b", "what?", "{x}", "(1) é", "a,b=c#d%20", ".hidden", "__x"]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("name", "write"), [("a.parquet", to_parquet), ("a.jsonl", to_jsonl), ("a.json", to_array)]
)
def test_a_copy_may_lie_in_a_folder_of_any_name(tmp_path, name, write, streaming, odd):
    """Beside one that the name would match if it were a pattern."""
    for folder, first in ((odd, 0), ("v2", 50), ("axb", 50), ("what1", 50), ("b", 50)):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / name, rows(10, first))
    source = read(tmp_path / odd, streaming=streaming)
    assert {c.prompt for c in everything(source)} == {
        c.prompt for c in everything(read(write(tmp_path / f"z{name}", rows(10))))
    }
    assert source.counts["rows"] == 10


def test_a_saved_copy_may_lie_in_a_folder_of_any_name(tmp_path):
    folder = tmp_path / "v[2]*"
    datasets.Dataset.from_list(rows(10)).save_to_disk(str(folder))
    assert len(everything(read(folder))) == 10


def test_a_name_that_the_library_cannot_read_is_an_error_that_says_so(tmp_path):
    (tmp_path / "a::b").mkdir()
    to_jsonl(tmp_path / "a::b" / "a.jsonl", rows(10))
    assert "'::'" in fail(path=str(tmp_path / "a::b"))


def test_several_copies_are_an_error(tmp_path):
    assert "data.path=['a', 'b']: must be one" in fail(path=["a", "b"])


def test_the_home_folder_is_understood(tmp_path, monkeypatch):
    to_jsonl(tmp_path / "a.jsonl", rows(10))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(everything(read("~/a.jsonl"))) == 10


@pytest.mark.parametrize("write", [to_jsonl, to_array])
@pytest.mark.parametrize("streaming", [False, True])
def test_a_byte_order_mark_loses_no_row(tmp_path, write, streaming):
    path = write(tmp_path / "a.json", rows(10))
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    assert read(path, streaming=streaming).counts == {"rows": 10, "kept": 10}


@pytest.mark.parametrize(
    "names",
    [
        ("data/train_prefs-00000-of-00001.parquet", "data/test_prefs-00000-of-00001.parquet"),
        ("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"),
        ("default/train/0000.parquet", "default/test/0000.parquet"),
        ("train.jsonl.gz", "test.jsonl.gz"),
        ("pairs_train.jsonl", "pairs_test.jsonl"),
    ],
)
def test_splits_are_told_by_the_names_of_files(names):
    others = ("data/train_sft-00000-of-00001.parquet", "train_gen.jsonl", "detrain.jsonl")
    found = by_split((*names, *others), UltraFeedback.splits)
    assert found == {"train": [names[0]], "val": [names[1]]}


def test_the_name_of_the_folder_itself_tells_no_split(tmp_path):
    to_parquet(tmp_path / "train/a.parquet", rows(10))
    assert len(read(tmp_path / "train").comparisons("val")) == 1


@pytest.mark.parametrize("name", ["train.jsonl", "test.jsonl", "all.jsonl"])
def test_one_split_is_divided_by_prompt_as_files_of_ones_own_are(tmp_path, name):
    table = rows(20) + rows(20)
    source = read(to_jsonl(tmp_path / name, table), held_out=0.25)
    own = Files(path=str(to_jsonl(tmp_path / "own.jsonl", table)), held_out=0.25)
    for split, count in (("train", 30), ("val", 10)):
        assert len(source.comparisons(split)) == count
        assert source.prompts(split) == own.prompts(split)


def test_prompts_of_the_held_out_split_leave_the_training_set_and_are_counted(tmp_path):
    to_jsonl(tmp_path / "train.jsonl", rows(6))
    to_jsonl(tmp_path / "test.jsonl", rows(4, first=4))
    source = read(tmp_path)
    assert prompts(source, "train") == [f"question {i}" for i in range(4)]
    assert prompts(source, "val") == [f"question {i}" for i in range(4, 8)]
    assert source.counts == {"rows": 10, "kept": 8, "prompt also in held-out split": 2}


@pytest.mark.parametrize("streaming", [False, True])
def test_the_limit_is_of_the_first_rows_of_each_split(tmp_path, streaming):
    to_jsonl(tmp_path / "train.jsonl", [row("same", "a", "a"), *rows(6)])
    to_jsonl(tmp_path / "test.jsonl", rows(4, first=6))
    source = read(tmp_path, limit=3, streaming=streaming)
    assert prompts(source, "train") == ["question 0", "question 1"]
    assert prompts(source, "val") == ["question 6", "question 7", "question 8"]
    assert source.counts["rows"] == 6


# Rows


def test_one_bad_line_is_counted_and_the_rest_is_read(tmp_path):
    bad = ['{"chosen": [', "[1, 2]", '{"chosen": 7}', '"\\ud800"', "null"]
    surrogate = json.dumps(row("q", "\ud800"))
    content = "\n".join([bad[0], "", lines(rows(4)), *bad[1:], surrogate, ""])
    (tmp_path / "a.jsonl").write_text(content, encoding="utf-8")
    source = read(tmp_path / "a.jsonl")
    assert len(everything(source)) == 4
    assert source.counts == {"rows": 10, "kept": 4, "malformed": 6}


@pytest.mark.parametrize("turns", [["assistant"], ["user", "assistant"], ["human"]])
def test_a_prompt_that_no_response_can_follow_is_malformed(tmp_path, turns):
    odd = row("odd")
    before = [{"role": role, "content": "x"} for role in turns]
    odd |= {c: before + odd[c][-1:] for c in ("chosen", "rejected")}
    source = read(to_jsonl(tmp_path / "a.jsonl", [*rows(4), odd]))
    assert source.counts == {"rows": 5, "kept": 4, "malformed": 1}


def test_the_identity_is_that_of_the_records_and_of_nothing_else(tmp_path):
    def identity(table, **options):
        return read(to_jsonl(tmp_path / "a.jsonl", table), **options).identity()

    table = rows(20)
    first = identity(table)
    assert json.loads(json.dumps(first)) == first
    same = [
        read(to_gzip(tmp_path / "moved.jsonl.gz", table)).identity(),
        identity([*table, row("new", "x", "x")]),
        identity(table, limit=20),
        identity(table, max_prompt_tokens=9),
        identity(table, held_out=0.09),
    ]
    assert same == [first] * len(same)
    others = [
        identity(table[:-1]),
        identity(table[::-1]),
        identity([*table[:-1], row("question 19", score=8.5)]),
        identity([*table[:-1], row("question 19", "better")]),
        identity(table, limit=18),
        identity(table, held_out=0.5),
    ]
    assert len({i["records"] for i in (first, *others)}) == len(others) + 1


# What is not read, what is said both ways, what a chat template refuses


def test_columns_that_may_change_the_lesson_are_named(tmp_path):
    table = [r | {"system": "Rhyme.", "messages": [], "source": "x"} for r in rows(4)]
    (note,) = read(to_jsonl(tmp_path / "a.jsonl", table)).notes
    assert "not read, 1 in all: 'system'" in note
    assert not read(to_jsonl(tmp_path / "a.jsonl", rows(4))).notes


def test_contradictory_pairs_are_counted_and_kept(tmp_path):
    table = [*rows(4), row("question 1", "bad", "good"), row("question 2")]
    source = read(to_jsonl(tmp_path / "a.jsonl", table))
    assert source.counts == {
        "rows": 6,
        "kept": 6,
        "contradictory pairs": 1,
        "repeated pairs": 1,
    }


def test_rows_that_call_tools_are_malformed(tmp_path):
    calling = row("odd")
    for column in ("chosen", "rejected"):
        call = {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}
        calling[column] = [*calling[column][:1], call, *calling[column]]
    answered = row("even")
    answered["chosen"][-1]["tool_calls"] = [{"id": "1"}]
    source = read(to_jsonl(tmp_path / "a.jsonl", [*rows(4), calling, answered]))
    assert source.counts == {"rows": 6, "kept": 4, "malformed": 2}


def test_rows_that_a_chat_template_refuses_leave_counts_and_identity(tmp_path):
    source = read(to_jsonl(tmp_path / "a.jsonl", [*rows(20), row("question 3", "other")]))
    before = source.identity()
    gone = next(p for p in source.prompts("train") if p.text == "question 3")
    source.refuse({gone: "roles must alternate"})
    assert source.counts == {"rows": 21, "kept": 19, "refused by the chat template": 2}
    assert gone not in source.prompts("train")
    kept = read(to_jsonl(tmp_path / "b.jsonl", [r for r in rows(20) if "n 3" not in str(r)]))
    assert len(everything(source)) == len(everything(kept)) == 19
    assert source.identity() != before


def test_a_split_of_which_the_template_refuses_all_is_an_error(tmp_path):
    source = read(to_jsonl(tmp_path / "a.jsonl", rows(20)))
    with pytest.raises(DataError, match="nothing is left for val: roles must alternate"):
        source.refuse(dict.fromkeys(source.prompts("val"), "roles must alternate"))


# Speed


def test_several_processes_give_the_same_records(tmp_path):
    path = to_jsonl(tmp_path / "a.jsonl", [*rows(30), row("same", "a", "a")])
    several, one = read(path, workers=3), read(path, workers=1)
    assert several.identity() == one.identity()
    assert several.counts == one.counts


def written(folder):
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*.arrow")}


def test_a_second_load_reads_what_the_first_wrote(tmp_path, cache, monkeypatch):
    path = to_jsonl(tmp_path / "a.jsonl", rows(10))
    first = read(path)
    files = written(cache)
    assert any(file.name.startswith("cache-") for file in files)
    assert read(path).identity() == first.identity()
    assert written(cache) == files
    # Other rows, and other code that reads them, are another cache.
    monkeypatch.setattr(hub, "code_version", lambda: "next version")
    assert read(path).identity() == first.identity()
    assert set(written(cache)) > set(files)


def test_a_changed_file_is_read_again(tmp_path):
    path = to_jsonl(tmp_path / "a.jsonl", rows(10))
    first = read(path)
    to_jsonl(path, rows(12))
    os.utime(path, (1, 1))
    assert len(everything(read(path))) == len(everything(first)) + 2


def test_a_saved_folder_that_cannot_be_written_to_is_read(tmp_path, monkeypatch):
    datasets.Dataset.from_list(rows(10)).save_to_disk(tmp_path / "saved")
    before = set((tmp_path / "saved").iterdir())
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    assert len(everything(read(tmp_path / "saved"))) == 10
    assert set((tmp_path / "saved").iterdir()) == before


# The hub


def in_hub_cache(folder, files, revision="main"):
    """A repository as the hub's own client keeps it once it has been fetched."""
    root = folder / f"datasets--{REPOSITORY.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / revision).write_text("0" * 40, encoding="utf-8")
    for name, table in files.items():
        blob = root / "blobs" / name.replace("/", "-").removesuffix(".parquet")
        link = root / "snapshots" / ("0" * 40) / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(to_parquet(blob, table))
    return folder


def test_what_was_fetched_from_the_hub_is_there_offline(tmp_path, monkeypatch):
    files = {
        "data/train_prefs-00000-of-00001.parquet": rows(4),
        "data/test_prefs-00000-of-00001.parquet": rows(2, first=4),
        "data/train_sft-00000-of-00001.parquet": rows(9),
    }
    folder = in_hub_cache(tmp_path, files)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    source = UltraFeedback()
    assert [len(source.comparisons(split)) for split in SPLITS] == [4, 2]
    # There a name is a link to a file that has another one.
    (link,) = folder.rglob("train_sft-*.parquet")
    assert len(everything(read(link.rename(link.with_name("all.parquet"))))) == 9


def test_a_part_of_what_is_needed_is_not_taken_for_the_whole(tmp_path, monkeypatch):
    folder = in_hub_cache(tmp_path, {"data/train_prefs-00000-of-00001.parquet": rows(4)})
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    assert "no file data/test_prefs-*.parquet" in fail()


@pytest.mark.parametrize("streaming", [False, True])
def test_a_hub_that_cannot_be_reached_is_an_error_that_says_what_to_do(
    tmp_path, monkeypatch, streaming
):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    message = fail(streaming=streaming, revision="v2")
    words = [REPOSITORY, "revision v2", "data.path=", "HF_HUB_OFFLINE", "hf auth login"]
    assert [word for word in words if word not in message] == []


# Errors


def test_a_path_that_is_not_there_is_an_error(tmp_path):
    message = fail(path=str(tmp_path / "missing"))
    assert f"data.path={tmp_path}/missing: no such file or folder" in message


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "chosen,rejected\n", [".parquet", ".jsonl.gz"]),
        ("a.parquet", "no", ["a.parquet", "Arrow"]),
        ("a.jsonl", "", ["a.jsonl: is empty"]),
        ("a.jsonl", "\n\n", ["no rows"]),
        ("a.jsonl", "no\n", ["none of its rows", "'no'"]),
        ("a.jsonl.gz", "no", ["a.jsonl.gz"]),
        ("a.jsonl", b'{"chosen": "\xe9"}', ["a.jsonl, line 1, byte 13: not UTF-8", "iconv"]),
        ("a.jsonl", b'{"q": 1}\n' * 999 + b'{"\xe9"}', ["a.jsonl, line 1000, byte 3: not UTF-8"]),
        (
            "a.jsonl.gz",
            gzip.compress(b'{}\n"\xff"', mtime=0),  # a time would give this test another name
            ["a.jsonl.gz, line 2, byte 2: not UTF-8"],
        ),
        ("a.json", b'[{"q": "\xe9"}]', ["a.json, line 1, byte 9: not UTF-8"]),
        ("a.jsonl", lines(rows(4)).encode("utf-16"), ["a.jsonl: is UTF-16 text", "iconv"]),
        ("a.json", json.dumps(rows(4)).encode("utf-16-le"), ["a.json: is UTF-16LE text"]),
        ("a.json", "[1, 2", ["a.json"]),
        ("a.parquet", "version https://git-lfs.github.com/spec/v1\n", ["a.parquet: is a pointer"]),
        ("a.jsonl.gz", "version https://git-lfs.github.com/spec/v1\n", ["gz: is a pointer"]),
        ("a.jsonl", '{"q": 1}\n' * 3, ["score_rejected", "columns q: {'q': 1}", "data=files"]),
        ("a.jsonl", lines([row("q") | {"chosen": "x"}] * 3), ["none of its rows", "'x'"]),
        ("a.jsonl", lines(rows(1) * 3), ["no comparisons for train", "two different prompts"]),
        ("a.jsonl", lines([row(i, "a", "a") for i in range(3)]), ["3 identical"]),
        ("train_sft.jsonl", lines(rows(3)), ["no file", "train_sft.jsonl"]),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_what_cannot_be_read_is_an_error(tmp_path, name, content, words, streaming):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    message = fail(path=str(path), streaming=streaming)
    assert str(tmp_path) in message
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize("streaming", [False, True])
def test_an_empty_file_beside_others_is_named(tmp_path, streaming):
    to_jsonl(tmp_path / "train_prefs.jsonl", rows(9))
    (tmp_path / "test_prefs.jsonl").touch()
    message = fail(path=str(tmp_path), streaming=streaming)
    assert message.startswith(f"{tmp_path}/test_prefs.jsonl: is empty")


def test_a_damaged_saved_folder_is_an_error(tmp_path):
    datasets.Dataset.from_list(rows(4)).save_to_disk(tmp_path / "saved")
    (tmp_path / "saved" / "state.json").write_text("{}", encoding="utf-8")
    assert f"{tmp_path}/saved: cannot be read" in fail(path=str(tmp_path / "saved"))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("held_out", 0),
        ("held_out", 1),
        ("limit", 1),
        ("workers", 0),
        ("max_prompt_tokens", 0),
        ("max_response_tokens", 0),
    ],
)
def test_a_bad_option_is_an_error_that_names_it(tmp_path, option, value):
    path = to_jsonl(tmp_path / "a.jsonl", rows(4))
    assert f"data.{option}={value}" in fail(path=str(path), **{option: value})

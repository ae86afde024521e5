"""One set in several files."""

import json
import shutil

import pytest

from datamodules.records import DataError
from datamodules.sources.files import Files
from datamodules.sources.reading.several import files_of

ODD = ["v[2]", "[!a]", "a*b", "what?", "{x}", "my files (1)", "données", "a,b", "#1", "it's", "~"]


def row(number):
    return {"prompt": f"question {number}", "chosen": "good", "rejected": "bad"}


def write(path, *numbers):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        lines = ["prompt,chosen,rejected", *(",".join(row(n).values()) for n in numbers)]
    else:
        lines = [json.dumps(row(n)) for n in numbers]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path):
    """Files of several kinds at several depths, and others that are not meant."""
    write(tmp_path / "set" / "b.csv", 0, 1)
    write(tmp_path / "set" / "a.jsonl", 2, 3)
    write(tmp_path / "set" / "below" / "c.json", 4, 5)
    write(tmp_path / "set" / ".hidden" / "d.jsonl", 6)
    write(tmp_path / "set" / ".e.jsonl", 7)
    (tmp_path / "set" / "README.md").write_text("no data", encoding="utf-8")
    return tmp_path / "set"


def fail(value, option="data.path"):
    with pytest.raises(DataError) as error:
        files_of(option, value)
    return str(error.value)


def questions(source):
    comparisons = [c for split in ("train", "val") for c in source.comparisons(split)]
    return sorted(int(c.prompt.text.split()[1]) for c in comparisons)


def test_a_folder_is_all_that_can_be_read_below_it(folder):
    names = ["a.jsonl", "b.csv", "below/c.json"]
    assert files_of("data.path", str(folder)) == [folder / name for name in names]
    assert questions(Files(path=str(folder))) == list(range(6))


def test_links_are_followed_and_never_in_a_circle(folder, tmp_path):
    write(tmp_path / "other" / "x.jsonl", 8, 9)
    (folder / "link").symlink_to(tmp_path / "other")
    (tmp_path / "other" / "back").symlink_to(folder)
    names = ["a.jsonl", "b.csv", "below/c.json", "link/x.jsonl"]
    assert files_of("data.path", str(folder)) == [folder / name for name in names]
    (folder / "z.jsonl").symlink_to(tmp_path / "gone.jsonl")
    assert "z.jsonl: cannot be read" in fail(str(folder))


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*", ["a.jsonl", "b.csv", "below/c.json"]),
        ("**", ["a.jsonl", "b.csv", "below/c.json"]),
        ("*.csv", ["b.csv"]),
        ("**/*.json*", ["a.jsonl", "below/c.json"]),
        ("[ab].*", ["a.jsonl", "b.csv"]),
        ("below/?.json", ["below/c.json"]),
    ],
)
def test_a_glob_is_what_it_matches(folder, pattern, names):
    found = files_of("data.path", f"{folder}/{pattern}")
    assert sorted(found) == [folder / name for name in names]


def test_a_list_is_read_in_its_order(folder):
    names = [str(folder / "b.csv"), str(folder / "below"), str(folder / "*.jsonl")]
    assert [f.name for f in files_of("data.path", names)] == ["b.csv", "c.json", "a.jsonl"]
    source = Files(path=names, limit=3)
    assert questions(source) == [0, 1, 4]


@pytest.mark.parametrize("odd", ODD)
def test_a_name_that_exists_is_no_pattern(tmp_path, monkeypatch, odd):
    """Beside a file that the name would match if it were one."""
    monkeypatch.chdir(tmp_path)
    meant = write(tmp_path / odd / f"{odd}.jsonl", 0, 1)
    for other in ("v2", "b", "axb", "what1"):
        write(tmp_path / other / f"{other}.jsonl", 7, 8)
    file = f"{odd}/{odd}.jsonl" if odd != "~" else f"./{odd}/{odd}.jsonl"
    for path in (file, [file], str(meant), str(meant.parent)):
        assert questions(Files(path=path)) == [0, 1]


def test_the_home_folder_is_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "a.jsonl", 0, 1)
    assert files_of("data.path", "~/a.jsonl") == [tmp_path / "a.jsonl"]
    assert files_of("data.path", ["~/*.jsonl"]) == [tmp_path / "a.jsonl"]


def test_held_out_files_may_be_several(folder):
    source = Files(path=str(folder), val_path=[str(folder / "b.csv"), str(folder / "below")])
    prompts = {split: {p.text for p in source.prompts(split)} for split in ("train", "val")}
    assert prompts["train"] == {"question 2", "question 3"}
    assert prompts["val"] == {f"question {i}" for i in (0, 1, 4, 5)}


def test_an_error_names_the_file_of_the_row(folder):
    with open(folder / "below" / "c.json", "a", encoding="utf-8") as file:
        file.write("{}\n")
    with pytest.raises(DataError, match=r"below/c\.json, line 3: "):
        Files(path=str(folder))


def test_an_empty_file_among_several_is_an_error(folder):
    (folder / "z.jsonl").touch()
    with pytest.raises(DataError, match=r"z\.jsonl: no rows in it"):
        Files(path=str(folder))


def test_a_file_counts_once(folder, tmp_path):
    path = str(folder / "a.jsonl")
    assert "a.jsonl is in it twice" in fail([path, path])
    assert "a.jsonl is in it twice" in fail([path, f"{folder}/*.jsonl"])
    assert "is in it twice" in fail([str(folder), f"{folder}/../set/b.csv"])
    shutil.copy(path, folder / "copy.jsonl")
    message = fail(str(folder))
    assert "copy.jsonl holds the same as" in message
    assert "a.jsonl" in message


def test_the_identity_is_that_of_contents_in_their_order(tmp_path):
    one, two = write(tmp_path / "1.jsonl", 0, 1), write(tmp_path / "2.jsonl", 2, 3)
    both = [str(one), str(two)]
    identity = Files(path=both).identity()
    assert json.loads(json.dumps(identity)) == identity
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    shutil.copy(one, moved / "a.jsonl")
    shutil.copy(two, moved / "b.jsonl")
    assert Files(path=str(moved)).identity() == identity
    assert Files(path=f"{moved}/*").identity() == identity
    assert Files(path=both[::-1]).identity() != identity
    assert Files(path=both[:1]).identity() != identity
    assert Files(path=both[:1], val_path=both[1]).identity() != identity
    write(two, 2, 4)
    assert Files(path=both).identity() != identity


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("nowhere.jsonl", ["nowhere.jsonl: no such file"]),
        ("nowhere/*.jsonl", ["nowhere/*.jsonl: no such file", "as a glob it matches nothing"]),
        ("a.jsonl,b.jsonl", ["no such file", "'data.path=[a.jsonl,b.jsonl]'"]),
        (["a", "b"], ["a: no such file", "'data.path=\"[a,b]\"'"]),
        ("x" * 5000, ["no such file"]),
        (20240102, ["data.path=20240102", "in quotes"]),
        ([1, 2], ["data.path=[1, 2]", "in quotes"]),
        ({"a": "b"}, ["data.path="]),
    ],
)
def test_what_is_not_there_is_said_with_what_to_do(tmp_path, monkeypatch, value, words):
    monkeypatch.chdir(tmp_path)
    message = fail(value)
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize("name", ["set", "set/*"])
def test_a_folder_with_nothing_to_read_is_an_error(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.txt").write_text("x", encoding="utf-8")
    assert "data.path=set" in fail(name)
    assert ".jsonl" in fail(name)


def test_numbers_may_be_names_of_columns(tmp_path):
    """`prompt: 0` in YAML is a number."""
    path = tmp_path / "a.csv"
    path.write_text("0,1,2,prompt,chosen,rejected\nq,a,b,x,x,x\nr,a,b,x,x,x\n", encoding="utf-8")
    for columns in ({"prompt": 0, "chosen": 1, "rejected": 2}, {"prompt": "0", "chosen": "1"}):
        source = Files(path=str(path), columns=columns)
        assert {p.text for s in ("train", "val") for p in source.prompts(s)} == {"q", "r"}

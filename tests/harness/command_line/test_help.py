"""The help of a task is what its file says."""

import re

import pytest
import yaml

from harness.command_line.arguments import help_asked
from harness.command_line.option_files import CONF

TASKS = sorted((CONF / "task").glob("*.yaml"))


def plain(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("file", TASKS, ids=lambda file: file.stem)
def test_each_task_shows_what_it_does_with_its_own_options_in_80_columns(file, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = help_asked([f"task={file.stem}", "--help"])
    assert max(map(len, text.splitlines())) <= 80
    lines = file.read_text(encoding="utf-8").splitlines()
    head = [line[2:] for line in lines if line.startswith("# ") and "@package" not in line]
    assert [line for line in head if plain(line) not in plain(text)] == []
    own = {k: v for k, v in yaml.safe_load("\n".join(lines)).items() if k[0] != "_"}
    for name in own.keys() - {"task", "hydra", "defaults"}:
        assert re.search(rf"^  {name}(=|$)|^  {name}\.", text, re.MULTILINE), name
    comments = re.findall(r"^\w[^#\n]*# (.*)$", "\n".join(lines), re.MULTILINE)
    assert [comment for comment in comments if comment not in plain(text)] == []


def test_a_group_that_is_typed_beside_shows_its_options_as_they_are_set():
    text = help_asked(["--help", "algo=a2c", "algo.beta=0.3"])
    assert "algo.beta=0.3 " in text
    assert "algo.value_updates=4" in text
    assert "algo.clip_range" not in text


@pytest.mark.parametrize("judge", ["helpful", "harmless", "summary", "pairwise"])
def test_the_criteria_of_a_judge_are_no_line_of_their_own_length(judge, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = help_asked(["--help", f"judge={judge}"])
    assert "judge.criteria=" in text
    assert max(map(len, text.splitlines())) <= 80


def test_without_the_flag_there_is_none():
    assert help_asked(["algo=a2c"]) is None

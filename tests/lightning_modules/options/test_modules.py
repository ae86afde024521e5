"""A user's module is found where he runs, and takes no library's place."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_modules.options.identities import code_identity
from lightning_modules.options.modules import load_module
from lightning_modules.options.rewards import FunctionRewardOptions

ROOT = Path(__file__).parents[3]
RULE = "import {uses}\n\ndef score(prompts, responses):\n    return [{value}] * len(prompts)\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder where one runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def value(path: str) -> float:
    return FunctionRewardOptions(path=path).load()(["p"], ["r"])[0]


def write(file: Path, value: float, uses: str = "math") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(RULE.format(uses=uses, value=value), encoding="utf-8")


def test_a_module_beside_where_one_runs(here):
    write(here / "my_rewards.py", 1, uses="helper_of_mine")
    (here / "helper_of_mine.py").touch()
    assert value("my_rewards:score") == 1
    assert value("my_rewards.py:score") == 1


def test_a_module_in_a_package_there(here):
    write(here / "a_package" / "rewards.py", 2)
    assert value("a_package.rewards:score") == 2
    (here / "other_package").mkdir()
    (here / "other_package" / "__init__.py").write_text(
        "from .rule import score\n", encoding="utf-8"
    )
    write(here / "other_package" / "rule.py", 3)
    assert value("other_package:score") == 3


@pytest.mark.parametrize("name", ["random", "types", "torch", "harness", "json"])
def test_a_name_that_a_library_has_is_the_users_file_and_stays_the_librarys(here, name):
    import random

    write(here / f"{name}.py", 4)
    assert value(f"{name}:score") == 4
    assert not hasattr(sys.modules.get(name), "score")
    assert random.random() < 1
    # Later imports, in a process that has not read it yet.
    code = f"import {name}; assert not hasattr({name}, 'score')"
    code = f"import sys; sys.path.append({str(here)!r}); {code}"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=here / "..", env=environment, check=True)


def test_files_of_one_name_are_two_modules(here):
    write(here / "a" / "rewards.py", 5)
    write(here / "b" / "rewards.py", 6)
    assert value("a/rewards.py:score") == 5
    assert value("b/rewards.py:score") == 6
    assert value(f"{here}/a/rewards.py:score") == 5
    assert load_module("a/rewards.py") is load_module(f"{here}/a/rewards.py")


def test_the_folder_is_the_last_that_is_looked_into(here):
    write(here / "my_rewards.py", 7)
    value("my_rewards:score")
    assert sys.path[-1] == str(here)


def test_the_code_of_a_file_is_known_by_its_contents_wherever_it_lies(here):
    write(here / "a" / "rewards.py", 8)
    known = list(code_identity(load_module("a/rewards.py")).values())
    write(here / "c" / "rewards.py", 8)
    assert list(code_identity(load_module("c/rewards.py")).values()) == known

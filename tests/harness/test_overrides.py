"""Names on the command line, as Hydra then sees them."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from harness.overrides import quoting, require_names, with_names_as_text
from lightning_modules.errors import OptionError

ROOT = Path(__file__).parents[2]
PARSER = OverridesParser.create()
ODD = [
    "2024_01_02",
    "1e3",
    "0x10",
    "007",
    "1:30",
    "true",
    "Off",
    "inf",
    "-1",
    "données.jsonl",
    "数据/🙂.jsonl",
    "a=b.jsonl",
    "v[2]/x.jsonl",
    "[2].jsonl",
    "{x}.jsonl",
    "my file (1).jsonl",
    "(1)",
    "a,b.jsonl",
    "a#b",
    "a:b",
    "$HOME/x",
    "it's",
    'say "x"',
    "'a'b'",
    "back\\slash",
    "ends with\\",
    "~user!/^x",
    " spaces ",
    "*.jsonl",
    "a&b;c|d<e>`f`%g+h@i",
    "line\nbreak",
]
OPTIONS = [
    "data.path",
    "data.val_path",
    "data.columns.prompt",
    "model.pretrained",
    "model.chat_template",
    "reward.path",
    "reward.rewards.learned.path",
    "policy",
    "against",
    "run",
    "runs",
    "resume",
    "to",
    "cache_dir",
    "checkpoint",
    "hydra.run.dir",
    "hydra.sweep.dir",
    "logger.project",
    "logger.group",
    "logger.entity",
    "logger.tags",
]


def understood(*arguments):
    """What Hydra makes of the last argument: a value, or the values that are swept over."""
    rewritten = with_names_as_text(arguments)
    assert with_names_as_text(rewritten) == rewritten
    override = PARSER.parse_override(rewritten[-1])
    if override.is_sweep_override():
        values = override.sweep_string_iterator()
        return [PARSER.parse_override(f"x={value}").value() for value in values]
    return override.value()


@pytest.mark.parametrize("option", OPTIONS)
def test_a_name_is_the_text_that_was_typed(option):
    assert [understood(f"{option}={name}") for name in ODD] == ODD
    assert [understood(f"++{option}={name}") for name in ODD] == ODD


def test_any_text_is_a_name():
    """But for what has a meaning of its own: quotes, escapes, null, lists, objects, functions."""
    rng = random.Random(0)
    for _ in range(5000):
        name = "".join(rng.choices("ab1_.-/'\"=,:#~ é&%!()[]{}", k=rng.randint(1, 8)))
        if name[0] in "'\"[{~" or not name.strip():
            continue
        assert understood(f"logger.project={name}") == name


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("null", None),
        ("NULL", None),
        ("", ""),
        ("'2024_01_02'", "2024_01_02"),
        ('"a,b"', "a,b"),
        ("a\\,b\\ c", "a,b c"),
        ("${oc.env:HOME}/x", "${oc.env:HOME}/x"),
        ("${now:%Y}/x (1)", "${now:%Y}/x (1)"),
        ("[a,2024_01_02]", ["a", "2024_01_02"]),
        ("[ 'a,b' , données (1).jsonl,x[2] ]", ["a,b", "données (1).jsonl", "x[2]"]),
        ("[]", []),
        ("./null", "./null"),
    ],
)
def test_what_has_a_meaning_keeps_it(typed, meant):
    assert understood(f"data.path={typed}") == meant


def test_lists_are_for_options_that_take_them():
    assert understood("model.pretrained=[1,2]") == [1, 2]
    assert understood("runs=[1,2]") == ["1", "2"]


@pytest.mark.parametrize("start", [["-m"], ["--multirun"], ["--multi"], ["hydra.mode=MULTIRUN"]])
@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("a.jsonl,b.jsonl", ["a.jsonl", "b.jsonl"]),
        ("2024_01_02, 1e3,null", ["2024_01_02", "1e3", None]),
        ("it's.jsonl,données (1,2).jsonl", ["it's.jsonl", "données (1,2).jsonl"]),
        ("[a,1e3],[b]", [["a", "1e3"], ["b"]]),
        ("'a,b',c", ["a,b", "c"]),
        ("a\\,1_0,1e3", ["a,1_0", "1e3"]),
        ("choice(1e3,é)", ["1e3", "é"]),
        ("choice(1e3,true)", ["1e3", "true"]),
        ("données.jsonl", "données.jsonl"),
        ("a(,b", ["a(", "b"]),
        ("a,", "a,"),
    ],
)
def test_a_sweep_goes_through_names(start, typed, meant):
    assert understood(*start, f"data.path={typed}") == meant


@pytest.mark.parametrize(
    "name", ["glob(x)", "glob(*.jsonl)", "range(1,3)", "choice(a)", "interval(0,1)", "a,b"]
)
def test_what_would_go_through_values_is_a_name_where_nothing_does(name):
    assert understood(f"data.path={name}") == name
    assert understood("-m", f"hydra.run.dir={name}") == name


def test_a_range_is_one_where_values_are_gone_through():
    assert with_names_as_text(["-m", "checkpoint=range(1,3)"]) == ["-m", "checkpoint=range(1,3)"]


def test_hydras_own_options_are_not_swept_over():
    assert understood("-m", "hydra.sweep.dir=a,b") == "a,b"


def test_a_home_folder_is_one_in_places_alone(monkeypatch):
    monkeypatch.setenv("HOME", "/home/é")
    assert understood("hydra.run.dir=~/x") == "/home/é/x"
    assert understood("runs=[~/x,y]") == ["/home/é/x", "y"]
    assert understood("logger.project=~/x") == "~/x"


def test_other_arguments_are_left_alone():
    others = ["algo.beta=1e3", "seed=1,2", "data=files", "~data.path", "-m", "--cfg=job", "x=é"]
    assert with_names_as_text(others) == others


@pytest.mark.parametrize("name", ['a"b', "a\\", "v[2] é", "plain"])
def test_a_folder_between_lightnings_quotes_is_the_folder(name):
    assert understood(f'hydra.run.dir="{name}"') == name


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"cache_dir": 2024}, r"^cache_dir=2024: must be a name; .*'cache_dir=\"2024\"'$"),
        ({"run": ["a", "b"]}, r"^run=\[a,b\]: .*'run=\"\[a,b\]\"'$"),
        ({"policy": {"a": 1}}, r"^policy=\{a:1\}: "),
        ({"logger": {"group": 1.5}}, r"^logger\.group=1\.5: "),
        ({"logger": {"tags": "x"}}, r"^logger\.tags=x: must be a list"),
        ({"logger": {"tags": [1]}}, r"^logger\.tags=\[1\]: must be a list"),
    ],
)
def test_what_is_no_name_is_refused_with_the_quoting(config, said):
    with pytest.raises(OptionError, match=said):
        require_names(config)


def test_names_and_nothing_are_not_refused():
    require_names({"run": None, "cache_dir": "x", "logger": {"tags": ["a"], "group": None}})
    require_names({"logger": None})
    assert quoting("run", "x") == quoting("run", None) == ""


def composed(*arguments, cwd):
    """The config of a real command line, as Hydra prints it."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *arguments, "--cfg", "job"],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)


def test_a_command_line_of_odd_names(tmp_path):
    names = dict(zip(OPTIONS[:6], ODD[9:15], strict=True)) | {
        "cache_dir": "1e3",
        "resume": "true",
        "logger.group": 'it\'s, "so"',
        "logger.project": "2024_01_02",
    }
    del names["reward.path"]
    groups = ("data=files", "model=pretrained")
    config = composed(*groups, *(f"{k}={v}" for k, v in names.items()), cwd=tmp_path)
    for option, name in names.items():
        value = config
        for key in option.split("."):
            value = value[key]
        assert value == name

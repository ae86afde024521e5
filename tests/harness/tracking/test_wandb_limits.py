"""What W&B would refuse is refused before it, or made to fit."""

import pytest
import wandb

from harness.tracking.wandb_limits import TAG, TARGET, check_logger, fitting, sendable, tag_list
from lightning_modules.errors import OptionError
from tests.harness.tracking.wandb_log import ended, log_of


@pytest.fixture(autouse=True)
def nobody(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))


TAKEN = [
    {"project": 2024, "entity": 7, "group": 3.5, "tags": [2024, 0.5]},
    {"project": None, "entity": None, "group": None, "tags": None},
    {"project": "p" * 128, "group": "g" * 128, "tags": ["t" * 64]},
    {"tags": "alone"},
    {"tags": "baseline with words"},
    {"project": "mit Umlaut ä"},
]


@pytest.mark.parametrize("options", TAKEN, ids=str)
def test_what_is_taken_makes_a_run(options, real_run, tmp_path):
    check_logger({"_target_": TARGET} | options)
    ended(real_run("abcd1234", **options))
    log = log_of(tmp_path, "abcd1234")
    assert list(log.run.tags) == [str(tag) for tag in tag_list(options.get("tags"))]
    if options.get("project"):
        assert log.run.project == str(options["project"])


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("project", f"a{sign}b") for sign in "/\\#?%:"),
        ("project", "p" * 129),
        ("project", ""),
        ("project", True),
        ("project", ["p"]),
        ("entity", "team/project"),
        ("entity", {"a": 1}),
        ("group", "g" * 129),
        ("group", ""),
        ("tags", ["t" * 65]),
        ("tags", [None]),
        ("tags", [""]),
        ("tags", [["nested"]]),
        ("tags", {"a": 1}),
        ("tags", [True]),
        ("mode", "ofline"),
        ("mode", "online"),
        ("my_token", "abc"),
    ],
    ids=str,
)
def test_what_a_person_typed_is_refused_by_name(option, value):
    with pytest.raises(OptionError, match=rf"^logger\.{option}"):
        check_logger({"_target_": TARGET, option: value})


def test_other_loggers_are_not_looked_at():
    check_logger({"_target_": "my.own.Logger", "project": "a/b", "anything": 1})
    check_logger({"name": "csv"})


def test_names_that_follow_from_others_are_cut(real_run, tmp_path):
    name = "a_model_with_a_name_" * 20
    config = {"model": {"name": name}, "a\ud800": {"b": "\udcff", 3: 10**400}}
    ended(real_run("abcd1234", run_name=name, default_group=f"{name}\ud800", config=config))
    log = log_of(tmp_path, "abcd1234")
    assert list(log.run.tags) == [name[:TAG]]
    assert log.run.display_name == log.run.run_group == name[:128]
    assert log.config["a?.b"] == "?"


def test_cutting_leaves_no_space_and_no_half_character():
    assert fitting(" ab  c ", 4) == "ab"
    assert fitting("x\ud800y", 9) == "x?y"
    assert sendable({"a": ["\ud800", 1, {"b": ("\udcff",)}]}) == {"a": ["?", 1, {"b": ["?"]}]}
    assert wandb.__version__  # whose limits these are

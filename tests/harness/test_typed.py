"""What is printed to be pasted says the same to a shell, to Hydra and to OmegaConf."""

import io
import shlex
import subprocess
import sys

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from harness.typed import option, word

NAMES = (
    "outputs/runs/2026-01-31_12-00-00_ppo_llama_landmarks_seed0",
    "/tmp/dossier é [v2] x",
    "2024_01_02",
    "1e5",
    "null",
    "true",
    "",
    " x ",
    "a=b",
    "a,b",
    "it's",
    'a "quote"',
    "back\\",
    "back\\\\",
    "back\\'",
    "${seed}",
    "\\${oc.env:HOME}",
    "$HOME `id` $(id) !x *?",
    "f(x)",
    "{a: 1}",
    "~/runs",
    "#1",
    "two\nlines",
    "-x",
)


def taken(pasted: str) -> str:
    """What the option is, after a shell, Hydra and OmegaConf."""
    (argument,) = shlex.split(pasted)
    override = OverridesParser.create().parse_override(argument)
    assert override.key_or_group == "resume"
    return OmegaConf.create({"resume": override.value()}).resume


@pytest.mark.parametrize("name", NAMES)
def test_a_name_comes_back_as_it_was(name):
    assert taken(option("resume", name)) == name


@given(st.text("ab /[]{}()'\"\\$,:=~#é@!%._2\n", max_size=12))
def test_any_name_comes_back(name):
    assert taken(option("resume", name)) == name


def test_a_plain_name_is_left_plain():
    assert option("resume", "outputs/runs/a_1") == "resume=outputs/runs/a_1"


@pytest.mark.parametrize("name", ["é", "\x1b[31m", "it's \\ é", "👩"])
def test_what_a_terminal_cannot_show_can_be_pasted_all_the_same(name, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    pasted = word(name)
    assert pasted.isascii()
    assert pasted.isprintable()
    done = subprocess.run(["bash", "-c", f"printf %s {pasted}"], capture_output=True, check=True)
    assert done.stdout == name.encode()

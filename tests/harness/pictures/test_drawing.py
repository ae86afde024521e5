"""A picture is made, or left out; names in it are names."""

import matplotlib
import numpy as np
import pytest

from harness.comparison.figures import draw_curves
from harness.comparison.grouping import Configuration
from harness.comparison.reading import SCORE, Curve, PolicyRun
from harness.pictures.drawing import drawn
from harness.pictures.trace import draw

ODD = (
    "$x^{$",
    "\\frac{",
    "\0\x1b[31m",
    "\ud800",
    "سلام \u202e",
    "👩\u200d👩\u200d👧 漢字",
    "",
    "x" * 3000,
)
PNG = b"\x89PNG"


@pytest.mark.parametrize("text", ODD)
def test_any_token_can_be_drawn(text, tmp_path, capsys):
    rows = [{"token": text, "advantage": a} for a in (-1.0, 0.5)]
    assert drawn(tmp_path / "a.png", lambda path: draw(rows, f"after {text}"[:80], path))
    assert (tmp_path / "a.png").read_bytes()[:4] == PNG
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("text", ODD)
def test_any_name_of_a_configuration_can_be_drawn(text, tmp_path, capsys):
    curve = Curve(*[np.array([1.0, 2.0])] * 3)
    run = PolicyRun(tmp_path, "", {"seed": 0}, {}, {SCORE: curve})
    some = [Configuration(name, {}, [run]) for name in (text, f"data.name={text}")]
    assert drawn(tmp_path / "a.png", lambda path: draw_curves(some, path))
    assert capsys.readouterr().err == ""


def test_the_users_own_settings_do_not_count(tmp_path):
    with matplotlib.rc_context({"text.usetex": True, "text.parse_math": True}):
        rows = [{"token": "$x^{$", "advantage": 1.0}]
        assert drawn(tmp_path / "a.png", lambda path: draw(rows, "$x^{$", path))
        assert matplotlib.rcParams["text.usetex"]


def test_what_cannot_be_drawn_is_said_and_no_older_picture_stays(tmp_path, capsys):
    picture = tmp_path / "a.png"
    picture.write_bytes(PNG)

    def fails(path):
        path.write_bytes(PNG)
        raise ValueError("not \x1b finite")

    assert not drawn(picture, fails)
    assert not picture.exists()
    assert r"a.png: left out, as it could not be drawn: not \x1b finite" in capsys.readouterr().err


def test_nothing_to_draw_is_no_picture(tmp_path):
    assert not drawn(tmp_path / "a.png", lambda path: None)

import math

import pytest

from harness.progress.lines import BLOCKS, bar, curve, one_line


@pytest.mark.parametrize("width", [20, 33, 60, 80])
def test_a_line_keeps_to_its_width_and_leaves_out_the_last_numbers_first(width):
    line = one_line(width, "  epoch 1/2", ["loss 0.5", "accuracy 0.8", "KL 1"], "9 s left")
    assert len(line) <= width
    whole = "  epoch 1/2  loss 0.5  accuracy 0.8  KL 1  9 s left"
    assert line == whole or whole.startswith(line.removesuffix("9 s left").rstrip())
    assert ("KL" in line) == (width >= len(whole))
    if width >= 33:
        assert line.endswith("loss 0.5  9 s left") or "accuracy" in line


def test_a_curve_rises_where_the_values_do():
    assert curve([0, 1, 2, 3, 4, 5, 6, 7], "utf-8") == BLOCKS
    falling = curve([3.0, math.nan, 2.0, 1.0], "utf-8")
    assert list(falling) == sorted(falling, reverse=True)
    assert len(falling) == 3
    assert curve([1.0], "utf-8") == ""
    assert len(set(curve([2.0, 2.0], "utf-8"))) == 1


def test_a_long_curve_is_made_of_means_of_equal_stretches():
    values = [float(i // 5) for i in range(40)]
    assert curve(values, "utf-8") == curve(range(8), "utf-8")


def test_a_terminal_without_blocks_gets_letters():
    assert curve([0, 1, 2], "ascii").isascii()
    assert bar(0.5, 10, "ascii") == "#####-----"
    assert len(bar(1.7, 10, "utf-8")) == 10

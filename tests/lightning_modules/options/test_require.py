"""Messages that name the option, its value and the rule."""

import pytest

from lightning_modules.errors import OptionError
from lightning_modules.options.require import require, require_at_least


def test_require_names_option_value_and_rule():
    with pytest.raises(OptionError, match=r"^algo\.gamma=1\.5: must lie in \[0, 1\]$"):
        require(False, "algo.gamma", 1.5, "must lie in [0, 1]")


def test_require_lets_pass_what_is_right():
    require(True, "algo.gamma", 1.0, "must lie in [0, 1]")


def test_the_minimum_itself_is_allowed():
    require_at_least(1, "algo", epochs=1, minibatches=8)


def test_the_first_option_below_the_minimum_is_named():
    with pytest.raises(OptionError, match=r"^algo\.epochs=0: must be at least 1$"):
        require_at_least(1, "algo", iterations=5, epochs=0, minibatches=-1)


def test_nan_is_not_at_least_anything():
    with pytest.raises(OptionError, match="nan"):
        require_at_least(0, "algo", beta=float("nan"))

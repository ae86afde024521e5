"""A judge whose cache is in a test's folder."""

from functools import partial

import pytest

from tests.lightning_modules.judges import asked


@pytest.fixture
def judge_at(tmp_path):
    """judge_at(port, **options)."""
    return partial(asked.judge_at, tmp_path)

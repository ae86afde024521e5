"""Each exact test states its claim and its error; the errors measured last are kept in docs."""

import json
from pathlib import Path

import pytest

FIGURES = Path(__file__).parents[2] / "docs" / "figures" / "exact.json"
CLAIMS = pytest.StashKey[list]()


def pytest_addoption(parser):
    parser.addoption(
        "--write-figures",
        action="store_true",
        help="keep the measured errors in docs/figures/exact.json, for docs/verification.md",
    )


def pytest_configure(config):
    config.stash[CLAIMS] = []


@pytest.fixture
def measured(request):
    """measured(claim, error, tolerance): assert error <= tolerance, and keep all three.

    `claim` begins with its number in the specification, "E3 ..."; NaN is a failure.
    """

    def check(claim: str, error: float, tolerance: float) -> None:
        error = float(error)
        test = f"{request.node.path.name}::{request.node.originalname}"
        row = {"claim": claim, "test": test, "error": error, "tolerance": tolerance}
        request.config.stash[CLAIMS].append(row)
        assert error <= tolerance, f"{claim}: {error:.3g} is more than {tolerance:.3g}"

    return check


def pytest_sessionfinish(session, exitstatus):
    if session.config.getoption("--write-figures") and exitstatus == 0:
        FIGURES.parent.mkdir(exist_ok=True)
        FIGURES.write_text(
            json.dumps(session.config.stash[CLAIMS], indent=1) + "\n", encoding="utf-8"
        )

"""The project against the numbers that other implementations gave for the same inputs."""

import json

import pytest

from tests.oracles import golden
from tests.oracles.inputs import inputs_of
from tests.oracles.ours import OURS
from tests.oracles.theirs import DISTRIBUTIONS, ORACLES
from tests.oracles.write_golden import SEED

KEPT = golden.read()
SAID = [
    pytest.param(case, oracle, id=oracle)
    for case, outputs in KEPT["outputs"].items()
    for oracle in outputs
]


@pytest.mark.parametrize(("case", "oracle"), SAID)
def test_the_project_says_what_the_oracle_said(case, oracle):
    ours = OURS[case](**KEPT["inputs"][case])
    distances = golden.differences(oracle, KEPT["outputs"][case][oracle], ours)
    for name, (distance, allowed) in distances.items():
        assert distance <= allowed, name


def test_every_comparison_is_kept_for_every_oracle():
    expected = {(case, oracle.__name__) for case, _, oracle in ORACLES}
    assert {tuple(param.values) for param in SAID} == expected
    assert {case for case, _ in expected} == set(OURS)
    assert set(KEPT["versions"]) == set(DISTRIBUTIONS.values())


def test_every_number_of_the_project_is_held_against_one_of_an_oracle():
    for case, outputs in KEPT["outputs"].items():
        ours = OURS[case](**KEPT["inputs"][case])
        assert set(ours) == {name for numbers in outputs.values() for name in numbers}


def test_the_kept_inputs_are_those_that_would_be_drawn_now():
    assert KEPT["inputs"] == json.loads(json.dumps(inputs_of(SEED)))

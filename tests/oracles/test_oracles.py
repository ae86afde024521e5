"""The project against other implementations themselves; without the extra `oracles` these skip."""

import pytest

from tests.oracles import golden
from tests.oracles.inputs import inputs_of
from tests.oracles.ours import OURS
from tests.oracles.theirs import ORACLES

each_oracle = pytest.mark.parametrize(
    ("case", "library", "oracle"),
    [pytest.param(*each, id=each[-1].__name__) for each in ORACLES],
)


@each_oracle
def test_the_project_says_what_the_oracle_says(case, library, oracle):
    pytest.importorskip(library)
    for seed in (1, 2, 3):
        inputs = inputs_of(seed)[case]
        distances = golden.differences(oracle.__name__, oracle(**inputs), OURS[case](**inputs))
        for name, (distance, allowed) in distances.items():
            assert distance <= allowed, (name, seed)


@each_oracle
def test_the_oracle_still_says_what_is_kept(case, library, oracle):
    pytest.importorskip(library)
    kept = golden.read()
    said = oracle(**kept["inputs"][case])
    numbers = kept["outputs"][case][oracle.__name__]
    assert set(said) == set(numbers)
    for name, (distance, allowed) in golden.differences(oracle.__name__, numbers, said).items():
        assert distance <= allowed, name

"""Ask the oracles, all of which must be installed, and keep what they say:

python -m tests.oracles.write_golden
"""

from importlib.metadata import version

from tests.oracles import golden
from tests.oracles.inputs import inputs_of
from tests.oracles.theirs import DISTRIBUTIONS, ORACLES

SEED = 0


def main() -> None:
    inputs, outputs = inputs_of(SEED), {}
    for case, _, oracle in ORACLES:
        numbers = oracle(**inputs[case])
        outputs.setdefault(case, {})[oracle.__name__] = {k: x.tolist() for k, x in numbers.items()}
    versions = {name: version(name) for name in DISTRIBUTIONS.values()}
    golden.write(versions, inputs, outputs)


if __name__ == "__main__":
    main()

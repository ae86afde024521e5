"""PPO and RLOO here, beside TRL and beside an earlier state of this project.

    python benchmarks/policy.py ppo                      # seconds of the same rollouts and updates
    python benchmarks/policy.py rloo --size medium
    python benchmarks/policy.py quality                  # what equal episodes give on the landmarks
    python benchmarks/policy.py real --model <folder> --against <checkout>
    python benchmarks/policy.py memory --model <folder>  # PPO's four roles against SFT

Sides take turns, each in processes of its own. PPO is held against TRL 0.24, the last one with PPO
in its main package, RLOO against TRL 1.16, each in an environment of its own: by default it is made
under outputs/benchmarks (that needs a network or a package index); --peer-python names another.
With --tiny all is small, and no peer is run unless --peer-python is given.
"""

import argparse
import os
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.parts.policy_quality import quality  # noqa: E402
from benchmarks.parts.policy_runs import memory, real  # noqa: E402
from benchmarks.parts.policy_speed import SIZES, speed  # noqa: E402
from benchmarks.parts.processes import OUTPUTS, make_environment  # noqa: E402
from harness.parts.hardware import cpu_has_bfloat16  # noqa: E402
from harness.quiet import quiet_transformers  # noqa: E402

PPO_PACKAGES = ("torch==2.13.0", "trl==0.24.0", "transformers==4.57.1")
RLOO_PACKAGES = ("torch==2.13.0", "trl==1.16.0")
PEERS = {"ppo": PPO_PACKAGES, "quality": PPO_PACKAGES, "rloo": RLOO_PACKAGES}
COMMANDS = {"ppo": speed, "rloo": speed, "quality": quality, "real": real, "memory": memory}


def main() -> None:
    options = parse()
    quiet_transformers()
    torch.set_num_threads(options.threads)
    folder = options.folder.resolve() / options.what
    folder.mkdir(parents=True, exist_ok=True)
    COMMANDS[options.what](options, folder, peer_python(options))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=COMMANDS)
    parser.add_argument("--size", nargs="+", choices=SIZES, help="of ppo, rloo; toy and medium")
    parser.add_argument("--steps", type=int, default=5, help="of ppo, rloo: after the first one")
    parser.add_argument("--rounds", type=int, default=3, help="in turns")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of quality")
    parser.add_argument("--model", help="of real, memory: the folder of a pretrained model")
    parser.add_argument("--against", type=Path, help="of real: another checkout of this project")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--folder", type=Path, default=OUTPUTS)
    parser.add_argument("--peer-python", type=Path, help="of an environment with trl and torch")
    parser.add_argument("--tiny", action="store_true", help="to see that it runs")
    options = parser.parse_args()
    options.size = options.size or (["tiny"] if options.tiny else ["toy", "medium"])
    if options.tiny:
        options.rounds, options.steps, options.seeds = 1, 1, options.seeds[:1]
    options.bfloat16 = cpu_has_bfloat16()
    return options


def peer_python(options: argparse.Namespace) -> Path | None:
    """The Python of the peer that this needs, made if it is not there yet."""
    if options.what not in PEERS or options.peer_python or options.tiny:
        return options.peer_python
    packages = PEERS[options.what]
    return make_environment(options.folder.resolve() / packages[1].replace("==", "-"), packages)


if __name__ == "__main__":
    main()

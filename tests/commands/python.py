"""What `python`, `rlhf-ladder`, `pip` and their like are for the commands of the documents.

    <python> -IS python.py <name> <the command's arguments>

Commands of this project get a small budget. `pip` and `venv` do nothing: the environment is there.
Where a server of tests/commands/warm.py listens (WARM), it runs the command: its libraries are
loaded.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from ask import ask
from budget import budget

NAME = Path(sys.argv[1]).name
ARGUMENTS = sys.argv[2:]
PROGRAM = ["-c", "import sys; sys.argv[0] = 'rlhf-ladder'; from run import main; main()"]


def command() -> list[str]:
    """The arguments of Python, with a budget."""
    if NAME == "rlhf-ladder":
        return [*PROGRAM, *ARGUMENTS, *budget(ARGUMENTS)]
    if ARGUMENTS and Path(ARGUMENTS[0]).name == "run.py":
        return [*ARGUMENTS, *budget(ARGUMENTS[1:])]
    return ARGUMENTS


if NAME == "pip" or ARGUMENTS[:2] in (["-m", "pip"], ["-m", "venv"]):
    sys.exit()
if "WARM" not in os.environ:
    os.execv(sys.executable, [sys.executable, *command()])
sys.exit(ask(command()))

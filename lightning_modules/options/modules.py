"""Python modules that a user names: found in the folder where one runs, whatever else has the name.

That folder is not put before others, where a random.py in it would take the place of the library's.
"""

import importlib
import itertools
import os
import sys
import sysconfig
import traceback
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

_FILES: dict[Path, ModuleType] = {}


def load_module(name: str) -> ModuleType:
    """The module of this name, or in the file of this name (`my/rewards.py`).

    The file <name>.py of the folder where one runs comes first; what it imports itself is found
    there too, if no library is called the same.
    """
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)
    if name.endswith(".py"):
        return _from_file(Path(name).expanduser())
    stem = Path(here, *name.split("."))
    for file in (stem.with_name(f"{stem.name}.py"), stem / "__init__.py"):
        if file.is_file() and not _is_found_as(name, file):
            return _from_file(file)
    return importlib.import_module(name)


def _is_found_as(name: str, file: Path) -> bool:
    """Whether an import of `name` would read this very file."""
    try:
        spec = find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return False
    origin = spec and spec.origin
    return bool(origin) and os.path.exists(origin) and os.path.samefile(origin, file)


def _from_file(file: Path) -> ModuleType:
    """A module from its file, under a name that no other one has; loaded once."""
    file = file.absolute()
    if not file.is_file():
        raise FileNotFoundError(2, "no such file", str(file))
    if file in _FILES:
        return _FILES[file]
    names = (f"file_{file.stem}{'_' * n}" for n in itertools.count())
    name = next(name for name in names if name not in sys.modules)
    spec = spec_from_file_location(name, file)
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    _FILES[file] = module
    return module


def where(error: BaseException) -> str:
    """ " (my_rewards.py, line 7)": the last line of a user's own code that an error went through.

    Empty if it went through none.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}, line {error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_users(frame.filename)]
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""


def _is_users(filename: str) -> bool:
    """Whether this is no file of Python's, of an installed package or of this project."""
    if not os.path.isfile(filename):  # <frozen importlib._bootstrap>
        return False
    project = Path(__file__).parents[2]
    paths = sysconfig.get_paths()
    others = [paths[kind] for kind in ("stdlib", "platstdlib", "purelib", "platlib")]
    others += [str(project / part) for part in ("harness", "lightning_modules", "datamodules")]
    return not any(Path(filename).is_relative_to(other) for other in others)

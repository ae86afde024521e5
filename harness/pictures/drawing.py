"""Pictures beside results: words in them are words, and one that cannot be drawn ends nothing."""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from harness.printable import say


def drawn(path: Path, draw: Callable[[Path], object]) -> bool:
    """Whether `draw(path)` has made the picture. If it cannot, a line says why; there is none then.

    Dollar signs and backslashes in names and tokens are no formulas, whatever the user's own
    settings of matplotlib are; letters that its font lacks are boxes.
    """
    from matplotlib import rc_context  # takes a second to import

    with rc_context({"text.parse_math": False, "text.usetex": False}), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path.unlink(missing_ok=True)
        try:
            draw(path)
        except Exception as error:
            path.unlink(missing_ok=True)
            say(f"{path}: left out, as it could not be drawn: {error}", sys.stderr)
    return path.is_file()

"""python -m tests.commands: every command of the documents, those that take minutes too."""

import sys
import tempfile
import time
from pathlib import Path

from tests.commands.documents import DOCUMENTS
from tests.commands.place import Place
from tests.commands.walk import failures


def main() -> int:
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        with place.warm_python() as warm:
            for document in DOCUMENTS:
                started = time.perf_counter()
                for failure in failures(document, place, warm, long=True):
                    failed += 1
                    print(failure, flush=True)
                print(f"{document.name}: {time.perf_counter() - started:.0f} s", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())

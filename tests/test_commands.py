"""Every command of the README and of docs/ runs as it is written, at a small budget."""

import pytest

from tests.commands.documents import DOCUMENTS, scripts, typed
from tests.commands.place import Place
from tests.commands.table import EXCEPTIONS, PLACEHOLDERS
from tests.commands.walk import failures

WITH_COMMANDS = [path for path in DOCUMENTS if scripts(path.read_text(encoding="utf-8"))]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    return Place(tmp_path_factory.mktemp("reader"))


@pytest.fixture(scope="module")
def warm(place):
    with place.warm_python() as socket:
        yield socket


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("document", WITH_COMMANDS, ids=lambda path: path.name)
def test_commands_run_as_they_are_written(document, place, warm):
    assert list(failures(document, place, warm)) == []


def test_what_is_excepted_or_filled_in_is_there():
    """Nobody is excused for a command that is gone."""
    there = {
        (path.name, command)
        for path in WITH_COMMANDS
        for script in scripts(path.read_text(encoding="utf-8"))
        for command in typed(script.text)
    }
    assert EXCEPTIONS.keys() - there == set()
    unused = {(d, p) for d, p in PLACEHOLDERS if not any(d == n and p in c for n, c in there)}
    assert unused == set()


@pytest.mark.parametrize("document", WITH_COMMANDS, ids=lambda path: path.name)
def test_blocks_can_be_pasted(document):
    for script in scripts(document.read_text(encoding="utf-8")):
        assert "..." not in "\n".join(typed(script.text)), script

"""run.log has what was printed, from before its folder was there to the error at the end."""

import io

import pytest
from omegaconf import OmegaConf
from rich.progress import Progress

from harness.disk.files import LOG
from harness.errors import RunError
from harness.printable import say
from harness.reports.plain_console import PlainConsole, line
from harness.tracking import run_log

CFG = OmegaConf.create({"hub": {"api_key": "s3cret-value"}})


@pytest.fixture
def console(monkeypatch) -> PlainConsole:
    monkeypatch.setattr(run_log, "typed_overrides", lambda: ["algo=ppo", "policy='a b'"])
    return PlainConsole(file=io.StringIO(), width=30, force_terminal=True)


def test_the_log_is_what_was_printed_without_colours_bars_and_secrets(console, tmp_path, capsys):
    console.print(line(("early", "bold"), " and ", "long " * 15))
    with console.log.kept_in(tmp_path, CFG):
        with Progress(console=console, transient=True) as bar:
            bar.add_task("a bar", total=3)
            console.print("the key is s3cret-value \x1b[2J")
        console.quiet = True
        console.print("for the log alone")
        say("warning: past the console")
    say("after the run")
    console.print("after the run")
    text = (tmp_path / LOG).read_text(encoding="utf-8")
    head, *lines = text.splitlines()
    assert head.startswith("# began 20")
    assert head.endswith("""algo=ppo 'policy='"'"'a b'"'"''""")
    assert lines == [
        "early and " + ("long " * 15).strip(),
        r"the key is <secret> \x1b[2J",
        "for the log alone",
        "warning: past the console",
    ]
    assert "for the log alone" not in console.file.getvalue()
    assert "a bar" in console.file.getvalue()
    assert "warning" in capsys.readouterr().out


def test_a_resumed_run_goes_on_in_the_same_log_and_errors_end_it(console, tmp_path):
    for resumed, error in ((False, RunError("no more room")), (True, KeyError("a mistake"))):
        with (
            pytest.raises(type(error)),
            console.log.kept_in(tmp_path, CFG, resumed=resumed),
        ):
            raise error
    first, second, third, *rest = (tmp_path / LOG).read_text(encoding="utf-8").splitlines()
    assert first.startswith("# began")
    assert second == "error: no more room"
    assert third.startswith("# resumed")
    assert rest[0].startswith("Traceback")
    assert rest[-1] == "KeyError: 'a mistake'"


def test_a_log_that_cannot_be_written_ends_nothing(console, tmp_path):
    with console.log.kept_in(tmp_path / "not there", CFG):
        console.print("said")
    assert "said" in console.file.getvalue()

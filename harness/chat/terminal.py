"""The chat in a terminal, or between pipes: what is typed, answers as they are spoken, commands."""

import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext

from rich.console import Console

from harness.chat.talk import NothingSaid, Speaking, Talk
from harness.errors import USER_ERRORS
from harness.printable import printable
from harness.reports.console import say
from harness.reports.plain_console import NAME, line
from harness.signals import on_ctrl_c

ASKING = "you> "
GOES_ON = "...> "
HELP = (
    ("/again", "another answer to the same"),
    ("/other", "what the other policy says to the same (against=..., or the reference)"),
    ("/both", "the other's answer below each from now on, or no longer"),
    ("/good, /bad", "a vote on the last answer"),
    ("/better a|b|tie|neither", "which is better, the policy's (a) or the other's (b)"),
    ("/undo", "take the last question back, with its answer"),
    ("/reset", "begin anew"),
    ("/system <text>", "begin anew with this system message; without text: with none"),
    ("/temperature <number>", "of what is said from now on"),
    ("/quit", "end, as ctrl-d does; ctrl-c stops an answer"),
    ("//...", "what begins with a slash and is no command; \\ at the end: another line follows"),
)
BETTER = {"a": "first", "b": "second", "tie": "tie", "neither": "both_bad"}


class Terminal:
    """Leads a `talk` with whoever types, until there is no more."""

    def __init__(self, talk: Talk, console: Console):
        self.talk = talk
        self.console = console
        self.shows_both = False
        self.commands: dict[str, Callable[[str], None]] = {
            "/again": lambda _: self._voice(self.talk.again),
            "/other": lambda _: self._beside(),
            "/both": lambda _: self._both(),
            "/good": lambda _: self._note(self.talk.like(True)),
            "/bad": lambda _: self._note(self.talk.like(False)),
            "/better": self._better,
            "/undo": lambda _: self._note(f"taken back: {self.talk.undo()}"),
            "/reset": lambda _: self._reset("a new conversation"),
            "/system": self._system,
            "/temperature": self._temperature,
            "/help": lambda _: self._help(),
        }

    def run(self) -> None:
        """Read lines until the input ends, or /quit."""
        self._note("/help lists commands")
        for text in typed(self.console):
            if text.strip() in ("/quit", "/exit"):
                return
            if text.strip():
                self._do(text)

    def _do(self, text: str) -> None:
        word, _, rest = text.strip().partition(" ")
        try:
            if word.startswith("/") and not word.startswith("//"):
                known = self.commands.get(word)
                if known is None:
                    self._note(f"{word}: there is no such command; /help lists them")
                else:
                    known(rest.strip())
            else:
                said = text.removeprefix("/") if word.startswith("//") else text
                self._voice(lambda: self.talk.ask(said))
        except (*USER_ERRORS, NothingSaid) as error:
            self._note(str(error))

    def _voice(self, ask: Callable[[], Speaking]) -> None:
        went_on = self._hear(ask())
        if self.shows_both and went_on:
            self._beside()

    def _beside(self) -> None:
        self._hear(self.talk.beside())

    def _hear(self, speech: Speaking) -> bool:
        """Show an answer while it is spoken; False if ctrl-c has stopped it."""
        if speech.is_cut:
            what = f"the first {speech.left_out} messages" if speech.left_out else "the beginning"
            self._note(f"more than the model reads: {what} left out")
        stops: list[bool] = []
        self.console.print(line((f"{speech.name}>", NAME)), end=" ")
        # Between pipes there is nobody to go on with.
        stoppable = on_ctrl_c(lambda: stops.append(True)) if sys.stdin.isatty() else nullcontext()
        with stoppable:
            for piece in speech:
                sys.stdout.write(printable(piece, self.console.encoding))
                sys.stdout.flush()
                if stops:
                    break
        sys.stdout.write("\n")
        self.talk.heard(speech)
        if stops:
            self._note("stopped")
        elif not speech.stopped:
            self._note("cut at max_tokens")
        return not stops

    def _both(self) -> None:
        if not self.shows_both:
            self.talk.require_other()
        self.shows_both = not self.shows_both
        self._note("both answer from now on" if self.shows_both else "one answers from now on")

    def _better(self, which: str) -> None:
        if which not in BETTER:
            raise NothingSaid(f"/better {which}: say one of {', '.join(BETTER)}")
        self._note(self.talk.prefer(BETTER[which]))

    def _system(self, text: str) -> None:
        self.talk.system = text or None
        self._reset("a new conversation with this system message" if text else "no system message")

    def _reset(self, told: str) -> None:
        self.talk.reset()
        self._note(told)

    def _temperature(self, text: str) -> None:
        try:
            temperature = float(text)
        except ValueError:
            temperature = 0.0
        if not 0 < temperature < float("inf"):
            raise NothingSaid(f"/temperature {text}: give a number above 0")
        self.talk.set_temperature(temperature)
        self._note(f"temperature {temperature:g}")

    def _help(self) -> None:
        width = max(len(name) for name, _ in HELP)
        say(self.console, [f"  {name:{width}}  {what}" for name, what in HELP])

    def _note(self, text: str) -> None:
        self.console.print(f"  ({text})")


def typed(console: Console) -> Iterator[str]:
    """What is typed, or comes through a pipe: a line, or several of which all but the last end with
    a backslash. On a terminal ctrl-c drops the line, and ctrl-d ends.
    """
    begun: list[str] = []
    while True:
        try:
            text = _line(GOES_ON if begun else ASKING)
        except EOFError:
            if sys.stdin.isatty():
                console.print()  # what follows begins a line
            if begun:
                yield "\n".join(begun)
            return
        except KeyboardInterrupt:
            begun.clear()
            console.print("\n  (ctrl-d or /quit ends)")
            continue
        if text.endswith("\\"):
            begun.append(text[:-1])
            continue
        yield "\n".join([*begun, text])
        begun.clear()


def _line(prompt: str) -> str:
    """The next line. EOFError at the end, KeyboardInterrupt for ctrl-c on a terminal."""
    if not sys.stdin.isatty():
        text = sys.stdin.readline()
        if not text:
            raise EOFError
    else:
        import readline  # noqa: F401  so that lines can be edited, and come back

        with on_ctrl_c(_interrupt):
            text = input(prompt)
    # Bytes that are no text, as a pipe may bring them.
    return text.rstrip("\r\n").encode("utf-8", "replace").decode()


def _interrupt() -> None:
    raise KeyboardInterrupt

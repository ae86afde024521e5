"""A console that prints texts as they are: nothing in them is markup, and nothing steers it."""

import io
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, NewLine, RenderableType
from rich.control import Control
from rich.segment import Segment
from rich.text import Text
from rich.theme import Theme

from harness.printable import printable
from harness.tracking.run_log import RunLog
from harness.wrapping import line_starts

USUAL = 110  # columns of what is no terminal
WARNINGS = ("warning:", "caution:")
# The styles of parts of a line that are never broken: a name, bold; a path or a command, plain.
NAME, WHOLE = "name", "whole"
STYLES = Theme({NAME: "bold", WHOLE: "none"})


class PlainConsole(Console):
    """rich's console for texts that are not the program's own, in tables and titles too.

    Brackets and :names: are no markup; control characters, and what the stream's encoding lacks,
    become escapes before widths are measured. Lines are broken between words. Bold is for `Text`,
    see `line`. What is printed goes into its `log` as well, also where the console is `quiet`; of
    a `terse` one only bars and what `tell` is given are shown, and `warnings` are counted.
    """

    def __init__(self, *, terse: bool = False, **options: Any):
        super().__init__(markup=False, emoji=False, highlight=False, theme=STYLES, **options)
        self.terse = terse
        self.warnings = 0
        self.log = RunLog()

    def print(self, *objects: Any, **options: Any) -> None:
        """Bars and the cursor are for the terminal alone."""
        is_bar = bool(objects) and all(isinstance(o, Control | NewLine) for o in objects)
        if is_bar or not self.terse:
            self._print(objects, options)
        if not is_bar:
            self.warnings += any(str(o).lstrip().lower().startswith(WARNINGS) for o in objects)
            self._log(objects, options)

    def tell(self, *objects: Any, **options: Any) -> None:
        """Print what a terse console shows too."""
        self._print(objects, options)
        self._log(objects, options)

    def _log(self, objects: tuple[Any, ...], options: dict[str, Any]) -> None:
        page = PlainConsole(
            file=io.StringIO(), width=USUAL, force_terminal=False, color_system=None
        )
        page._print(objects, options)
        self.log.add(page.file.getvalue())

    def _print(self, objects: tuple[Any, ...], options: dict[str, Any]) -> None:
        if objects and all(isinstance(part, str | Text) for part in objects):
            parts = [self.render_str(part) if isinstance(part, str) else part for part in objects]
            text = Text(options.get("sep", " ")).join(parts)
            super().print(wrapped_text(text, self.width), **(options | {"soft_wrap": True}))
        else:
            super().print(*objects, **({"crop": False} | options))

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text, self.encoding), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """What `Text` and others hold that never was a plain string here comes through this."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield segment._replace(text=printable(segment.text, self.encoding))


def line(*parts: object) -> Text:
    """A line of texts, those of a pair (text, style) in their style."""
    split = [part if isinstance(part, tuple) else (part, "") for part in parts]
    return Text.assemble(*((printable(str(text)), style) for text, style in split))


def wrapped_text(text: Text, width: int, hang: int | None = None) -> Text:
    """The text on lines that are broken between words, or else longer than `width`; those after the
    first are indented by `hang` columns.
    """
    lines = []
    for unbroken in text.split("\n", allow_blank=True):
        unbroken.expand_tabs(8)
        kept = [(span.start, span.end) for span in unbroken.spans if span.style in (NAME, WHOLE)]
        starts, indent = line_starts(unbroken.plain, width, kept, hang)
        parts = unbroken.divide(starts[1:])
        for part in parts:
            part.rstrip()
        lines.append(Text(f"\n{' ' * indent}").join(parts))
    return Text("\n").join(lines)

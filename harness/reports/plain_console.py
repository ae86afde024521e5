"""A console that prints texts as they are: nothing in them is markup, and nothing steers it."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from harness.printable import printable


class PlainConsole(Console):
    """rich's console for texts that are not the program's own, in tables and titles too.

    Brackets and :names: are no markup; control characters, and what the stream's encoding lacks,
    become escapes before widths are measured. Bold is for `Text`, see `line`.
    """

    def __init__(self, **options: Any):
        super().__init__(markup=False, emoji=False, highlight=False, **options)

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


def line(*parts: str | tuple[str, str]) -> Text:
    """A line of texts, those of a pair (text, style) in their style."""
    split = [part if isinstance(part, tuple) else (part, "") for part in parts]
    return Text.assemble(*((printable(str(text)), style) for text, style in split))

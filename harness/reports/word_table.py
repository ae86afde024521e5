"""Tables in which no word and no number is broken, however narrow the terminal."""

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from harness.reports.plain_console import NAME, wrapped_text


class WordTable(Table):
    """rich's table with columns as wide as their longest word and as their `min_width`; where there
    is no room for that, a line for each cell. The title is above it, from the left.
    """

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        title, self.title = self.title, None
        if title:
            yield _lines(_text(console, title, "table.title"), options.max_width)
        widths = self._widths(console, options)
        if widths is None:
            yield from self._records(console, options.max_width)
        else:
            for column, width in zip(self.columns, widths, strict=True):
                column.width = width
            yield from super().__rich_console__(console, options)
        self.title = title

    def _widths(self, console: Console, options: ConsoleOptions) -> list[int] | None:
        """Of each column: its words' at least and its lines' at most, else as even as can be."""
        around = [self._get_padding_width(place) for place in range(len(self.columns))]
        room = options.max_width - self._extra_width - sum(around)
        ranges = [self._range(console, options, place) for place in range(len(self.columns))]
        for level in range(max(room, 0), 0, -1):
            widths = [min(most, max(level, least)) for least, most in ranges]
            if sum(widths) <= room:
                return widths
        return None

    def _range(self, console: Console, options: ConsoleOptions, place: int) -> tuple[int, int]:
        column = self.columns[place]
        cells = [*column.cells, column.header] if self.show_header else [*column.cells]
        sizes = [Measurement.get(console, options, cell) for cell in cells]
        least = max(size.minimum for size in sizes)
        most = max(size.maximum for size in sizes)
        return min(most, max(least, column.min_width or 0)), most

    def _records(self, console: Console, width: int) -> RenderResult:
        """A line for each cell, behind the name of its column; the cells of a column without a name
        head those beside it.
        """
        named = [bool(_text(console, column.header).plain) for column in self.columns]
        if not any(named):
            named = [place > 0 for place in range(len(self.columns))]
        headers = [_text(console, column.header) for column in self.columns]
        label = max(header.cell_len for header in headers)
        for number, row in enumerate(zip(*(c.cells for c in self.columns), strict=True)):
            if number and len(self.columns) > 2:
                yield Text("")
            for name, is_named, cell in zip(headers, named, row, strict=True):
                text = _text(console, cell)
                if not is_named:
                    yield _lines(Text.assemble((text.plain, NAME)), width)
                else:
                    yield _record(name, label, text, width)


def _record(name: Text, label: int, text: Text, width: int) -> Text:
    """`name  text`, the lines of the text below each other where there is room beside the name."""
    before = f"  {name.plain}{' ' * (label - name.cell_len)}  " if label else "  "
    longest = max(map(cell_len, text.plain.split()), default=0)
    fits = cell_len(before) <= width // 2 and cell_len(before) + longest <= width
    hang = cell_len(before) if fits else 4
    parts = text.split("\n", allow_blank=True)
    return _lines(Text(before).append_text(Text(f"\n{' ' * hang}").join(parts)), width, hang)


def _text(console: Console, cell: object, style: str = "") -> Text:
    return console.render_str(cell, style=style) if isinstance(cell, str) else cell


def _lines(text: Text, width: int, hang: int | None = None) -> Text:
    text = wrapped_text(text, width, hang)
    text.no_wrap, text.overflow = True, "ignore"
    return text

"""A document of headings, texts, tables and pictures, as Markdown and as one HTML file."""

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.printable import printable
from harness.reports.markdown import fenced, one_line

STYLE = Path(__file__).with_name("page.css")
NARROW = "(max-width: 40rem)"  # screens of phones, as in page.css
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
INTERVAL = re.compile(r" (\[-?[\d.,]+, -?[\d.,]+\]|\(no interval\))")


@dataclass(frozen=True)
class Heading:
    text: str


@dataclass(frozen=True)
class Text:
    text: str


@dataclass(frozen=True)
class Note:
    """How to read something: on a page it is folded up below `about`."""

    about: str
    text: str


@dataclass(frozen=True)
class Facts:
    """What something is called, and what it is: a line each."""

    items: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Commands:
    """Command lines, to be copied."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Warnings:
    """Sentences that a reader must not miss, at least one."""

    items: Sequence[str]


@dataclass(frozen=True)
class Grid:
    """A table; every row has as many cells as the header. `foot`: rows that are held against the
    others.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    foot: Sequence[Sequence[str]] = ()


@dataclass(frozen=True)
class Answer:
    """What one of several says, and what that is worth."""

    name: str
    text: str
    worth: str


@dataclass(frozen=True)
class Asked:
    """A prompt and the answers to it, side by side."""

    prompt: str
    answers: Sequence[Answer]


@dataclass(frozen=True)
class Picture:
    """A PNG file and what it shows; `narrow`: the same for narrow screens, in HTML alone."""

    path: Path
    shows: str
    narrow: Path | None = None


Block = Heading | Text | Note | Facts | Commands | Warnings | Grid | Asked | Picture


def to_markdown(title: str, blocks: Sequence[Block]) -> str:
    """The document as Markdown; pictures are named relative to it, beside it."""
    return "\n\n".join([f"# {one_line(title)}", *map(markdown, blocks)]) + "\n"


def markdown(block: Block) -> str:
    """One block as Markdown."""
    match block:
        case Heading(text):
            return f"## {one_line(text)}"
        case Text(text):
            return one_line(text)
        case Note(about, text):
            return f"*{one_line(about)}.* {one_line(text)}"
        case Facts(items):
            return "\n".join(f"- {one_line(name)}: {one_line(text)}" for name, text in items)
        case Commands(lines):
            return fenced(printable("\n".join(lines)), "bash")
        case Warnings(items):
            return "\n".join(f"- {one_line(item)}" for item in items)
        case Grid(header, rows, foot):
            lines = [_row(header), "|" + "---|" * len(header), *map(_row, [*rows, *foot])]
            return "\n".join(lines)
        case Asked(prompt, answers):
            cells = [(a.name, a.text, a.worth) for a in answers]
            return f"> {one_line(prompt)}\n\n{markdown(Grid(('', 'answer', 'worth'), cells))}"
        case Picture(path, shows, _):
            return f"![{one_line(shows)}]({path.name})"


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """The document as one HTML page: nothing outside of it is loaded, and nothing in it runs."""
    name = _plain(title)
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{name}</title><style>{STYLE.read_text(encoding='utf-8')}</style></head><body>",
            f"<h1>{name}</h1>",
            *map(_html, blocks),
            "</body></html>\n",
        ]
    )


def _html(block: Block) -> str:
    match block:
        case Heading(text):
            return f"<h2>{_plain(text)}</h2>"
        case Text(text):
            return f"<p>{_plain(text)}</p>"
        case Note(about, text):
            summary = f"<summary>{_plain(about)}</summary>"
            return f"<details>{summary}<p>{_plain(text)}</p></details>"
        case Facts(items):
            pairs = (f"<dt>{_plain(name)}</dt><dd>{_plain(text)}</dd>" for name, text in items)
            return f"<dl>{''.join(pairs)}</dl>"
        case Commands(lines):
            text = _plain("\n".join(lines))
            return f"<pre>{text}</pre>"
        case Warnings(items):
            lines = "".join(f"<li>{_plain(item)}</li>" for item in items)
            return f'<ul class="warnings">{lines}</ul>'
        case Grid():
            return _html_table(block)
        case Asked():
            return _html_answers(block)
        case Picture():
            return _html_picture(block)


def _html_table(grid: Grid) -> str:
    head = "".join(f"<th>{_plain(cell)}</th>" for cell in grid.header)
    body, foot = (
        "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
        for rows in (grid.rows, grid.foot)
    )
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody><tfoot>{foot}</tfoot></table></div>"
    )


def _cell(text: str) -> str:
    """A cell; an interval is below its number."""
    text = INTERVAL.sub(r" <small>\1</small>", _plain(text))
    return f"<td>{text}</td>"


def _html_answers(asked: Asked) -> str:
    answers = "".join(
        f"<div><b>{_plain(a.name)}</b><p>{_plain(a.text)}</p><small>{_plain(a.worth)}</small></div>"
        for a in asked.answers
    )
    return (
        f'<section><p class="prompt">{_plain(asked.prompt)}</p>'
        f'<div class="answers">{answers}</div></section>'
    )


def _html_picture(picture: Picture) -> str:
    narrow = ""
    if picture.narrow:
        narrow = f'<source media="{NARROW}" srcset="{_data(picture.narrow)}">'
    alternative = _plain(picture.shows)
    return f'<picture>{narrow}<img alt="{alternative}" src="{_data(picture.path)}"></picture>'


def _data(png: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(png.read_bytes()).decode()}"


def _plain(text: str) -> str:
    """A text within HTML."""
    return html.escape(printable(text))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(one_line, cells))} |"

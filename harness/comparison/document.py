"""A document of headings, texts, tables and pictures, as Markdown and as one HTML file."""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.printable import printable
from harness.reports.markdown import one_line

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 66rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.7rem; } h2 { font-size: 1.25rem; margin-top: 2.2rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 0.87rem; }
th, td { padding: 0.3rem 0.7rem; text-align: left; border-bottom: 1px solid #ddd;
  vertical-align: top; }
th { border-bottom: 2px solid #888; } td { font-variant-numeric: tabular-nums; }
img { max-width: 100%; } .warnings { background: #fff6e0; border-left: 4px solid #e0a000;
  padding: 0.6rem 0.6rem 0.6rem 2rem; }
"""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Heading:
    text: str


@dataclass(frozen=True)
class Text:
    text: str


@dataclass(frozen=True)
class Warnings:
    """Sentences that a reader must not miss, at least one."""

    items: Sequence[str]


@dataclass(frozen=True)
class Grid:
    """A table; every row has as many cells as the header."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """A PNG file and what it shows."""

    path: Path
    shows: str


Block = Heading | Text | Warnings | Grid | Picture


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
        case Warnings(items):
            return "\n".join(f"- {one_line(item)}" for item in items)
        case Grid(header, rows):
            lines = [_row(header), "|" + "---|" * len(header), *map(_row, rows)]
            return "\n".join(lines)
        case Picture(path, shows):
            return f"![{one_line(shows)}]({path.name})"


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """The document as one HTML page: nothing outside of it is loaded, and nothing in it runs."""
    name = _plain(title)
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{name}</title><style>{STYLE}</style></head><body>",
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
        case Warnings(items):
            lines = "".join(f"<li>{_plain(item)}</li>" for item in items)
            return f'<ul class="warnings">{lines}</ul>'
        case Grid(header, rows):
            head = "".join(f"<th>{_plain(cell)}</th>" for cell in header)
            lines = ("".join(f"<td>{_plain(cell)}</td>" for cell in row) for row in rows)
            body = "\n".join(f"<tr>{line}</tr>" for line in lines)
            return (
                f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n'
                f"<tbody>{body}</tbody></table></div>"
            )
        case Picture(path, shows):
            data = base64.b64encode(path.read_bytes()).decode()
            return f'<img alt="{_plain(shows)}" src="data:image/png;base64,{data}">'


def _plain(text: str) -> str:
    """A text within HTML."""
    return html.escape(printable(text))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(one_line, cells))} |"

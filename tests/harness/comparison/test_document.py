"""A page holds foreign names as texts, in Markdown and in HTML."""

from html.parser import HTMLParser

import pytest

from harness.comparison.document import (
    Answer,
    Asked,
    Commands,
    Facts,
    Grid,
    Heading,
    Note,
    Text,
    Warnings,
    to_html,
    to_markdown,
)

NAMES = (
    "<script>alert(1)</script>",
    "a|b\n\n# c",
    "$x^{$",
    '"><img src=x>',
    "\x1b[31m\u202e\udce9\0",
    "&lt; ``` * _",
)


def blocks(name: str) -> list:
    grid = Grid((name, "b"), [(name, name), ("c", "d")], [(name, "e")])
    asked = Asked(name, [Answer(name, name, name)])
    texts = [Heading(name), Text(name), Note(name, name), Warnings([name])]
    return [*texts, Facts([(name, name)]), Commands([name.replace("\n", " ")]), grid, asked]


class Reader(HTMLParser):
    """Tags and texts of a page, as a browser reads them."""

    def __init__(self, page: str):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)

    def handle_data(self, data):
        self.texts.append(data)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_changes_no_page(name):
    page, plain = to_html(name, blocks(name)), to_html("name", blocks("name"))
    page.encode()
    assert Reader(page).tags == Reader(plain).tags
    lines = to_markdown(name, blocks(name)).splitlines()
    assert len(lines) == len(to_markdown("name", blocks("name")).splitlines())
    assert not any(c for c in page if not c.isprintable() and c != "\n")


def test_a_browser_shows_the_name_itself():
    name = "<b> & $x^{$ [/INST] ünï"
    assert Reader(to_html(name, blocks(name))).texts.count(name) == 18

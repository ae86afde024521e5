"""What models write becomes HTML that shows it and does nothing."""

import time
from html.parser import HTMLParser

import pytest

from harness.web.texts import LONGEST, markdown, plain

HOSTILE = (
    '<script>alert("x")</script>',
    '<img src=x onerror="alert(1)">',
    "[a](javascript:alert(1))",
    "[a](data:text/html,<script>alert(1)</script>)",
    '![a](x" onerror="alert(1))',
    '```"><script>alert(1)</script>\ncode\n```',
    "```python onload=alert(1)\n</code></pre><script>alert(1)</script>\n```",
    "<svg/onload=alert(1)>",
    "&lt;script&gt;",
    '[x]: http://e.example "title\\"><script>"\n\n[x]',
    "| a |\n|--|\n| <iframe src=//e.example></iframe> |",
    "</pre></div></main><form action=/vote>",
)

ELEMENTS = {"p", "pre", "code", "span", "a", "div", "br"}
ELEMENTS |= {"table", "thead", "tbody", "tr", "th", "td"}


class Harmless(HTMLParser):
    """Fails at an element or an attribute that could do something."""

    def handle_starttag(self, tag, attributes):
        assert tag in ELEMENTS
        assert {name for name, _ in attributes} <= {"class", "href", "rel", "target", "title"}
        for name, value in attributes:
            assert name != "href" or value.startswith(("http://", "x%22"))


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("shown", [markdown, plain])
def test_nothing_that_was_written_becomes_an_element_that_acts(text, shown):
    Harmless().feed(str(shown(text)))


def test_markdown_and_code_are_readable():
    html = str(
        markdown("**bold** and\na line\n\n```python\ndef f(): pass\n```\n\n|a|b|\n|-|-:|\n|1|2|")
    )
    assert "<strong>bold</strong> and<br>" in html
    assert '<span class="k">def</span>' in html
    assert '<div class="wide"><table>' in html
    assert '<td class="right">2</td>' in html
    assert "style=" not in html


@pytest.mark.parametrize(
    "text", ["x" * 100_000, "[" * LONGEST, "*a " * 5_000, "> " * 2_000 + "a", "a\n" * 9_000]
)
def test_long_and_nested_texts_take_no_time_and_lose_nothing(text):
    began = time.process_time()
    html = str(markdown(text))
    assert time.process_time() - began < 10
    last = text.strip()[-1]
    assert html.count(last) >= text.count(last)
    if len(text) > LONGEST:
        assert html == f'<pre class="plain">{text}</pre>'

"""What people and models wrote, as HTML that shows it and does nothing: Markdown, code or plain."""

from functools import lru_cache

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from markupsafe import Markup, escape
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

# Characters above which a text is shown as it is, and its code without colours: what a parser
# makes of very long ones takes seconds, and nobody reads it.
LONGEST = 16_000
LONGEST_CODE = 20_000


@lru_cache(maxsize=256)
def markdown(text: str) -> Markup:
    """The text as Markdown. HTML in it stands there as text, pictures are links, and links leave
    nothing behind of where they were opened.
    """
    if len(text) > LONGEST:
        return plain(text)
    try:
        return Markup(PARSER.render(text))
    except (RecursionError, IndexError):  # nested without end
        return plain(text)


def plain(text: str) -> Markup:
    """The text as it was written."""
    return Markup('<pre class="plain">{}</pre>').format(text)


class Renderer(RendererHTML):
    """As the library writes HTML, but for tables, which scroll by themselves, and links."""

    def table_open(self, tokens: list[Token], i: int, options: OptionsDict, env: EnvType) -> str:
        return f'<div class="wide">{self.renderToken(tokens, i, options, env)}'

    def table_close(self, tokens: list[Token], i: int, options: OptionsDict, env: EnvType) -> str:
        return f"{self.renderToken(tokens, i, options, env)}</div>"

    def td_open(self, tokens: list[Token], i: int, options: OptionsDict, env: EnvType) -> str:
        # The page's policy lets no style stand in it.
        if style := tokens[i].attrs.pop("style", None):
            tokens[i].attrSet("class", str(style).removeprefix("text-align:"))
        return self.renderToken(tokens, i, options, env)

    th_open = td_open

    def link_open(self, tokens: list[Token], i: int, options: OptionsDict, env: EnvType) -> str:
        tokens[i].attrSet("rel", "noopener noreferrer nofollow")
        tokens[i].attrSet("target", "_blank")
        tokens[i].attrSet("title", str(tokens[i].attrGet("href")))
        return self.renderToken(tokens, i, options, env)


def _coloured(code: str, language: str, attributes: str) -> str:
    """Code with its words in spans, or "" where its language is not known."""
    if not language or len(code) > LONGEST_CODE:
        return str(escape(code))
    try:
        return highlight(code, get_lexer_by_name(language), HtmlFormatter(nowrap=True))
    except ClassNotFound:
        return str(escape(code))


PARSER = MarkdownIt(
    "js-default",
    # What is nested deeper than this the library leaves out without a word.
    {"html": False, "breaks": True, "highlight": _coloured, "maxNesting": LONGEST},
    renderer_cls=Renderer,
).disable("image")

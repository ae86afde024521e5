"""Pages from the templates of this folder, and the files that they load."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from starlette.responses import HTMLResponse
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from harness.web.texts import markdown, plain

HERE = Path(__file__).parent
# All that a template writes is escaped, whatever the file is called.
TEMPLATES = Environment(loader=FileSystemLoader(HERE / "templates"), autoescape=True)
TEMPLATES.filters |= {"markdown": markdown, "plain": plain}
TEMPLATES.trim_blocks = TEMPLATES.lstrip_blocks = True


def static() -> Mount:
    """The route of styles and scripts."""
    return Mount("/static", StaticFiles(directory=HERE / "static"))


def part(template: str, **values: Any) -> Markup:
    """A piece of a page."""
    return Markup(TEMPLATES.get_template(template).render(values))


def page(template: str, **values: Any) -> HTMLResponse:
    """A whole page."""
    return HTMLResponse(part(template, **values))

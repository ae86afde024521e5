"""Who sits in front of a page: a name that the browser remembers."""

import unicodedata
from urllib.parse import parse_qs, quote, unquote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

COOKIE = "rlhf_ladder_annotator"
LONGEST = 60
REMEMBERED = 400 * 24 * 3600  # seconds; browsers keep none for longer


def tidied(name: str) -> str:
    """A name as it is kept: without control characters and doubled spaces; "" if nothing is left.

    Two ways to write one letter are one name.
    """
    plain = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in name)
    return unicodedata.normalize("NFC", " ".join(plain.split()))[:LONGEST].strip()


def annotator(request: Request) -> str:
    """The name that came with a request, or ""."""
    return tidied(unquote(request.cookies.get(COOKIE, "")))


async def set_name(request: Request) -> Response:
    """Remember the name of a form, an empty one being forgotten, and show the page."""
    sent = parse_qs((await request.body()).decode("utf-8", "replace"))
    name = tidied(sent.get("name", [""])[0])
    answer = RedirectResponse("/", 303)
    if name:
        answer.set_cookie(COOKIE, quote(name), max_age=REMEMBERED, httponly=True, samesite="strict")
    else:
        answer.delete_cookie(COOKIE)
    return answer

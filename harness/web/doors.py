"""Who may open a page: this machine's user or, from elsewhere, who has the token.

Other pages in the same browser are kept out as well: by the name under which this one was asked for
(a foreign name may be made to lead here), and by the page from which something was sent.
"""

import ipaddress
import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "rlhf_ladder_token"
MOST_BYTES = 1_000_000  # of what is sent to a page
# Nothing is loaded from elsewhere, and nothing that stands in a page is run.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = (
    ("Content-Security-Policy", POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)


def is_this_machine(host: str) -> bool:
    """Whether a host's name or address can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Doors:
    """Lets through to `app` who may. Without a `token` that is who asks this machine by a name of
    its own; with one, who has brought it once (`/?token=...`) and keeps it as a cookie.
    """

    def __init__(self, app: ASGIApp, token: str | None):
        self.app = app
        self.token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.lower().encode(), value.encode()) for name, value in HEADERS]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        if scope["type"] != "http":
            return
        answer = self._refusal(scope) or self.app
        await answer(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = urlsplit(f"//{headers.get('host', '')}")
        if self.token is None and not is_this_machine(host.hostname or ""):
            return _refused("this page is for its own machine: open it as http://127.0.0.1", 421)
        origin = headers.get("origin")
        if scope["method"] not in ("GET", "HEAD"):
            if origin is not None and urlsplit(origin).netloc != host.netloc:
                return _refused("sent from another page", 403)
            if int(headers.get("content-length") or MOST_BYTES + 1) > MOST_BYTES:
                return _refused("more than a page may send, or it is not said how much", 413)
        return None if self.token is None else self._without_token(scope, headers)

    def _without_token(self, scope: Scope, headers: Headers) -> Response | None:
        """What is said to who has no token; who brings it is sent to the page without it, so that
        it stands in no address and no history.
        """
        if self._is_token(_cookie(headers)):
            return None
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        if not self._is_token(query.pop("token", "")):
            return _refused("open the address that was printed where this page was started", 401)
        there = f"{scope['path']}?{urlencode(query)}" if query else scope["path"]
        answer = RedirectResponse(there, 303)
        answer.set_cookie(COOKIE, self.token or "", httponly=True, samesite="lax")
        return answer

    def _is_token(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), (self.token or "").encode())


def _cookie(headers: Headers) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def _refused(why: str, status: int) -> Response:
    return PlainTextResponse(f"{why}\n", status)

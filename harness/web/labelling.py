"""The page on which people compare, rank or like answers."""

from collections.abc import Callable
from typing import Any

from markupsafe import Markup
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from harness.durations import roughly
from harness.errors import RunError
from harness.feedback.items import ChoiceError
from harness.feedback.store import Progress, Store
from harness.web.annotators import annotator, set_name
from harness.web.pages import page, part, static

LATE = "Not counted: this item had been given to somebody else after a while."
UNDONE = {
    "held": "",
    "nothing": "There is nothing to take back.",
    "taken": "Taken back; somebody else has been given that item meanwhile.",
}
LONG = 6_000  # characters above which an answer scrolls in a box of its own

Asked = dict[str, Any]


class Labelling:
    """Shows what `store` asks next and keeps what is said; `instructions` stand above each item."""

    def __init__(self, store: Store, instructions: str | None = None):
        self.store = store
        self.instructions = instructions

    def app(self) -> Starlette:
        """The page alone, as a whole site."""
        return Starlette(routes=[*self.routes(), static()])

    def routes(self) -> list[Route]:
        return [
            Route("/", self.show),
            Route("/name", set_name, methods=["POST"]),
            Route("/vote", self._answering(self.vote), methods=["POST"]),
            Route("/undo", self._answering(self.undo), methods=["POST"]),
            Route("/next", self._answering(self.next), methods=["POST"]),
        ]

    def show(self, request: Request) -> Response:
        """The whole page: the next item or, to who has no name yet, the question for it."""
        name = annotator(request)
        return page("label.html", annotator=name, card=self.card(name) if name else None)

    def next(self, name: str, asked: Asked) -> str:
        """Only see what there is."""
        return ""

    def vote(self, name: str, asked: Asked) -> str:
        """Keep a vote that speaks of the answers in the order in which they were shown."""
        showing = self.store.showing(str(asked["item"]), name)
        if showing is None:
            raise ChoiceError("this item was not shown to you")
        seconds = asked.get("seconds")
        outcome = self.store.vote(
            showing.item.id,
            name,
            showing.item.in_own_order(str(asked["choice"]), showing.order),
            None if seconds is None else float(seconds),
        )
        return LATE if outcome == "late" else ""

    def undo(self, name: str, asked: Asked) -> str:
        """Take the last vote back."""
        return UNDONE[self.store.undo(name)]

    def card(self, name: str) -> Markup:
        """What this annotator is asked now, and how far all are."""
        showing = self.store.next(name)
        progress = self.store.progress(name)
        return part(
            "card.html",
            showing=showing,
            progress=progress,
            left=_left(progress),
            instructions=self.instructions,
            long=LONG,
        )

    def _answering(self, act: Callable[[str, Asked], str]) -> Callable:
        """A route that does something for an annotator and answers with the next card and what is
        to be said.
        """

        def acted(name: str, asked: Asked) -> Response:
            try:
                said = act(name, asked)
                return JSONResponse({"said": said, "card": self.card(name)})
            except RunError as error:  # of the disk: the page sends it again
                return _said(str(error), 503)
            except (KeyError, TypeError, ValueError) as error:
                return _said(str(error), 400)

        async def answer(request: Request) -> Response:
            if not (name := annotator(request)):
                return _said("no name was given yet", 409)
            try:
                asked = await request.json()
            except ValueError:
                asked = None
            if not isinstance(asked, dict):
                return _said("no JSON object was sent", 400)
            return await run_in_threadpool(acted, name, asked)

        return answer


def _said(what: str, status: int) -> Response:
    return JSONResponse({"said": what}, status)


def _left(progress: Progress) -> str | None:
    """About how long it will take, in words."""
    if progress.seconds_left is None or progress.labels >= progress.wanted:
        return None
    return roughly(max(60.0, progress.seconds_left))

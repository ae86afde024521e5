"""The page on which one talks to a policy: answers as they are spoken, votes on them."""

import asyncio
import json
import secrets
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from rich.console import Console
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from harness.chat.talk import NothingSaid, Speaking, Talk
from harness.errors import USER_ERRORS, RunError
from harness.feedback.items import Item
from harness.feedback.store import Store
from harness.reports.console import say
from harness.web.annotators import annotator, set_name
from harness.web.doors import is_this_machine
from harness.web.pages import page, part, static
from harness.web.server import serving

COOKIE = "rlhf_ladder_talk"
MOST = 64  # conversations that are kept
VOTES: dict[str, Callable[[Talk], str]] = {
    "up": lambda talk: talk.like(True),
    "down": lambda talk: talk.like(False),
    **{
        choice: lambda talk, choice=choice: talk.prefer(choice)
        for choice in ("first", "second", "tie", "both_bad")
    },
}
TAKEN_BACK = "Removed; your vote on its answer is taken back."
STAYS = "Removed. A vote on its answer stays: you have voted on something else since."
Event = dict[str, Any]


@dataclass
class Session:
    """The conversation of one browser; `stops`: nobody wants to hear more of the answer in hand."""

    talk: Talk
    stops: bool = False


class Talking:
    """Lets each browser talk with the same policies. `begin` makes a conversation for an annotator,
    whose name is `me` on this machine, unless the browser has one; others are asked for theirs.
    """

    def __init__(self, begin: Callable[[str], Talk], me: str):
        self.begin = begin
        self.me = me
        self.sessions: OrderedDict[str, Session] = OrderedDict()
        self.one_at_a_time = threading.Lock()

    def app(self) -> Starlette:
        """The page alone, as a whole site."""
        acts = {
            "/vote": self.vote,
            "/remove": lambda talk, asked: remove(talk),
            "/reset": lambda talk, asked: talk.reset() or "",
            "/system": self.system,
        }
        speaks = {
            "/say": lambda talk, asked: talk.ask(str(asked["text"])),
            "/again": lambda talk, asked: talk.again(),
            "/other": lambda talk, asked: talk.beside(),
        }
        return Starlette(
            routes=[
                Route("/", self.show),
                Route("/name", set_name, methods=["POST"]),
                Route("/stop", self.stop, methods=["POST"]),
                *(Route(path, self._acting(act), methods=["POST"]) for path, act in acts.items()),
                *(
                    Route(path, self._speaking(speak), methods=["POST"])
                    for path, speak in speaks.items()
                ),
                static(),
            ]
        )

    def show(self, request: Request) -> Response:
        """The whole page: the conversation so far or, to who has no name, the question for it."""
        given = annotator(request)
        name = given or (self.me if is_this_machine(request.url.hostname or "") else "")
        if not name:
            return page("chat.html", talk=None)
        key = request.cookies.get(COOKIE, "")
        if key not in self.sessions:
            key = secrets.token_urlsafe(16)
            self.sessions[key] = Session(self.begin(name))
            while len(self.sessions) > MOST:
                self.sessions.popitem(last=False)[1].stops = True
        talk = self.sessions[key].talk
        talk.votes.annotator = name
        answer = page("chat.html", talk=talk, turns=turns(talk), given=given)
        answer.set_cookie(COOKIE, key, httponly=True, samesite="strict")
        return answer

    async def stop(self, request: Request) -> Response:
        """End the answer in hand."""
        if session := self._session(request):
            session.stops = True
        return JSONResponse({})

    def close(self) -> None:
        """End all answers."""
        for session in self.sessions.values():
            session.stops = True

    def vote(self, talk: Talk, asked: Event) -> str:
        return VOTES[str(asked["choice"])](talk)

    def system(self, talk: Talk, asked: Event) -> str:
        """Begin anew with another system message."""
        talk.reset()
        talk.system = str(asked["text"]).strip() or None
        return ""

    def _session(self, request: Request) -> Session | None:
        return self.sessions.get(request.cookies.get(COOKIE, ""))

    def _acting(self, act: Callable[[Talk, Event], str]) -> Callable:
        """A route that changes a conversation and answers with it, and what is to be said."""

        def acted(session: Session, asked: Event) -> Response:
            with self.one_at_a_time:
                said = _told(lambda: act(session.talk, asked))
            return JSONResponse({"said": said, "turns": turns(session.talk)})

        async def answer(request: Request) -> Response:
            session = self._session(request)
            if session is None:
                return JSONResponse({"said": "this conversation is gone; load the page anew"}, 409)
            return await run_in_threadpool(acted, session, await _sent(request))

        return answer

    def _speaking(self, speak: Callable[[Talk, Event], Speaking]) -> Callable:
        """A route that answers with events (server-sent ones): pieces of text, then the whole."""

        async def answer(request: Request) -> Response:
            session = self._session(request)
            if session is None:
                return JSONResponse({"said": "this conversation is gone; load the page anew"}, 409)
            asked = await _sent(request)
            return StreamingResponse(
                self._events(session, lambda talk: speak(talk, asked)),
                media_type="text/event-stream",
            )

        return answer

    async def _events(
        self, session: Session, speak: Callable[[Talk], Speaking]
    ) -> AsyncIterator[str]:
        loop, told = asyncio.get_running_loop(), asyncio.Queue()
        session.stops = False

        def tell(event: Event | None) -> None:
            loop.call_soon_threadsafe(told.put_nowait, event)

        threading.Thread(target=self._speak, args=(session, speak, tell), daemon=True).start()
        try:
            while (event := await told.get()) is not None:
                yield f"data: {json.dumps(event)}\n\n"
        finally:  # also where the browser has gone
            session.stops = True

    def _speak(
        self,
        session: Session,
        speak: Callable[[Talk], Speaking],
        tell: Callable[[Event | None], None],
    ) -> None:
        """Draw an answer and tell of it; one at a time, as they share the models."""

        def spoken() -> str:
            speech = speak(session.talk)
            for piece in speech:
                tell({"piece": piece})
                if session.stops:
                    break
            session.talk.heard(speech)
            left_out = "Its beginning was left out: it is more than the model reads."
            return left_out if speech.is_cut else ""

        with self.one_at_a_time:
            try:
                tell({"said": _told(spoken)})
            finally:
                tell({"turns": turns(session.talk)})
                tell(None)


def on_page(
    begin: Callable[[str], Talk], console: Console, *, me: str, host: str, port: int
) -> None:
    """Serve the page until a signal ends it."""
    talking = Talking(begin, me)
    with serving(talking.app(), host, port) as site:
        say(console, [f"open {site.address} to talk; ctrl-c ends, and keeps all votes"])
        try:
            site.wait()
        finally:
            talking.close()


def turns(talk: Talk) -> Markup:
    """The conversation so far, with what stands of the votes on its last answers."""
    return part("turns.html", talk=talk, said=standing(talk))


def standing(talk: Talk) -> set[str]:
    """What this annotator has said of the last answers and not taken back, of VOTES."""
    items, who = _votable(talk), talk.votes.annotator
    if not items or not talk.votes.file.exists():
        return set()
    try:
        with Store(talk.votes.file) as store:
            votes = [v for v in store.votes() if v.annotator == who and v.item in items]
            there = store.items() if votes else {}
    except RunError:  # of the disk: the next vote tells of it
        return set()
    said = set()
    for vote in votes:
        shown, kept = items[vote.item], there[vote.item].responses
        order = [kept.index(text) for text in shown.responses]
        said.add(shown.in_own_order(vote.choice, order))  # which undoes itself, for two
    return said


def remove(talk: Talk) -> str:
    """Take the last question back, and with it what this annotator said of its answers; returns
    what became of the votes.
    """
    items, who, voted = _votable(talk), talk.votes.annotator, standing(talk)
    talk.undo()
    if not voted:
        return ""
    with Store(talk.votes.file) as store:  # which takes the last one back, and no other
        while (mine := [v.item for v in store.votes() if v.annotator == who]) and mine[-1] in items:
            store.undo(who)
    return TAKEN_BACK if items.keys().isdisjoint(mine) else STAYS


def _votable(talk: Talk) -> dict[str, Item]:
    """What may be voted on, by ids: the last answer and, where there are two, which is better."""
    if not talk.turns or not talk.turns[-1].answers:
        return {}
    prompt, answers = talk.turns[-1].prompt, [*talk.turns[-1].answers.values()]
    items = [Item.of("thumb", prompt, answers[:1])]
    if len(set(answers)) == 2:
        items.append(Item.of("pair", prompt, answers))
    return {item.id: item for item in items}


def _told(act: Callable[[], str]) -> str:
    """What an act says, or why it cannot be done."""
    try:
        return act()
    except (*USER_ERRORS, NothingSaid) as error:
        return str(error)
    except KeyError as error:
        return f"what was sent lacks {error}"


async def _sent(request: Request) -> Event:
    try:
        asked = await request.json()
    except ValueError:
        asked = None
    return asked if isinstance(asked, dict) else {}

"""Who gets in, and who does not: over real sockets."""

import socket
import sqlite3
from http.client import HTTPConnection
from urllib.parse import quote_plus, urlsplit

import pytest

pytest.importorskip("uvicorn", reason="the extra [label] is not installed")

from datamodules.records import Prompt
from harness.errors import RunError
from harness.feedback import database
from harness.feedback.items import Item
from harness.web.doors import is_this_machine
from harness.web.server import serving
from tests.harness.web.conftest import Person

ITEMS = [Item.of("pair", Prompt.from_text("question"), ("good", "bad"), ("policy-x", "policy-y"))]


def asked(address: str, path: str = "/", method: str = "GET", body: str | None = None, **headers):
    """The status, the headers and the text of an answer; no redirect is followed."""
    connection = HTTPConnection(urlsplit(address).netloc, timeout=10)
    connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, answer.headers, text


@pytest.mark.parametrize(
    ("host", "own"),
    [
        *(("127.0.0.1", True), ("127.1.2.3", True), ("localhost", True), ("::1", True)),
        *(("[::1]", True), ("0.0.0.0", False), ("::", False), ("192.168.0.7", False)),
        *(("example.org", False), ("localhost.example.org", False), ("", False)),
    ],
)
def test_names_of_this_machine(host, own):
    assert is_this_machine(host) == own


def test_nothing_of_a_page_is_loaded_from_elsewhere_or_run(served):
    with served(ITEMS) as (address, _):
        status, headers, text = asked(address, Cookie="rlhf_ladder_annotator=ann")
        assert status == 200
        assert headers["Content-Security-Policy"].startswith(
            "default-src 'none'; script-src 'self'"
        )
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert "http://" not in text
        assert "https://" not in text
        assert "policy-x" not in text
        for file in ("page.css", "label.js", "icon.svg"):
            assert f"/static/{file}" in text
            assert asked(address, f"/static/{file}")[0] == 200
        assert asked(address, "/static/../../../pyproject.toml")[0] == 404


def test_a_foreign_name_that_leads_here_shows_nothing(served):
    with served(ITEMS) as (address, _):
        port = urlsplit(address).port
        assert asked(address, Host=f"localhost:{port}")[0] == 200
        assert asked(address, Host="localhost:9000")[0] == 200  # of a tunnel
        for name in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", ""):
            assert asked(address, Host=name)[0] == 421


def test_what_another_page_sends_is_not_heard(served):
    with served(ITEMS) as (address, store):
        ann = Person(address, "ann")
        assert ann.post("/next", {})[0] == 200
        item = ITEMS[0].id
        body = f'{{"item": "{item}", "choice": "first", "seconds": 1}}'
        for origin in ("http://evil.example", "null", "http://localhost:1"):
            status, _, _ = asked(
                *(address, "/vote", "POST", body),
                Origin=origin,
                Cookie="rlhf_ladder_annotator=ann",
            )
            assert status == 403
        assert store.votes() == []
        assert asked(address, "/vote", "POST", "x" * 2_000_000)[0] == 413
        assert asked(address, "/vote", "POST", iter([b"x"] * 9))[0] == 413  # in pieces, without end
        assert ann.post("/vote", {"item": item, "choice": "first", "seconds": 1})[0] == 200
        assert len(store.votes()) == 1


def test_other_machines_need_the_token_that_is_in_the_address(served):
    with served(ITEMS, host="0.0.0.0") as (address, _):
        here = f"http://127.0.0.1:{urlsplit(address).port}"
        token = urlsplit(address).query.partition("=")[2]
        assert len(token) >= 32
        assert asked(here)[0] == 401
        assert asked(here, f"/?token={token[:-1]}")[0] == 401
        assert asked(here, "/?token=%C3%A9")[0] == 401
        assert asked(here, Cookie="rlhf_ladder_token=wrong")[0] == 401
        assert asked(here, "/vote", "POST", "{}")[0] == 401
        assert asked(here, "/static/label.js")[0] == 401
        status, headers, _ = asked(here, f"/?token={token}")
        assert (status, headers["Location"]) == (303, "/")
        assert "HttpOnly" in headers["Set-Cookie"]
        cookie = headers["Set-Cookie"].partition(";")[0]
        assert asked(here, Cookie=cookie)[0] == 200


def test_this_machine_alone_needs_none(served):
    with served(ITEMS) as (address, _):
        assert urlsplit(address).query == ""


@pytest.mark.parametrize(
    ("name", "kept"), [("Ann", "Ann"), ("  Zoë  \tB\n", "Zoë B"), ("نور 🎉", "نور 🎉")]
)
def test_a_name_is_remembered_as_it_is_written(served, name, kept):
    with served(ITEMS) as (address, store):
        status, headers, _ = asked(
            *(address, "/name", "POST", f"name={quote_plus(name)}"),
            Content_Type="application/x-www-form-urlencoded",
        )
        assert status == 303
        cookie = headers["Set-Cookie"].partition(";")[0]
        text = asked(address, Cookie=cookie)[2]
        assert kept in text
        item = ITEMS[0].id
        body = f'{{"item": "{item}", "choice": "tie", "seconds": 1}}'
        asked(address, "/vote", "POST", body, Cookie=cookie)
        assert [vote.annotator for vote in store.votes()] == [kept]


def test_what_makes_no_sense_is_refused_and_nothing_is_kept(served):
    with served(ITEMS) as (address, store):
        ann = Person(address, "ann")
        ann.post("/next", {})
        item = ITEMS[0].id
        for body in (
            *({}, {"item": item}, {"item": "other", "choice": "first"}),
            *({"item": item, "choice": "0>1"}, {"item": item, "choice": "first", "seconds": []}),
        ):
            assert ann.post("/vote", body)[0] == 400
        assert Person(address, "").post("/vote", {"item": item, "choice": "first"})[0] == 409
        assert Person(address, "bob").post("/vote", {"item": item, "choice": "first"})[0] == 400
        assert store.votes() == []


def test_a_vote_that_the_disk_refuses_is_not_said_to_be_kept(served, monkeypatch):
    """Another process holds the file: the page is told to send the vote again."""
    monkeypatch.setattr(database, "WAIT", 0.05)
    with served(ITEMS) as (address, store):
        ann = Person(address, "ann")
        ann.post("/next", {})
        vote = {"item": ITEMS[0].id, "choice": "tie", "seconds": 1}
        with sqlite3.connect(store.path) as other:
            other.execute("BEGIN IMMEDIATE")
            status, answer = ann.post("/vote", vote)
            assert status == 503
            assert "labels.sqlite: cannot be read or written" in answer["said"]
        assert store.votes() == []
        assert ann.post("/vote", vote)[0] == 200
        assert len(store.votes()) == 1


def test_a_port_that_is_taken_is_said_so(served):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(RunError, match=f"port={port}: another program is listening there"):
            serving(lambda: None, "127.0.0.1", port).__enter__()
    with pytest.raises(RunError, match=r"host=192\.0\.2\.1: "):
        serving(lambda: None, "192.0.2.1", 0).__enter__()

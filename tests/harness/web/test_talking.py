"""The page on which one talks: on a real server, in a real browser."""

import shutil
import threading

import pytest

from harness.chat.talk import Talk
from harness.chat.votes import Votes
from harness.feedback.store import FILE, Store
from harness.web.server import serving
from harness.web.talking import Talking

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium, a browser")
playwright = pytest.importorskip("playwright.sync_api")

HOSTILE = (
    "<script>document.title = 'owned'</script><img src=x onerror='document.title = 1'> **bold**"
)


class Speech:
    """Says a third of its words, and the rest when it is let."""

    left_out, is_cut, stopped = 0, False, False

    def __init__(self, name, words, goes_on):
        self.name, self.words, self.goes_on, self.text = name, words, goes_on, ""

    def __iter__(self):
        size = len(self.words) // 3
        for start, end in ((0, size), (size, 2 * size), (2 * size, None)):
            self.text += self.words[start:end]
            yield self.words[start:end]
            assert self.goes_on.wait(30)
        self.stopped = True


class Speaker:
    def __init__(self, name, goes_on):
        self.name, self.goes_on = name, goes_on

    def speak(self, prompt, sample):
        words = f"{self.name}{sample} of {len(prompt.messages)}: {prompt.messages[-1].content}"
        return Speech(self.name, words, self.goes_on)

    def set_temperature(self, temperature):
        pass


@pytest.fixture
def goes_on():
    """Set, answers come to their end."""
    return threading.Event()


@pytest.fixture
def visit(goes_on, tmp_path):
    """visit(): a page of a new browser, which neither complains nor asks for anything elsewhere."""
    voice, other = Speaker("new", goes_on), Speaker("old", goes_on)

    def begin(annotator):
        return Talk(voice, lambda: other, Votes(tmp_path / FILE, annotator))

    talking, troubles = Talking(begin, "ada"), []
    with (
        serving(talking.app(), "127.0.0.1", 0) as site,
        playwright.sync_playwright() as driver,
        driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]) as browser,
    ):

        def open_page():
            page = browser.new_context().new_page()
            page.on("pageerror", lambda error: troubles.append(str(error)))
            page.on("console", lambda said: said.type == "error" and troubles.append(said.text))
            page.on("request", lambda r: r.url.startswith(site.address) or troubles.append(r.url))
            page.goto(site.address)
            return page

        yield open_page
        goes_on.set()
        talking.close()
    assert troubles == []


def say(page, text):
    page.fill("#words", text)
    page.keyboard.press("Enter")


def test_an_answer_comes_as_it_is_spoken_and_is_voted_on(visit, goes_on, tmp_path):
    page, stranger = visit(), visit()
    say(page, HOSTILE)
    third = page.wait_for_selector(".speaking .answer pre:not(:empty)")
    assert third.inner_text().startswith("new0 of 1: <script>")
    assert "bold" not in third.inner_text()
    goes_on.set()
    page.wait_for_selector(".after")
    answer = page.query_selector(".answer .text")
    assert "<script>document.title" in answer.inner_text()
    assert answer.query_selector("strong").inner_text() == "bold"  # Markdown, once it is whole
    page.click("[data-vote=down]")
    page.wait_for_selector("#notice:not([hidden])")
    page.click("[data-speak='/other']")
    page.wait_for_selector(".answers.pair [data-vote], .after [data-vote=second]")
    page.click("[data-vote=second]")
    say(page, "b")
    page.wait_for_selector("text=new0 of 3: b")
    page.reload()
    assert page.title() == "new"
    assert page.inner_text("#turns").count("new0 of") == 2
    assert stranger.inner_text("#turns").strip() == ""
    with Store(tmp_path / FILE) as store:
        votes = [(store.items()[v.item].kind, v.choice, v.annotator) for v in store.votes()]
    assert votes == [("thumb", "down", "ada"), ("pair", "second", "ada")]


def test_an_answer_is_stopped_and_the_talk_goes_on(visit, goes_on):
    page = visit()
    say(page, "a long story")
    page.wait_for_selector(".speaking .answer pre:not(:empty)")
    page.keyboard.press("Escape")
    page.wait_for_function("fetch('/stop', {method: 'POST'}).then(() => true)")  # both are there
    goes_on.set()
    page.wait_for_selector(".after")
    said = page.inner_text(".answer .text")
    assert said
    assert "new0 of 1: a long story".startswith(said)
    assert said != "new0 of 1: a long story"
    page.click("[data-act='/undo']")
    page.wait_for_selector(".prompt", state="detached")
    say(page, "c")
    page.wait_for_selector("text=new0 of 1: c")

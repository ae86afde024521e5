"""The page on which one talks: on a real server, in a real browser."""

import shutil
import threading

import pytest

from datamodules.records import Prompt
from harness.chat.talk import Talk
from harness.chat.votes import Votes
from harness.feedback.items import Item
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
def visit(request, goes_on, tmp_path):
    """visit(): a page of a new browser, which neither complains nor asks for anything elsewhere.
    Its parameter is the host that is served, this machine alone without one.
    """
    voice, other = Speaker("new", goes_on), Speaker("old", goes_on)

    def begin(annotator):
        return Talk(voice, lambda: other, Votes(tmp_path / FILE, annotator))

    talking, troubles = Talking(begin, "ada"), []
    with (
        serving(talking.app(), getattr(request, "param", "127.0.0.1"), 0) as site,
        playwright.sync_playwright() as driver,
        driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]) as browser,
    ):
        home = site.address.partition("?")[0]

        def open_page(**options):
            page = browser.new_context(**options).new_page()
            page.on("pageerror", lambda error: troubles.append(str(error)))
            page.on("console", lambda said: is_error(said) and troubles.append(said.text))
            page.on("request", lambda r: r.url.startswith(home) or troubles.append(r.url))
            page.goto(site.address)
            return page

        yield open_page
        goes_on.set()
        talking.close()
    assert troubles == []


def is_error(said):
    """But for a header that counts where a page comes by https, or from this machine."""
    return said.type == "error" and "Cross-Origin-Opener-Policy header" not in said.text


def say(page, text):
    page.fill("#words", text)
    page.keyboard.press("Enter")


def pressed(page):
    """The votes that stand, on the last answers."""
    return [b.get_attribute("data-vote") for b in page.query_selector_all("[aria-pressed=true]")]


def kept(folder):
    """What was said and not taken back: of what kind of item, what, and by whom."""
    with Store(folder / FILE) as store:
        return [(store.items()[v.item].kind, v.choice, v.annotator) for v in store.votes()]


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
    assert kept(tmp_path) == [("thumb", "down", "ada"), ("pair", "second", "ada")]


def test_a_vote_stands_on_its_button_until_its_question_is_removed(visit, goes_on, tmp_path):
    goes_on.set()
    with Store(tmp_path / FILE) as store:  # the same pair from elsewhere, in another order
        texts = ["old0 of 1: a", "new0 of 1: a"]
        store.add([Item.of("pair", Prompt.from_text("a"), texts, ["old", "new"])])
    page = visit(viewport={"width": 375, "height": 667})
    assert page.locator("#words").bounding_box()["width"] > 330  # all of a phone's row
    say(page, "a")
    page.click("[data-vote=up]")
    page.wait_for_selector("[data-vote=up][aria-pressed=true]")
    page.click("[data-speak='/other']")
    page.click("text=B is better")
    page.wait_for_selector("[data-vote=second][aria-pressed=true]")
    assert page.locator(":focus").get_attribute("data-vote") == "second"
    assert page.locator(".answer h2").all_inner_texts() == ["A new", "B old"]
    page.reload()
    assert pressed(page) == ["up", "second"]
    page.click("text=A is better")
    page.wait_for_selector("[data-vote=first][aria-pressed=true]")
    assert pressed(page) == ["up", "first"]
    assert kept(tmp_path) == [("thumb", "up", "ada"), ("pair", "second", "ada")]  # of the store's
    page.click("text=remove question")
    page.wait_for_selector(".prompt", state="detached")
    assert kept(tmp_path) == []


def test_a_removed_question_takes_no_other_vote_along(visit, goes_on, tmp_path):
    goes_on.set()
    page = visit()
    for text, vote in (("a", "up"), ("b", "down")):
        say(page, text)
        page.wait_for_selector(f"text=: {text}")
        page.click(f"[data-vote={vote}][aria-pressed=false]")
        page.wait_for_selector(f"[data-vote={vote}][aria-pressed=true]")
    with Store(tmp_path / FILE, overlap=2) as store:
        votes = {v.choice: v.item for v in store.votes()}
        item = Item.of("thumb", Prompt.from_text("elsewhere"), ["x"])
        store.add([item])
        store.vote(item.id, "ada", "up")
        store.vote(votes["down"], "ben", "up")
    page.reload()
    assert pressed(page) == ["down"]
    page.click("text=remove question")
    page.wait_for_selector("text=A vote on its answer stays")
    page.click("text=remove question")
    page.wait_for_selector(".prompt", state="detached")
    assert [v[1:] for v in kept(tmp_path)] == [
        ("up", "ada"),
        ("down", "ada"),
        ("up", "ada"),
        ("up", "ben"),
    ]


@pytest.mark.parametrize("visit", ["0.0.0.0"], indirect=True)
def test_who_comes_from_elsewhere_votes_under_a_name_of_their_own(visit, goes_on, tmp_path):
    goes_on.set()
    page = visit()
    for name, text in (("ben", "a"), ("cleo", "b")):
        page.fill("#name", name)
        with page.expect_navigation():
            page.keyboard.press("Enter")
        say(page, text)
        page.wait_for_selector(f"text=: {text}")
        page.click("[data-vote=up][aria-pressed=false]")
        page.wait_for_selector("[data-vote=up][aria-pressed=true]")
        page.click("text=somebody else")
    assert kept(tmp_path) == [("thumb", "up", "ben"), ("thumb", "up", "cleo")]


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
    page.click("[data-act='/remove']")
    page.wait_for_selector(".prompt", state="detached")
    say(page, "c")
    page.wait_for_selector("text=new0 of 1: c")

"""People in front of the page: in a real browser, by keyboard and by mouse."""

import json
import shutil
import socket

import pytest

from datamodules.records import Prompt
from harness.feedback.export import export
from harness.feedback.items import Item

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium, a browser")
playwright = pytest.importorskip("playwright.sync_api")

PHONE = {"width": 390, "height": 844}
SCREEN = {"width": 1280, "height": 800}
HOSTILE = (
    '<script>document.title = "owned"</script><img src="http://e.example/x.png"'
    ' onerror="document.title = 1">\n\n![seen](http://e.example/y.png)'
)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """visit(address, name="ann", **context): a page on which that annotator is asked something. It
    may neither complain nor ask for anything from elsewhere.
    """
    contexts, troubles = [], []

    def open_page(address: str, name: str = "ann", **options):
        contexts.append(browser.new_context(**{"viewport": SCREEN, **options}))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda said: said.type == "error" and troubles.append(said.text))
        page.on(
            "request", lambda asked: asked.url.startswith(address) or troubles.append(asked.url)
        )
        page.goto(address)
        page.fill("#name", name)
        page.keyboard.press("Enter")
        page.wait_for_selector("[data-item]")
        settle(page)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [trouble for trouble in troubles if "ERR_CONNECTION" not in trouble] == []


def shown(page) -> str:
    """The item's number in a store, of what is asked now."""
    return page.get_attribute("#item", "data-item")


def settle(page) -> None:
    """Wait until keys are no longer taken for those of the item before."""
    page.wait_for_selector("#card:not(.settling, .sending)")


def then_next(page, act) -> None:
    """Do something, and wait for the next item."""
    settle(page)
    before = shown(page)
    act()
    page.wait_for_function("b => document.getElementById('item').dataset.item !== b", arg=before)


def press(page, key: str) -> None:
    then_next(page, lambda: page.keyboard.press(key))


def pairs(count: int) -> list[Item]:
    return [
        Item.of(
            "pair", Prompt.from_text(f"question {i}"), (f"good {i}", f"bad {i}"), ("p-x", "p-y")
        )
        for i in range(count)
    ]


def test_twenty_items_by_keyboard_with_a_reload_and_an_undo_are_what_the_file_says(
    served, visit, tmp_path
):
    items = pairs(20)
    with served(items) as (address, store):
        page = visit(address)
        for i in range(20):
            assert f"question {i}" == page.inner_text(".prompt .text")
            assert "p-x" not in page.content()
            assert f"{i} of 20 labels" in page.inner_text(".top")
            good = "1" if page.inner_text(".answer >> nth=0").split()[1] == "good" else "2"
            bad = "2" if good == "1" else "1"
            if i == 7:  # what is shown after a reload is the same, in the same order
                page.reload()
                assert (page.inner_text(".answer >> nth=0").split()[1] == "good") == (good == "1")
            if i == 11:  # a slip, taken back
                press(page, bad)
                press(page, "z")
                assert f"question {i}" == page.inner_text(".prompt .text")
            press(page, {5: "3", 6: "4"}.get(i, good))
        assert "All done." in page.inner_text("#item")
        assert store.progress("ann").labels == 20
        files = export(tmp_path / "pairs.jsonl", store.items(), store.votes())
        votes = store.votes()
    assert files == {tmp_path / "pairs.jsonl": 20}
    rows = (tmp_path / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    for i, row in enumerate(map(json.loads, rows)):
        strength = 0.0 if i in (5, 6) else 1.0
        assert row["prompt"] == f"question {i}"
        assert (row["chosen"], row["rejected"]) == (f"good {i}", f"bad {i}")
        assert (row["strength"], row["annotator"]) == (strength, "ann")
        assert row.get("both_bad", False) == (i == 6)
    assert {vote.order for vote in votes} == {(0, 1), (1, 0)}
    assert all(0.1 < vote.seconds < 30 for vote in votes)


@pytest.mark.parametrize("viewport", [PHONE, SCREEN], ids=["phone", "screen"])
def test_scripts_and_long_lines_are_shown_as_text(served, visit, viewport):
    long = "<script>" + "x" * 100_000
    code = f"```python\n{'y' * 2_000}\n```"
    items = [
        Item.of("pair", Prompt.from_text(HOSTILE), (HOSTILE, long)),
        Item.of("pair", Prompt.from_text("مرحبا 🎉"), (code, "عربي \u202eabc")),
    ]
    with served(items) as (address, _):
        page = visit(address, viewport=viewport)
        texts = page.locator(".answer .text").all_inner_texts()
        assert any(text.strip() == long for text in texts)
        assert sum(HOSTILE.splitlines()[0] in text for text in texts) == 1
        assert page.locator("#card script, #card img, #card iframe").count() == 0
        for _ in items:
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width == viewport["width"]
            assert page.title() == "Labels"
            press(page, "s")


def test_what_is_wide_scrolls_in_its_own_box_and_texts_can_be_seen_as_written(served, visit):
    wide = f"```\n{'y' * 2_000}\n```\n\n**bold**"
    with served([Item.of("thumb", Prompt.from_text("question"), [wide])]) as (address, _):
        page = visit(address)
        width, room = page.evaluate(
            "(() => { const box = document.querySelector('.answer pre');"
            " return [box.scrollWidth, box.clientWidth] })()"
        )
        assert width > 2 * room
        assert page.inner_text(".answer strong") == "bold"
        page.keyboard.press("p")
        assert page.inner_text(".answer").strip() == wide


def test_rankings_by_keyboard_and_by_mouse(served, visit):
    items = [
        Item.of("ranking", Prompt.from_text(f"question {i}"), ("one", "two", "three", "four"))
        for i in range(3)
    ]
    with served(items) as (address, store):
        page = visit(address)

        def place(text: str) -> str:
            """The key of the answer with this text."""
            texts = page.locator(".answer .text").all_inner_texts()
            return str([t.strip() for t in texts].index(text) + 1)

        settle(page)
        for key in (place("two"), place("four"), "=", place("one")):
            page.keyboard.press(key)
        assert page.is_enabled("[data-act=rank]")  # the last one's place is known
        press(page, "Enter")
        settle(page)
        for text in ("four", "one", "two", "one"):  # the second thought takes "one" out again
            page.locator(".answer", has_text=text).locator("button").click()
        assert page.is_disabled("[data-act=rank]")
        page.locator(".answer", has_text="three").locator("button").click()
        then_next(page, lambda: page.click("[data-act=rank]"))
        settle(page)
        page.keyboard.press("1")
        page.keyboard.press("Backspace")  # takes the place back, and not the vote before
        assert page.inner_text(".answer >> nth=0 >> .place span") == ""
        page.keyboard.press("Backspace")
        page.wait_for_selector(f"[data-item='{items[1].id}']")
        assert [vote.choice for vote in store.votes()] == ["1>0=3>2"]
        press(page, "z")
        assert store.votes() == []


def test_a_double_click_and_a_key_held_down_are_one_vote(served, visit):
    with served(pairs(4)) as (address, store):
        page = visit(address)
        then_next(page, lambda: page.dblclick("[data-choice=tie]"))
        page.wait_for_timeout(300)
        assert len(store.votes()) == 1
        page.keyboard.down("4")
        for _ in range(8):  # as the system repeats it
            page.wait_for_timeout(60)
            page.keyboard.down("4")
        page.keyboard.up("4")
        page.wait_for_selector("text=question 2")
        settle(page)
        assert [vote.choice for vote in store.votes()] == ["tie", "both_bad"]


def test_a_vote_that_the_server_did_not_hear_is_sent_until_it_does(served, visit):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with served(pairs(3), port=port) as (address, _):
        page = visit(address)
        settle(page)
    page.keyboard.press("3")
    page.wait_for_selector("#notice:visible")
    assert "Not kept yet" in page.inner_text("#notice")
    page.keyboard.press("4")  # the first one still waits
    with served(pairs(3), port=port) as (_, store):
        page.wait_for_selector("text=question 1")
        assert page.is_hidden("#notice")
        assert [vote.choice for vote in store.votes()] == ["tie"]


def test_new_items_appear_by_themselves_and_buttons_say_what_they_are(served, visit):
    with served(pairs(1)) as (address, store):
        page = visit(address)
        press(page, "s")
        assert "Nothing for you just now" in page.inner_text("#item")
        store.add(pairs(2))
        page.wait_for_selector("[data-choice]")
        for name in ("A is better 1", "B is better 2", "Equal 3", "Both bad 4", "Skip s", "Undo z"):
            assert page.get_by_role("button", name=name, exact=True).count() == 1
        # Everything can be reached and seen with the tabulator key.
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.dataset.choice") == "first"
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.press("Enter")
        page.wait_for_selector("[data-wait]")
        assert store.progress().labels == 1

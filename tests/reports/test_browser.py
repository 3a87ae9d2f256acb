"""The pages in a real browser, over a real service with every example's story, thinned out."""

from __future__ import annotations

import os
import shutil
from collections import deque
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # has no types
from playwright.sync_api import ConsoleMessage, Page, Route, expect, sync_playwright

from impact_cli import examples
from tests.cli.service import Service, impact, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, BrowserContext

EVERY = 25  # of the events of a story: 7,400 of all of them
BATCH = 2_500
COUNTED_S = 180.0  # on a machine that is busy with other things; 10 s on one that is not
WIDTHS = (320, 768, 1280)
PAGES = (
    "/",
    *(
        f"/products/{name}"
        for name in ("caremessage", "duolingo", "embrace", "help_us_green", "m_pesa", "patagonia")
    ),
    "/products/m_pesa/metrics/active_customers",
    "/public/caremessage",
    "/sign-in",
    "/nowhere",
)
STORY = "/products/m_pesa"


class Stories(Service):
    """`impact up` with the catalogs and events of all stories."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.played = examples.load(examples.ALL, datetime.now(UTC))
        examples.write_catalogs(self.played, folder / "catalog")

    def play(self) -> None:
        """Sends the events, and waits until they are counted and judged."""
        sent = 0
        for story in self.played:
            events = islice(story.events(), 0, None, EVERY)
            while batch := list(islice(events, BATCH)):
                answer = self.post(batch, story.product)
                assert answer.status_code in (202, 207), answer.text
                sent += len(batch)
        wait_until(lambda: self.sql("SELECT SUM(received) FROM ledger") == [(sent,)], "counted", COUNTED_S)
        judged = (
            "SELECT COUNT(*) FROM products p"
            " WHERE EXISTS (SELECT 1 FROM metric_trends t WHERE t.product = p.product AND t.segment = '{}')"
        )
        wait_until(lambda: self.sql(judged) == [(len(self.played),)], "trends are there", COUNTED_S)


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stories]:
    service = Stories(tmp_path_factory.mktemp("stories"))
    service.start()
    try:
        service.play()
        yield service
    finally:
        service.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        if os.environ.get("CI") or os.environ.get("IMPACT_REQUIRE_SERVERS"):
            pytest.fail("no chromium: apt-get install chromium")
        pytest.skip("no chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        # without its sandbox, which root may not use
        one = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield one
        one.close()


class Visit:
    """A tab, and what it asked for and complained of."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.page: Page = context.new_page()
        self.url = url
        self.elsewhere: list[str] = []
        self.complaints: list[str] = []
        self.page.route("**/*", self._only_here)
        self.page.on(
            "console", lambda said: self.complaints.append(said.text) if said.type == "error" else None
        )
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _only_here(self, route: Route) -> None:
        if route.request.url.startswith((self.url, "data:")):
            route.continue_()
        else:
            self.elsewhere.append(route.request.url)
            route.abort()

    def _heard(self, said: ConsoleMessage) -> None:
        if said.type == "error":
            self.complaints.append(said.text)

    def to(self, path: str) -> Page:
        self.page.goto(self.url + path)
        return self.page


@contextmanager
def visit(browser: Browser, service: Service, **options: Any) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
    try:
        yield Visit(context, service.url)
    finally:
        context.close()


def troubles(page: Page) -> list[str]:
    """What axe finds against WCAG 2.2 A and AA, and against its best practices."""
    found = Axe().run(page)
    return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found.response["violations"]]


def too_wide(page: Page) -> list[str]:
    """Elements that stand out of the page to the right, but for what scrolls in its own place."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll("main *, header *, footer *")]
          .filter((one) => one.getBoundingClientRect().right > innerWidth + 1)
          .filter((one) => !one.closest(".scroll, pre, .skip"))
          .map((one) => one.outerHTML.slice(0, 120))"""
    )
    return found


@pytest.mark.parametrize("path", PAGES)
def test_a_page_fits_every_screen_and_everybody(browser: Browser, stories: Stories, path: str) -> None:
    with visit(browser, stories, color_scheme="light") as one:
        page = one.to(path)
        expect(page.locator("h1")).to_have_count(1)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            assert too_wide(page) == [], width
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            if width == min(WIDTHS):
                assert troubles(page) == []
        page.emulate_media(color_scheme="dark")
        assert troubles(page) == []
        page.emulate_media(media="print", color_scheme="light")
        assert not page.locator(".live").first.is_visible()
        assert one.elsewhere == []
        assert [said for said in one.complaints if "404" not in said] == []


def test_the_keyboard_reaches_everything_and_one_sees_where_it_is(browser: Browser, stories: Stories) -> None:
    with visit(browser, stories) as one:
        page = one.to(STORY)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        assert page.locator(".skip").is_visible()
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "content"
        wanted = page.locator("main :is(a[href], summary, .scroll):visible").count()
        reached = 0
        for _ in range(wanted):
            page.keyboard.press("Tab")
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            reached += page.evaluate("document.activeElement.closest('main') !== null")
            assert outline != "none", page.evaluate("document.activeElement.outerHTML")
        assert reached == wanted
        page.locator("main summary").first.focus()
        page.keyboard.press("Enter")
        assert page.locator("main details").first.evaluate("one => one.open")


def test_without_scripts_it_says_the_same(browser: Browser, stories: Stories) -> None:
    with visit(browser, stories) as one, visit(browser, stories, java_script_enabled=False) as plain:
        for path in ("/", STORY):
            assert one.to(path).locator("h1").text_content() == plain.to(path).locator("h1").text_content()
            assert plain.page.locator("data").count() == one.page.locator("data").count() > 0


def test_numbers_change_without_a_reload_unless_one_pauses(browser: Browser, stories: Stories) -> None:
    with visit(browser, stories) as one:
        page = one.to("/products/help_us_green/metrics/flowers_collected?window=all")
        page.evaluate("window.here = true")
        opened = page.locator("details#definition")
        opened.locator("summary").click()
        page.locator("h1").click()
        shown = page.locator("#value data")
        said = shown.get_attribute("value") or ""
        before = float(said)
        story = next(story for story in stories.played if story.product == "help_us_green")
        more = [{**event, "id": f"more-{event['id']}"} for event in deque(story.events(), maxlen=100)]
        page.get_by_role("button", name="Pause").click()
        assert stories.post(more, "help_us_green").status_code == 202
        value = (
            "SELECT value FROM rolling_metrics WHERE metric = 'flowers_collected' AND segment = '{}'"
            " AND time_window = 'all'"
        )
        wait_until(lambda: stories.sql(value)[0][0] > before, "more is counted", COUNTED_S)
        page.wait_for_timeout(500)
        assert shown.get_attribute("value") == said
        page.get_by_role("button", name="Go on").click()
        page.locator("#windows .scroll").first.evaluate(
            "one => { one.focus({preventScroll: true});"
            " one.scrollIntoView({behavior: 'instant', block: 'center'}) }"
        )
        place = "document.activeElement.getBoundingClientRect().top"
        looked_at = page.evaluate(place)
        expect(shown).not_to_have_attribute("value", said, timeout=60_000)
        assert float(shown.get_attribute("value") or "nan") == stories.sql(value)[0][0]
        assert page.evaluate("window.here") is True
        assert abs(page.evaluate(place) - looked_at) < 20  # what is looked at stays where it is
        assert page.evaluate("document.activeElement.closest('#windows') !== null")
        assert opened.evaluate("one => one.open")


def test_an_edition_is_one_file_that_asks_for_nothing(
    browser: Browser, stories: Stories, tmp_path: Path
) -> None:
    quarter = (datetime.now(UTC).month + 2) // 3
    command = ("report", "--product", "patagonia", "--period", f"{datetime.now(UTC).year}-Q{quarter}")
    done = impact(*command, "--data", str(stories.data), "--out", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [file] = tmp_path.glob("**/report.html")
    with visit(browser, stories, color_scheme="light") as one:
        one.url = file.as_uri()
        page = one.to("")
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            assert too_wide(page) == []
        assert troubles(page) == []
        assert (one.elsewhere, one.complaints) == ([], [])


def test_ops_find_their_paths_on_the_same_port(stories: Stories) -> None:
    with httpx.Client(base_url=stories.url) as client:
        assert client.get("/healthz").json() == {"alive": True}
        assert client.get("/docs").status_code == 200
        assert "impact_ingest_events_total" in client.get("/metrics").text
        assert client.get("/v1/products").json()["products"][0]["product"] == "caremessage"
        assert client.get("/v1/events/status").status_code == 400

"""The page in a real browser, Debian's Chromium: what it shows, what it does, and what it never asks for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the web server of ar ui is not installed")
pytest.importorskip("selenium", reason="selenium is not installed")

from helpers import wait_for
from pages import PROMOTED, Served, history_of, short_campaign
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from ar.git.repo import Repo
from ar.page.export import export

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and its driver are not installed")


FIND_DOT = """
const canvas = arguments[0], box = canvas.getBoundingClientRect();
for (let x = 0; x < box.width; x += 3)
  for (let y = 0; y < box.height; y += 3) {
    const at = { clientX: box.left + x, clientY: box.top + y, bubbles: true };
    canvas.dispatchEvent(new PointerEvent("pointermove", at));
    if (!document.getElementById("tip").hidden) return [x, y];
  }
return null;
"""


class Browser:
    """A browser that has opened a page's link."""

    def __init__(self, site: Served | None = None) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM or ""
        for given in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
            options.add_argument(given)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        self.site = site
        if site:
            self.driver.get(site.gate.link)
            wait_for(lambda: self.all("#live.on"))

    def go(self, path: str) -> None:
        assert self.site
        self.driver.get(self.site.origin + path)

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def js(self, script: str, *args: object) -> Any:
        return self.driver.execute_script(script, *args)

    @property
    def titles(self) -> list[str]:
        """Of the table's rows, from top to bottom."""
        script = "return [...document.querySelectorAll(arguments[0])].map(cell => cell.innerText)"
        return list(self.js(script, "#attempts tbody .title a"))

    def text(self, selector: str) -> str:
        """Of the first that fits. Asked for at once: what is live is put in its place at any time."""
        return str(self.js("return document.querySelector(arguments[0])?.innerText ?? ''", selector))

    def click(self, selector: str) -> None:
        """On the first that fits, or on what has taken its place."""

        def clicked() -> bool:
            try:
                self.one(selector).click()
            except StaleElementReferenceException:
                return False
            return True

        wait_for(clicked)

    def screen(self, width: int, height: int = 900, scheme: str = "light") -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)

    def complaints(self) -> list[str]:
        """What the browser says went wrong since it was asked last: scripts that failed or were refused."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def asked_for(self) -> set[str]:
        """The addresses that were asked for since."""
        messages = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        return {
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        }


@pytest.fixture(scope="module")
def root(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return short_campaign(template, tmp_path_factory.mktemp("browser") / "project")


@pytest.fixture(scope="module")
def site(root: Path) -> Iterator[Served]:
    with Served(root) as served:
        yield served


@pytest.fixture(scope="module")
def browser(site: Served) -> Iterator[Browser]:
    browser = Browser(site)
    yield browser
    browser.driver.quit()


def test_it_is_live_filters_and_runs_nothing_of_others(browser: Browser, site: Served, root: Path) -> None:
    browser.go("/")
    wait_for(lambda: browser.all("#progress canvas") and browser.all("#live.on"))
    assert "=cmd|" in browser.text("#attempts") and "<script>alert(1)</script>" in browser.text("#attempts")
    browser.js("window.stays = true")
    browser.one("#q").send_keys("claude crashed")
    wait_for(lambda: browser.titles == ["x 1.5 → 2.9"])
    assert browser.text("#found") == "1 of 6 attempts" and "q=claude" in browser.driver.current_url
    browser.js("document.getElementById('tree').scrollIntoView()")
    wait_for(lambda: len(browser.all(".leaf")) == 5 and len(browser.all(".leaf.faded")) == 4)
    browser.click("#filter button")
    wait_for(lambda: len(browser.titles) == 6)
    [run] = [run for run in history_of(root).experiments if run.params["params.yaml:x"] == 1.7]
    Repo.open(root).update_note(run.rev, lambda note: {**note, "verdict": PROMOTED})
    wait_for(lambda: "x 1.5 → 1.7" in browser.text("#part-waiting"))
    wait_for(lambda: "winner" in browser.text(f"#attempts tr[data-name='{run.name}']"))
    assert browser.js("return window.stays")  # nothing was loaded anew
    assert all(url.startswith((site.origin, "data:")) for url in browser.asked_for())
    assert not [said for said in browser.complaints() if "favicon" not in said]


@pytest.mark.slow
def test_two_that_are_marked_are_compared(browser: Browser) -> None:
    browser.go("/")
    wait_for(lambda: len(browser.titles) == 6)
    for row in (2, 3):
        browser.click(f"#attempts tbody tr:nth-of-type({row}) input")
    browser.click("#compare button")
    wait_for(lambda: browser.all(".diff .add") and browser.all("[data-chart] canvas"))
    assert len(browser.all(".sides a")) == 2
    assert not browser.complaints()


@pytest.mark.slow
def test_the_chart_tells_and_opens_what_is_pointed_at(browser: Browser) -> None:
    browser.go("/")
    wait_for(lambda: browser.all("#progress canvas"))
    canvas = browser.one("#progress canvas")
    place = browser.js(FIND_DOT, canvas)
    assert place and " · " in browser.text("#tip")
    webdriver.ActionChains(browser.driver).move_to_element_with_offset(
        canvas, place[0] + 2 - canvas.size["width"] // 2, place[1] + 2 - canvas.size["height"] // 2
    ).click().perform()
    wait_for(lambda: "/experiment/" in browser.driver.current_url)


@pytest.mark.slow
def test_it_is_used_by_keys_alone(browser: Browser) -> None:
    browser.go("/")
    wait_for(lambda: len(browser.titles) == 6)
    keys = webdriver.ActionChains(browser.driver)
    keys.send_keys("/", "x 1.5").perform()
    wait_for(lambda: len(browser.titles) == 4)
    assert browser.js("return document.activeElement.id") == "q"
    reached = set()
    for _ in range(60):
        webdriver.ActionChains(browser.driver).send_keys(Keys.TAB).perform()
        reached.add(
            browser.js("const at = document.activeElement; return at.id || at.className || at.tagName")
        )
    assert {"agent", "newest", "kind", "A"} <= reached
    browser.one("th[data-sort=title] button").send_keys(Keys.ENTER)
    assert browser.one("th[data-sort=title]").get_attribute("aria-sort") == "ascending"
    assert browser.titles == sorted(browser.titles)


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_the_window(browser: Browser, width: int, scheme: str, tmp_path: Path) -> None:
    browser.screen(width, scheme=scheme)
    for path in ("/", "/experiment/bad", "/compare?a=bad&b=x-1.5-1.8"):
        browser.go(path)
        wait_for(lambda: browser.all(".chart canvas"))
        assert browser.js("return document.documentElement.scrollWidth") <= width, path
        clear = browser.js("return getComputedStyle(document.body).backgroundColor")
        assert (clear == "rgb(255, 255, 255)") == (scheme == "light")
        browser.driver.save_screenshot(str(tmp_path / "page.png"))
    browser.screen(1440)


@pytest.mark.slow
def test_texts_of_others_run_nothing_on_any_page(browser: Browser, site: Served) -> None:
    for path in ("/", "/experiment/bad", "/compare?a=bad&b=x-1.5-1.8"):
        browser.go(path)
        wait_for(lambda: browser.all(".chart canvas"))
        assert not browser.all("img, iframe, main script:not([type])")
    assert not [said for said in browser.complaints() if "favicon" not in said]
    assert all(url.startswith((site.origin, "data:")) for url in browser.asked_for())


@pytest.mark.slow
def test_with_control_it_steers(browser: Browser, root: Path) -> None:
    assert not browser.all(".steer")
    with Served(root, may_steer=True) as site:
        steering = Browser(site)
        try:
            steering.click(".steer summary")
            steering.one("input[name=text]").send_keys("x matters most <b>of all</b>")
            steering.click("form[action='/steer/note'] button")
            wait_for(lambda: "Noted" in steering.text("#said"))
            wait_for(lambda: "<b>of all</b>" in steering.text("#part-notebook"))
            steering.one("form[action='/steer/idea'] input[name=idea]").send_keys("Try more")
            steering.click("form[action='/steer/idea'] button")
            wait_for(lambda: steering.all(".said.bad"))
            assert not [said for said in steering.complaints() if "favicon" not in said]
        finally:
            steering.driver.quit()


@pytest.mark.slow
def test_its_files_open_without_a_server(root: Path, tmp_path: Path) -> None:
    export(root, tmp_path / "out", print)
    opened = Browser()
    try:
        opened.driver.get((tmp_path / "out" / "index.html").as_uri())
        wait_for(lambda: opened.all("#progress canvas"))
        opened.one("#q").send_keys("claude crashed")
        wait_for(lambda: opened.titles == ["x 1.5 → 2.9"])
        opened.click("#attempts tbody .title a")
        wait_for(lambda: opened.all("pre.diff .add"))
        opened.click(".home")
        wait_for(lambda: opened.all("#progress canvas"))
        assert all(url.startswith(("file:", "data:")) for url in opened.asked_for())
        assert not opened.complaints()
    finally:
        opened.driver.quit()

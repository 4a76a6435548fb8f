"""What the page costs with a long history: the first page once the history is read, updates, memory, and
in a browser, where there is one, the first drawing, a letter in the search, and an update.

    python benchmarks/ui.py --attempts 5000
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import conftest
import helpers
import synthetic

from ar.git.repo import Repo
from ar.page.app import Site
from ar.page.parts import first_page

ROUNDS = 5
FIRST = """
const done = arguments[0];
const look = () => document.querySelector("#progress canvas") && document.querySelector("#attempts tbody tr")
  ? setTimeout(done, 500) : setTimeout(look, 10);
look();
"""
LETTER = """
const done = arguments[1], box = document.getElementById("q");
box.value = arguments[0];
box.dispatchEvent(new Event("input"));
setTimeout(done, 1000);
"""
NEWS = """
campaign.news(arguments[0]);
setTimeout(arguments[1], 1000);
"""


def project(root: Path, attempts: int) -> None:
    """A project with so many attempts, none of which ran."""
    root.mkdir()

    def run(*command: str) -> None:
        subprocess.run(command, cwd=root, check=True, capture_output=True)

    run("git", "init", "-q")
    run(sys.executable, "-m", "dvc", "init", "-q")
    texts = {"fit.awk": conftest.FIT, "dvc.yaml": conftest.PIPELINE, "params.yaml": conftest.PARAMS}
    for name, text in (texts | {"program.md": helpers.PROGRAM}).items():
        (root / name).write_text(text)
    run(sys.executable, "-m", "dvc", "repro", "-q")
    run("git", "add", "-A")
    run("git", "-c", "user.name=T", "-c", "user.email=t@example.com", "commit", "-qm", "Start")
    synthetic.fill(root, attempts + 8)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of processor time of all threads, and what came of it: other work on the machine counts not."""
    began = time.process_time()
    done = work()
    return time.process_time() - began, done


async def on_the_server(root: Path) -> str:
    """The server's part. Returns the data of an update."""
    site = Site.of(root)

    def history() -> None:
        with site.desk.campaign() as campaign:
            campaign.history()

    read, _ = timed(history)
    began = time.process_time()
    scene = await site.news.scene()
    page = first_page(site.pages, site.news, scene)
    first = time.process_time() - began - timed(history)[0]
    again, _ = timed(lambda: first_page(site.pages, site.news, scene))
    print(f"reading the history, once               {read:7.2f} s")
    size = f"{len(page) / 1e6:.1f} MB"
    print(f"first page after that                   {first:7.2f} s, {size}; once more {again:.2f} s")
    repo = Repo.open(root)
    with site.desk.campaign() as campaign:
        runs = campaign.history().experiments

    async def updated(rev: str, **said: object) -> tuple[float, str]:
        """Seconds that an update takes after a note has changed, the reading included; and its data."""
        repo.update_note(rev, lambda note: {**note, **said})
        seen = site.news.generation
        site.news._looked = 0.0
        began = time.process_time()
        await site.news._refresh(0.0)
        events = dict(site.news.since(seen))
        return time.process_time() - began, events["rows"]

    judged = [run for run in runs if run.note and run.note.verdict][:ROUNDS]
    verdicts = [{**synthetic.DISCARDED, "reason": f"Worse, again {run.name}."} for run in judged]
    ones = [await updated(run.rev, verdict=it) for run, it in zip(judged, verdicts, strict=True)]
    data = ones[-1][1]
    assert len(json.loads(data)["rows"]) == 1
    bases = [run for run in runs if run.measures_baseline][:ROUNDS]
    every = [await updated(run.rev, status="crashed") for run in bases]  # the noise is another each time
    marks = statistics.median(timed(site.news.reader.marks)[0] for _ in range(ROUNDS))
    for what, found in (("an update, one attempt judged", ones), ("an update, every error another", every)):
        print(f"{what:<40}{statistics.median(it for it, _ in found):7.2f} s, {len(found[-1][1]):,} bytes")
    print(f"a look that finds nothing               {marks:7.3f} s, once a second")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"memory of the server, at most           {memory:7.0f} MB")
    return data


def busy(browser: Any) -> float:
    """Seconds of processor time that the page's thread has taken since it was opened."""
    found = browser.driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return float(next(one["value"] for one in found if one["name"] == "TaskDuration"))


def in_a_browser(root: Path, data: str) -> None:
    """The browser's part, where Chromium and its driver are installed."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        print("chromium and chromium-driver are not installed: nothing is measured in a browser")
        return
    from pages import Served
    from test_browser import Browser

    with Served(root) as site:
        browser = Browser(site)
        try:
            browser.driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})

            def took(script: str, *given: str) -> float:
                """Seconds of processor time of the page's own thread."""
                before = busy(browser)
                browser.driver.execute_async_script(script, *given)
                return busy(browser) - before

            def opened() -> float:
                browser.go("/")
                browser.driver.execute_async_script(FIRST)
                return busy(browser)

            firsts = [opened() for _ in range(ROUNDS)]
            browser.js("document.getElementById('tree').scrollIntoView()")
            letters = [took(LETTER, word) for _ in range(2) for word in ("x", "x 1.5 → 2", "")]
            news = [took(NEWS, data) for _ in range(ROUNDS)]
            kinds = (("first drawing", firsts), ("a letter in the search", letters), ("an update", news))
            for what, found in kinds:
                print(f"in the browser: {what:<24}{statistics.median(found):7.2f} s")
            heap = browser.js("return performance.memory.usedJSHeapSize") / 1e6
            print(f"in the browser: memory of scripts {heap:12.0f} MB")
        finally:
            browser.driver.quit()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attempts", type=int, default=5000)
    given = parser.parse_args()
    os.environ.setdefault("DVC_NO_ANALYTICS", "1")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "project"
        project(root, given.attempts)
        print(f"{given.attempts:,} attempts; seconds of processor time")
        print(f"load of the machine                     {os.getloadavg()[0]:7.1f}")
        data = asyncio.run(on_the_server(root))
        in_a_browser(root, data)


if __name__ == "__main__":
    main()

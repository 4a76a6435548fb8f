"""The report: one file that holds everything, and in which nothing that others wrote is markup."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import synthetic
from helpers import Ar, git, run
from histories import PROGRAM, attempt, every_outcome

from ar.history.records import Decision, History, Outcome, Verdict
from ar.views.document import Code, Document, Items, Picture, Prose, Section, Table
from ar.views.held import not_held
from ar.views.markdown import to_markdown
from ar.views.page import to_html

EVIL = '<script>alert(1)</script> ](javascript:x) `code` |cell| <!-- "quote" \x1b[31m'
PROSE = (
    f"{EVIL}\n\n# Why\n\n- *one* ![x](http://x)\n- two <http://x>\n\n[a]: javascript:x\n\n[a]\n\n```\nopen"
)
BLOCKS = (
    EVIL,
    Prose(PROSE),
    Items((EVIL,), folded=EVIL),
    Table((EVIL, "n"), ((EVIL, "1"),)),
    Code(f"+{EVIL}\n```\n# no heading", "diff"),
    Picture("<svg><script>alert(2)</script></svg>", EVIL),
)
REPORT = Document(EVIL, EVIL, (Section(EVIL, BLOCKS),))


class Page(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words += data


def test_nothing_that_others_wrote_is_html() -> None:
    page = Page(to_html(REPORT))
    assert page.open == []
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "svg", "iframe", "link", "a", "object"}
    sources = [value or "" for _, found in page.tags for name, value in found.items() if name == "src"]
    assert sources
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert "<script>alert(1)</script>" in page.words  # it is there to be read
    assert "\x1b" not in page.words
    policy = next(found["content"] for _, found in page.tags if found.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_nothing_that_others_wrote_is_markdown() -> None:
    text = to_markdown(REPORT)
    outside = re.sub(r"^````diff\n.*?^````$", "", text, flags=re.MULTILINE | re.DOTALL)
    outside = re.sub(r"^>.*\n", "", outside, flags=re.MULTILINE)
    assert "# no heading" not in outside
    assert "<script>" not in outside
    assert "<!--" not in outside
    assert not re.search(r"(?<!\\)\]\(javascript", outside)
    assert not re.search(r"(?<!\\)`code", outside)
    row = next(line for line in outside.splitlines() if line.startswith("| ") and line.endswith("| 1 |"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 3


def test_prose_is_rendered_without_links_pictures_and_html() -> None:
    page = to_html(REPORT)
    assert "<h4>Why</h4>" in page and "<li><em>one</em>" in page
    assert re.search(r"<pre><code>open\s*</code></pre>\s*</div>", page)
    quoted = [line for line in to_markdown(REPORT).splitlines() if line.startswith(">")]
    assert {"> # Why", "> ```", "> open"} <= set(quoted)
    text = "\n".join(quoted)
    assert "> - *one* ![x]\\(http://x)" in text
    assert "[a]\\: javascript:x" in text
    assert not re.search(r"<[a-z/!?]|\][(:\[]", text)


def test_what_is_open_is_no_failure() -> None:
    failed, opened = not_held(PROGRAM, every_outcome())
    told = [block.folded for block in opened.blocks if isinstance(block, Items)]
    assert told == ["Still open: 3", "Judged better, not merged: 1"]
    assert not any("open" in block.folded for block in failed.blocks if isinstance(block, Items))


def test_every_attempt_that_did_not_hold_is_told_once() -> None:
    history = every_outcome()
    sections = not_held(PROGRAM, history)
    blocks = [block for section in sections for block in section.blocks if isinstance(block, Items)]
    told = {item.partition(" (")[0]: block.folded for block in blocks for item in block.items}
    assert sum(len(block.items) for block in blocks) == len(told)
    others = (Outcome.FOREIGN, Outcome.PULLED, Outcome.IMPORTED)
    held = (Outcome.BASELINE, Outcome.PROMOTED, Outcome.STACKED, Outcome.HOLDS, *others)
    assert set(told) == {f"It is {outcome}" for outcome in Outcome if outcome not in held}
    assert told["It is reverted"] == "Promoted, then reverted: 1"
    assert told["It is discarded"] == "No better beyond noise: 1"


@pytest.mark.parametrize(
    ("failed_guard", "heading"), [("memory", "Refused by the guard memory"), ("", "Refused by a guard")]
)
def test_what_a_guard_refused_is_told_by_the_guards_name(failed_guard: str, heading: str) -> None:
    verdict = Verdict(Decision.DISCARD, "It is.", z=4.0, bar=3.5, failed_guard=failed_guard)
    item = replace(attempt(1, 2.0), verdict=verdict)
    (section,) = not_held(PROGRAM, History("b", "base", (item,)))
    (block,) = section.blocks
    assert isinstance(block, Items)
    assert block.folded == f"{heading}: 1"


@pytest.fixture
def told(measured: Path, ar: Ar) -> Path:
    """A campaign with one promoted change, whose hypothesis is hostile."""
    ar(measured, "next", "--set", "x=2.5", "-m", f"Nearer to the floor. {EVIL}")
    ar(measured, "run", "-n", "0", "--plain")
    return measured


def test_a_campaign_is_told_in_one_file(told: Path, ar: Ar) -> None:
    before = git(told, "rev-parse", "HEAD")
    assert "Wrote report.html" in ar(told, "report").stdout
    page = Page((told / "report.html").read_text(encoding="utf-8"))
    headings = [tag for tag, _ in page.tags if tag in ("h1", "h2", "h3")]
    assert headings.count("h2") >= 7
    for words in (
        *("Find the floor of the bowl.", "x 1.5 → 2.5", "Nearer to the floor.", "-x: 1.5"),
        *("95 % interval of the change in val_loss: −", "No closing audit"),
        *("What did not", f"git checkout {before}", "dvc repro", "What was spent", "1 promoted"),
    ):
        assert words in page.words, words
    pictures = [found["alt"] for tag, found in page.tags if tag == "img"]
    assert "Every attempt, in order" in pictures
    assert "What each promoted change gave" in pictures
    assert "script" not in {tag for tag, _ in page.tags}
    assert "http" not in " ".join(found.get("src") or "" for _, found in page.tags)
    assert git(told, "rev-parse", "HEAD") == before

    ar(told, "report", "-o", "report.md")
    text = (told / "report.md").read_text(encoding="utf-8")
    assert "### x 1.5 → 2.5" in text
    assert "\n-x: 1.5\n" in text
    assert "<script>" not in re.sub(r"```.*?```", "", text, flags=re.DOTALL)


@pytest.mark.slow
def test_seven_hundred_attempts_stay_readable(project: Path, ar: Ar) -> None:
    synthetic.fill(project, 700)
    ar(project, "report")
    content = (project / "report.html").read_text(encoding="utf-8")
    assert len(content) < 3_000_000
    page = Page(content)
    assert re.search(r"No better beyond noise: 6\d\d|Clearly worse: \d+", page.words)
    assert "more: ar show" in page.words
    assert run(project, "git", "status", "--porcelain").stdout.strip() == "?? report.html"


@pytest.mark.parametrize(
    ("arguments", "said"), [(["-o", "report.pdf"], "no report ends in '.pdf'"), ([], "nothing to report")]
)
def test_what_cannot_be_told_is_said(project: Path, ar: Ar, arguments: list[str], said: str) -> None:
    done = ar(project, "report", *arguments, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert not list(project.glob("report*"))

"""`ar ui` over HTTP: who is let in, what the pages tell, what they never do, and what news is sent."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlencode

import pytest

pytest.importorskip("starlette", reason="the web server of ar ui is not installed")

from click.testing import CliRunner
from helpers import allow, git, names_of, wait_for
from judged import WIN, tried
from pages import PROMOTED, Answer, Served, history_of, short_campaign
from test_outputs import OBEYED

from ar.cli.main import cli
from ar.errors import BadState
from ar.git import refs
from ar.git.references import ZERO
from ar.git.repo import Repo
from ar.history.records import History
from ar.local import joined
from ar.page import render
from ar.page.app import statics
from ar.page.export import export
from ar.page.guard import Gate
from ar.page.render import STATIC
from ar.page.rows import Rows
from ar.project.program_file import load
from ar.serve.desk import is_at_work


@pytest.fixture(scope="module")
def root(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return short_campaign(template, tmp_path_factory.mktemp("page") / "project")


@pytest.fixture(scope="module")
def site(root: Path) -> Iterator[Served]:
    with Served(root) as served:
        yield served


def pages(site: Served) -> list[str]:
    """Every page and part of one that there is."""
    names = sorted(refs.name_of(ref) for ref in Repo.open(site.root).refs(refs.EXPS))
    paths = [
        "/",
        "/matters",
        "/compare",
        f"/compare?a=bad&b={names[0]}",
        *(f"/experiment/{name}" for name in names),
    ]
    found = [site.ask(path) for path in paths]
    assert [answer.status for answer in found] == [200] * len(paths)
    parts = [data for name, data in site.events("/events?since=0", 8) if name != "rows"]
    return [*(answer.text for answer in found), *parts]


# -- who is let in ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "/events", "/static/page.css", "/experiment/bad", "/nowhere", "/?token=", "/?token=x"]
)
def test_nobody_is_let_in_without_the_cookie(site: Served, path: str) -> None:
    answer = site.ask(path, known=False)
    assert answer.status == 401 and "val_loss" not in answer.text and "set-cookie" not in answer.headers
    wrong = site.ask(
        path, headers={"Cookie": f"{site.gate.cookie}=x; other={site.gate.session}"}, known=False
    )
    assert wrong.status == 401


def test_a_link_lets_one_browser_in(site: Served) -> None:
    link = site.gate.link.partition(str(site.port))[2]
    first = site.ask(link, known=False)
    assert first.status == 200 and site.links[-1] == site.gate.link
    assert re.fullmatch(r"ar-\d+=[\w-]{40,}; Path=/; HttpOnly; SameSite=Strict", first.headers["set-cookie"])
    assert site.ask(link, known=False).status == 401
    cookie = first.headers["set-cookie"].partition(";")[0]
    assert site.ask("/", headers={"Cookie": f"theirs=1; {cookie}"}, known=False).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "127.0.0.1:{port}.evil.example", "",
     "0.0.0.0:{port}", "10.0.0.1:{port}", "localhost.evil.example:{port}", "127.0.0.1:{port}@evil.example",
     "127.0.0.1:{port}0"],
)  # fmt: skip
def test_a_host_that_is_not_ours_is_refused(site: Served, host: str) -> None:
    assert site.ask("/", headers={"Host": host.format(port=site.port)}).status in (400, 403)


def test_more_than_one_host_is_refused(site: Served) -> None:
    ours = f"127.0.0.1:{site.port}"
    assert site.ask("/", headers={"Host": [ours, "evil.example"]}).status in (400, 403)
    assert site.ask("/", headers={"Host": f"localhost:{site.port}"}).status == 200


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "https://127.0.0.1:{port}"},
     {"Origin": "http://127.0.0.1"}, {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
     {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}],
)  # fmt: skip
def test_another_site_is_refused(site: Served, headers: dict[str, str]) -> None:
    given = {name: value.format(port=site.port) for name, value in headers.items()}
    assert site.ask("/events", headers=given).status == 403
    assert site.ask("/", headers={"Origin": site.origin}).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/", "/experiment/bad", "/queue", "/note", "/stop/bad"])
def test_nothing_can_be_written(site: Served, method: str, path: str) -> None:
    assert site.ask(path, method).status == 403
    assert site.ask(path, method, headers={"Origin": site.origin}).status in (404, 405)


@pytest.mark.parametrize(
    "path",
    ["/static/../page/app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static//etc/passwd",
     "/static/vendor/../../app.py", "/static/vendor/VENDORED", "/static/page.css%00",
     "/experiment/..%2f..%2fetc%2fpasswd", "/experiment/--help", "/experiment/%00",
     "/experiment/HEAD", "/../../etc/passwd", "/compare?a=--help&b=../../etc/passwd"],
)  # fmt: skip
def test_no_path_leads_out(site: Served, path: str) -> None:
    answer = site.ask(path)
    assert answer.status in (400, 404)
    assert "root:" not in answer.text and "import" not in answer.text and "Traceback" not in answer.text


def test_every_answer_forbids_what_a_page_needs_not(site: Served) -> None:
    for path, known in (
        ("/", True),
        ("/", False),
        ("/nowhere", True),
        ("/static/page.js", True),
        ("/experiment/none", True),
    ):
        headers = site.ask(path, known=known).headers
        policy = headers["content-security-policy"]
        assert (
            policy.startswith("default-src 'self';")
            and "unsafe" not in policy
            and "frame-ancestors 'none'" in policy
        )
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"


def test_elsewhere_than_here_has_to_be_asked_for() -> None:
    done = CliRunner().invoke(cli, ["ui", "--host", "0.0.0.0"])
    assert done.exit_code == 2 and "--allow-remote" in done.output
    far = Gate("0.0.0.0", 8157, is_remote=True)
    assert (
        far.is_ours("192.168.7.7:8157")
        and far.is_ours("[fe80::1]:8157")
        and not far.is_ours("evil.example:8157")
    )
    assert far.link.startswith("http://127.0.0.1:8157/?token=")


# -- what the pages tell ----------------------------------------------------------------------------------


def test_the_page_tells_how_the_campaign_stands(site: Served) -> None:
    page = site.ask("/").text
    data = json.loads(re.search(r'id="campaign">(.*?)</script>', page, re.DOTALL)[1])  # type: ignore[index]
    rows = [dict(zip(data["fields"], row, strict=True)) for row in data["rows"]]
    assert [row["outcome"] for row in rows].count("discarded") == 2
    crashed = next(row for row in rows if row["outcome"] == "crashed")
    assert crashed["value"] is None and crashed["agent"] == "claude"
    lost = next(row for row in rows if row["title"] == "x 1.5 → 1.7")
    assert (lost["effect"], lost["effect_error"], lost["reason"]) == (0.1, 0.01, "Worse.")
    assert data["low"] < 1.5 < 2.31 < data["high"] and data["base"][0] == pytest.approx(2.32)
    assert {row["state"] for row in rows} == {0} and data["states"][0][1] == "baseline"


def test_an_experiment_has_a_page(site: Served) -> None:
    page = site.ask("/experiment/x-1.5-1.7").text
    assert "Worse." in page and "Because." in page and '<span class="add">+x:' in page
    [pairs] = re.findall(r'data-chart[^>]*><script type="application/json">(.*?)</script>', page)
    assert json.loads(pairs)["layer"][1]["data"]["values"][0]["side"] == "the branch"


def test_two_are_put_side_by_side(site: Served) -> None:
    page = site.ask("/compare?a=x-1.5-1.7&b=x-1.5-1.8").text
    assert "+x: 1.8" in re.sub(r"<[^>]+>", "", page) and "1 seed of both" in page


def test_a_row_is_another_only_where_it_reads_otherwise(root: Path) -> None:
    program, history, rows = load(root), history_of(root), Rows()
    before, _ = rows.of(program, history)

    def noisier(by: float) -> History:
        """The same with another noise."""
        errors = ((item, item.standard_error) for item in history.attempts)
        found = (replace(item, standard_error=by * error if error else None) for item, error in errors)
        return replace(history, attempts=tuple(found))

    assert all(a is b for a, b in zip(before, rows.of(program, noisier(1.0001))[0], strict=True))
    after, _ = rows.of(program, noisier(2.0))
    assert {a is b for a, b in zip(before, after, strict=True)} == {a.error is None for a in before}
    unhidden, _ = rows.of(replace(program, holdout=None), history)
    assert [row.title for row in unhidden] == [row.title for row in before]
    assert not any(a is b for a, b in zip(after, unhidden, strict=True))  # what may be told is another


def test_what_changes_is_sent_and_nothing_else(root: Path, site: Served) -> None:
    page = site.ask("/").text
    since = re.search(r"/events\?since=(\d+)", page)[1]  # type: ignore[index]
    repo = Repo.open(root)
    [won] = [run for run in history_of(root).experiments if run.params["params.yaml:x"] == 1.8]
    repo.update_note(won.rev, lambda note: {**note, "verdict": PROMOTED})
    events = dict(site.events(f"/events?since={since}", 2))
    assert set(events) == {"waiting", "rows"}
    [row] = json.loads(events["rows"])["rows"]
    assert won.name in row and "winner" in row
    assert won.name in events["waiting"]


def test_what_waits_elsewhere_is_told(root: Path, site: Served) -> None:
    repo, ref = Repo.open(root), f"{refs.at_remote('origin', refs.QUEUE)}/far"
    assert "Elsewhere" not in site.ask("/").text
    joined.add(repo, "origin")
    repo.update_refs((ref, repo.head(), ZERO))
    try:
        wait_for(lambda: "Elsewhere: 1 waiting." in site.ask("/").text)
    finally:
        repo.update_refs((ref, ZERO, repo.head()))


# -- what they never tell or do ---------------------------------------------------------------------------


class _Tags(HTMLParser):
    """Every tag of a page that could run or load something."""

    def __init__(self) -> None:
        super().__init__()
        self.bad: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        runs = tag == "script" and given.get("type") != "application/json" and "src" not in given
        runs |= any(name.startswith("on") or name == "style" for name in given)
        places = [given.get(name) or "" for name in ("src", "href", "action", "sse-connect", "hx-get")]
        if runs or tag in ("img", "iframe", "object", "base", "style") or not all(map(_is_here, places)):
            self.bad.append((tag, given))


def _is_here(place: str) -> bool:
    return not place or (place.startswith(("/", "#")) and not place.startswith("//"))


def test_what_others_wrote_is_text(site: Served) -> None:
    for text in pages(site):
        parser = _Tags()
        parser.feed(text)
        assert not parser.bad
        assert not OBEYED.search(text)


def test_a_mark_that_nobody_sees_is_shown_in_a_change(site: Served) -> None:
    change = re.sub(r"<[^>]+>", "", site.ask("/experiment/bad").text)
    assert "␛[2J" in change and "⟨U+202E⟩" in change


def test_the_holdout_is_in_nothing(site: Served) -> None:
    told = pages(site)
    assert not [text for text in told if "0.7345" in text]
    assert any("[holdout]" in text for text in told)


def test_an_expression_of_a_templates_is_none_of_an_experiments() -> None:
    page = render.Pages()("error.html", said="{{ 7 * 7 }}<b>{% raw %}&")
    assert "{{ 7 * 7 }}&lt;b&gt;{% raw %}&amp;" in page


# -- steering ---------------------------------------------------------------------------------------------


@pytest.fixture
def steered(root: Path) -> Iterator[Served]:
    with Served(root, may_steer=True) as served:
        yield served


def post(
    site: Served, what: str, token: str | None = None, origin: str | None = None, **given: str
) -> Answer:
    body = urlencode({**given, "form_token": site.gate.form_token if token is None else token})
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    return site.ask(f"/steer/{what}", "POST", {"Origin": origin or site.origin, **kind}, body)


def test_a_form_of_another_page_does_nothing(steered: Served, site: Served, root: Path) -> None:
    change = {"params": "x=1.625"}
    assert post(steered, "change", token="", **change).status == 403
    assert post(steered, "change", token="x" * 64, **change).status == 403
    assert post(steered, "change", origin="http://evil.example", **change).status == 403
    assert steered.ask("/steer/change", "POST", {"Origin": steered.origin}, "x=1", known=False).status == 401
    assert steered.ask("/steer/change?params=x%3D1.625", headers={"Origin": steered.origin}).status == 405
    assert post(steered, "change", params="x" * 4_000_000).status == 413
    assert post(site, "change", **change).status == 404  # it was not started with --control
    assert "form_token" not in site.ask("/").text and site.gate.session not in steered.ask("/").text
    assert names_of(root, refs.QUEUE) == []


@pytest.mark.slow
def test_what_is_asked_for_is_done(steered: Served, root: Path) -> None:
    assert 'class="said "' in post(steered, "change", params="x=1.625", why="Nearer <b>still</b>").text
    [name] = names_of(root, refs.QUEUE)
    assert "Nearer &lt;b&gt;still" in steered.ask(f"/experiment/{name}").text
    again = post(steered, "change", params="x=1.625").text
    assert "said bad" in again and name in again
    assert "said bad" in post(steered, "change", params="dvc.yaml=1").text
    assert "said bad" in post(steered, "change", patch="--- a/../x\n+++ b/../x\n@@ -0,0 +1 @@\n+x\n").text
    assert "said bad" in post(steered, "idea", idea="Try more").text  # the embedded agent reads no sentences
    assert "Noted" in post(steered, "note", text="x matters", cites=name).text
    assert "Queued 2 runs" in post(steered, "seeds", name=name, count="2").text
    runs = [run for run in history_of(root).experiments if run.params["params.yaml:x"] == 1.625]
    assert {run.seed for run in runs} == {1, 2, 3}
    assert "ended" in post(steered, "stop", name=name).text
    wait_for(lambda: f"{name} cancelled" in steered.ask("/").text)
    assert name not in names_of(root, refs.QUEUE)


def test_what_fails_by_itself_is_told(steered: Served) -> None:
    assert "being promoted" in post(steered, "promote", name="nobody").text
    wait_for(lambda: "no experiment is called" in steered.ask("/").text)


HOLDS = """\
import time
from ar.git.repo import Repo
from ar.local import locks
with locks.hold(Repo.open(), "run"):
    time.sleep(60)
"""


def at_work(root: Path) -> bool:
    return is_at_work(Repo.open(root))


def test_what_runs_is_paused(steered: Served, root: Path) -> None:
    allow(root)
    assert "goes back to the queue" in post(steered, "pause").text
    wait_for(lambda: "nothing runs here" in steered.ask("/").text)
    with subprocess.Popen([sys.executable, "-c", HOLDS], cwd=root) as process:  # in the place of an `ar run`
        wait_for(lambda: at_work(root))
        assert "said bad" in post(steered, "go-on").text
        assert "said bad" not in post(steered, "pause").text
        wait_for(lambda: f"ended ar run (process {process.pid})" in steered.ask("/").text)
    assert not at_work(root)


def test_it_goes_on_with_a_number_at_once_only(steered: Served, root: Path) -> None:
    for jobs in ("0", "65", "-1", "two", "1" * 9):
        assert "said bad" in post(steered, "go-on", jobs=jobs).text
    assert not at_work(root)


@pytest.mark.slow
def test_it_goes_on_until_it_is_paused(measured: Path) -> None:
    runs = len(history_of(measured).experiments)
    with Served(measured, may_steer=True) as steered:
        assert "ar run -j 2 has begun" in post(steered, "go-on", jobs="2").text
        try:
            wait_for(lambda: sum(run.status.ended for run in history_of(measured).experiments) > runs)
        finally:
            post(steered, "pause")
            wait_for(lambda: not at_work(measured))
        wait_for(lambda: "nothing is lost" in steered.ask("/").text)
    assert names_of(measured, refs.RUNNING) == []


def test_a_winner_is_promoted(measured: Path) -> None:
    won = tried(measured, WIN, 2.9)
    with Served(measured, may_steer=True) as steered:
        assert "being promoted" in post(steered, "promote", name=won.name).text
        wait_for(lambda: f"merged {won.name}" in steered.ask("/").text)
        page = steered.ask("/").text
    head = git(measured, "rev-parse", "HEAD")
    assert head[:9] in page and "x: 2.9" in (measured / "params.yaml").read_text()
    assert history_of(measured).promoted[0].name == won.name


# -- as files ---------------------------------------------------------------------------------------------


def test_it_is_written_as_files(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    for _ in range(2):  # what we wrote, we may write again
        count = export(root, folder, print)
    texts = {path: path.read_text() for path in folder.rglob("*.html")}
    assert len(texts) == count + 1 and not OBEYED.search("".join(texts.values()))
    assert not [path for path, text in texts.items() if "0.7345" in text or "form" + "_token" in text]
    for path, text in texts.items():
        for place in re.findall(r'(?:src|href)="([^"#]+)"', text):
            assert (path.parent / unquote(place)).is_file(), (path, place)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(BadState):
        export(root, tmp_path / "mine", print)


@pytest.mark.parametrize("name", ["../../x", "a/b", "-rf", ".git", "x" * 300, "<b>", "ü", "a b", "con"])
def test_a_page_of_any_name_is_a_file_inside_the_folder(name: str) -> None:
    made = render.file_name(name)
    assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,130}\.html", made)
    assert made != render.file_name(f"{name}_")


# -- what others made -------------------------------------------------------------------------------------


def test_the_scripts_of_others_are_as_they_were_written_down() -> None:
    lines = (STATIC / "vendor" / "VENDORED").read_text().splitlines()
    known = [line.split(" | ") for line in lines if line and not line.startswith("#")]
    scripts = {path.name for path in (STATIC / "vendor").glob("*.js")}
    assert {row[0] for row in known} == scripts
    for name, *_, wanted in known:
        assert hashlib.sha256((STATIC / "vendor" / name).read_bytes()).hexdigest() == wanted, name
    assert {f"vendor/{name}" for name in scripts} | {"page.css", "page.js"} <= statics().keys()


def test_no_file_of_the_page_names_another_host() -> None:
    for path in [*STATIC.glob("*.*"), *(STATIC.parent / "templates").rglob("*.html")]:
        assert not re.search(r"(?:src|href|url|import)\W{1,3}https?:", path.read_text()), path

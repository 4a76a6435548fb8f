"""`ar read`: a card of what a local server says in arXiv's or OpenAlex's place, and nothing of it trusted."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest
from helpers import Ar, commit, snapshot

from ar.errors import ArError, BadState, NotFound
from ar.git.repo import Repo
from ar.project import paper_online
from ar.project.paper_online import Paper, Service, fetch, meant
from ar.project.papers import Card

ENTRY = """<entry><id>http://arxiv.org/abs/2502.16982v1</id><title>Muon is
  Scalable</title><published>2025-02-24T00:00:00Z</published><summary>  We show &lt;it&gt; works.
</summary><author><name>A. One</name></author><author><name>B. Two</name></author></entry>"""
HEAD = '<?xml version="1.0" encoding="UTF-8"?>'
FEED = f'{HEAD}<feed xmlns="http://www.w3.org/2005/Atom"><title>Query</title>{{}}</feed>'
ERROR = "<entry><id>http://arxiv.org/api/errors#bad</id><title>Error</title><summary>bad id</summary></entry>"
WORK = {
    "title": "A work",
    "doi": "https://doi.org/10.1000/xyz",
    "publication_year": 2024,
    "authorships": [{"author": {"display_name": "C. Three"}}],
    "abstract_inverted_index": {"twice": [1, 3], "Said": [0], "and": [2]},
}
LAUGHS = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;">]>'
ARXIV, OPENALEX = Paper(Service.ARXIV, "2502.16982"), Paper(Service.OPENALEX, "doi:10.1000/xyz")
Answers = Callable[..., list[str]]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    """Starts a server that answers everything alike; returns the paths that it is asked for."""
    servers = []

    def start(body: bytes | str, status: int = 200, pause: float = 0.0, **headers: str) -> list[str]:
        content, asked = body.encode() if isinstance(body, str) else body, list[str]()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                try:
                    for start in range(0, len(content), 1 if pause else max(1, len(content))):
                        self.wfile.write(content[start : start + 1] if pause else content)
                        if pause:
                            time.sleep(pause)
                except OSError:
                    pass

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        server.block_on_close = False
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        for service in Service:
            monkeypatch.setenv(service.value[0], f"http://127.0.0.1:{server.server_address[1]}")
        return asked

    monkeypatch.setattr(paper_online, "APART", 0.0)
    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("said", "paper"),
    [
        ("arXiv:2502.16982", ARXIV),
        ("arxiv: 2502.16982", ARXIV),
        ("https://arxiv.org/abs/2502.16982", ARXIV),
        ("https://www.arxiv.org/pdf/2502.16982.pdf", ARXIV),
        ("arXiv:cs/0112017v1", Paper(Service.ARXIV, "cs/0112017v1")),
        ("10.48550/arXiv.2502.16982", ARXIV),
        ("10.1000/xyz", OPENALEX),
        ("doi:10.1000/xyz", OPENALEX),
        ("https://doi.org/10.1000/xyz", OPENALEX),
        ("https://dl.acm.org/doi/abs/10.1000/xyz?x=1", OPENALEX),
        ("https://openalex.org/W123", Paper(Service.OPENALEX, "W123")),
        ("value embeddings", None),
        ("2502.16982", None),
        ("", None),
    ],
)
def test_what_is_meant(said: str, paper: Paper | None) -> None:
    assert meant(said) == paper


@pytest.mark.parametrize(
    "said", ["https://example.com/paper.pdf", "http://[", "https://arxiv.org/list/cs.LG"]
)
def test_a_url_that_names_no_paper_is_refused(said: str) -> None:
    with pytest.raises(NotFound):
        meant(said)


def test_a_card_of_arxiv(answers: Answers, project: Path, ar: Ar) -> None:
    asked = answers(FEED.format(ENTRY + ENTRY.replace("Muon", "Other")))
    before = snapshot(project)
    printed = ar(project, "read", "arXiv:2502.16982", env=dict(os.environ)).stdout
    card = Card.parse("muon", printed.encode())
    assert (card.title, card.source, card.claim) == ("Muon is Scalable", "arXiv:2502.16982", "")
    assert card.prose == "By A. One, B. Two, 2025. The abstract:\n\n> We show <it> works."
    assert asked == ["/?id_list=2502.16982&max_results=1"]
    assert snapshot(project) == before


def test_a_card_of_openalex(answers: Answers, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENALEX_API_KEY", "k y")
    asked = answers(json.dumps(WORK))
    card = fetch(Repo.open(project), OPENALEX)
    assert (card.name, card.title, card.source) == ("a-work", "A work", "doi:10.1000/xyz")
    assert card.prose == "By C. Three, 2024. The abstract:\n\n> Said twice and twice"
    assert asked == ["/works/doi:10.1000/xyz?api_key=k+y"]


@pytest.mark.parametrize(
    ("body", "paper"),
    [
        (FEED.format(ERROR), ARXIV),
        (FEED.format(""), ARXIV),
        (HEAD + LAUGHS + FEED.format(ENTRY.replace("Muon", "&c;")).removeprefix(HEAD), ARXIV),
        (f'<?xml version="1.0" encoding="UTF-16"?>{LAUGHS}<a/>'.encode("utf-16"), ARXIV),
        (FEED.format("<entry>" * 100_000), ARXIV),
        (FEED.format(ENTRY)[:-20], ARXIV),
        (FEED.format(ENTRY.replace("Muon is\n  Scalable", "")), ARXIV),
        ("not xml", ARXIV),
        (b"\xff\x00", OPENALEX),
        ("[" * 100_000, OPENALEX),
        ("[]", OPENALEX),
        ("{}", OPENALEX),
        (json.dumps({"title": [1], "authorships": [7], "abstract_inverted_index": {"a": "b"}}), OPENALEX),
        (" " * (paper_online.MOST_BYTES + 1), OPENALEX),
    ],
    ids=range(14),
)
def test_any_answer_is_a_card_or_a_refusal(
    body: str | bytes, paper: Paper, answers: Answers, project: Path
) -> None:
    answers(body)
    try:
        card = fetch(Repo.open(project), paper)
    except (BadState, NotFound):
        return
    assert card.title == "[1]"  # odd, but text


@pytest.mark.parametrize("status", [301, 302, 400, 403, 404, 429, 500, 503])
def test_a_status_is_told(status: int, answers: Answers, project: Path) -> None:
    asked = answers("", status, Location="http://localhost:1/elsewhere")
    with pytest.raises(ArError, match=r"knows no such paper" if status in (400, 404) else str(status)):
        fetch(Repo.open(project), ARXIV)
    assert len(asked) == 1


def test_a_server_that_drips_is_left(
    answers: Answers, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(FEED.format(ENTRY), pause=0.3)
    monkeypatch.setattr(paper_online, "SECONDS", 0.6)
    with pytest.raises(BadState, match="silent"):
        fetch(Repo.open(project), ARXIV)


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "file:///etc/passwd", "ftp://127.0.0.1/x", "x"])
def test_without_network_it_says_so(address: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper_online, "APART", 0.0)
    monkeypatch.setenv("AR_ARXIV_URL", address)
    with pytest.raises(BadState, match="cannot be reached"):
        fetch(Repo.open(project), ARXIV)


def test_requests_are_apart(answers: Answers, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(FEED.format(ENTRY))
    waited: list[float] = []
    clock = SimpleNamespace(sleep=waited.append, time=time.time)  # other threads of this process sleep, too
    monkeypatch.setattr(paper_online, "time", clock)
    monkeypatch.setattr(paper_online, "APART", 3600.0)  # longer than a busy machine takes between the two
    for _ in range(2):
        fetch(Repo.open(project), ARXIV)
    assert len(waited) == 1 and 0.0 < waited[0] <= 3600.0
    (Repo.open(project).own_folder() / "read.asked").touch()
    os.utime(Repo.open(project).own_folder() / "read.asked", (2**33, 2**33))  # the clock was put back
    fetch(Repo.open(project), ARXIV)
    assert waited[-1] == 3600.0


def test_other_words_look_through_the_cards(project: Path, ar: Ar) -> None:
    assert "no cards" in ar(project, "read").stdout
    (project / "papers").mkdir()
    (project / "papers" / "muon.md").write_text(
        "---\ntitle: Muon\nsource: arXiv:2502.16982\n---\nProse here.\n"
    )
    (project / "papers" / "odd.md").write_text("nothing\n")
    commit(project, "Add cards")
    listed = ar(project, "read").stdout
    assert "muon  Muon  arXiv:2502.16982" in listed
    assert "papers/odd.md is no card" in listed
    assert "Prose here." in ar(project, "read", "prose").stdout
    assert "No card" in ar(project, "read", "quantum", "gravity").stdout

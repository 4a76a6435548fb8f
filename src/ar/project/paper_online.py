"""A card made of what arXiv or OpenAlex says of a paper: asked only when somebody wants that very paper.

Requests of one clone are three seconds apart, as arXiv asks for (https://info.arxiv.org/help/api/tou.html),
and bounded in time and size. Answers are data: the Atom feed is read without document types, hence without
entities.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import queue
import re
import textwrap
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit
from xml.parsers import expat

from ar import formats
from ar.errors import BadState, NotFound
from ar.formats import BadData
from ar.git.repo import Repo
from ar.local import locks
from ar.project import papers
from ar.project.papers import BadCard, Card
from ar.text import one_line, shorten_middle

APART = 3.0  # seconds between two requests
SECONDS = 30.0  # for one answer
MOST_BYTES = 2_000_000  # of one answer
_MOST_AUTHORS, _MOST_ABSTRACT, _WIDTH = 5, 5_000, 100
_ATOM = "http://www.w3.org/2005/Atom"
_ARXIV = r"(?P<arxiv>[0-9]{4}\.[0-9]{4,5}(?:v[0-9]+)?|[a-z-]+(?:\.[A-Z]{2})?/[0-9]{7}(?:v[0-9]+)?)"
_ARXIV_ID = re.compile(rf"arxiv:\s*{_ARXIV}", re.IGNORECASE)
_ARXIV_PATH = re.compile(rf"/(?:abs|pdf|html)/{_ARXIV}(?:\.pdf)?/?")
_DOI = re.compile(r"10\.[0-9]{4,9}/[^\s?#]+")
_DOI_OF_ARXIV = re.compile(rf"10\.48550/arxiv\.{_ARXIV}", re.IGNORECASE)
_WORK = re.compile(r"/(?:works/)?(?P<work>W[0-9]+)", re.IGNORECASE)
_BY_HAND = "write the card by hand instead: see docs/agents.md"


class Service(Enum):
    """Who is asked, and where: an environment variable may name another address."""

    ARXIV = ("AR_ARXIV_URL", "https://export.arxiv.org/api/query")
    OPENALEX = ("AR_OPENALEX_URL", "https://api.openalex.org")

    @property
    def address(self) -> str:
        variable, usual = self.value
        return os.environ.get(variable) or usual


@dataclass(frozen=True)
class Paper:
    """Which paper somebody means: its id, as that service knows it."""

    service: Service
    id: str


def meant(said: str) -> Paper | None:
    """The paper that `arXiv:ID`, a DOI or a URL names; None for other words.

    Raises:
        NotFound: a URL that names none.
    """
    said = said.strip()
    if not re.match(r"https?://", said, re.IGNORECASE):
        if found := _ARXIV_ID.fullmatch(said):
            return Paper(Service.ARXIV, found["arxiv"])
        return _by_doi(re.sub(r"^doi:\s*", "", said, flags=re.IGNORECASE))
    with contextlib.suppress(ValueError):
        url = urlsplit(said)
        host, path = (url.hostname or "").removeprefix("www."), unquote(url.path)
        if host in ("arxiv.org", "export.arxiv.org") and (found := _ARXIV_PATH.fullmatch(path)):
            return Paper(Service.ARXIV, found["arxiv"])
        if host in ("openalex.org", "api.openalex.org") and (found := _WORK.fullmatch(path)):
            return Paper(Service.OPENALEX, found["work"].upper())
        if found := _DOI.search(path):
            return _by_doi(found[0])
    raise NotFound(f"'{one_line(said)[:200]}' names no paper of arXiv or OpenAlex, and no DOI", _BY_HAND)


def _by_doi(doi: str) -> Paper | None:
    if found := _DOI_OF_ARXIV.fullmatch(doi):
        return Paper(Service.ARXIV, found["arxiv"])
    return Paper(Service.OPENALEX, f"doi:{doi}") if _DOI.fullmatch(doi) else None


def fetch(repo: Repo, paper: Paper) -> Card:
    """A card of what the service says of a paper: its title, and its abstract as prose. Its claim is for the
    reader to add.

    Raises:
        BadState: the service cannot be reached, or answers something else.
        NotFound: it knows no such paper.
    """
    with locks.hold(repo, "read"):
        asked = repo.own_folder() / "read.asked"
        with contextlib.suppress(FileNotFoundError):
            time.sleep(min(APART, max(0.0, asked.stat().st_mtime + APART - time.time())))
        try:
            answer = _answer(_url(paper), urlsplit(paper.service.address).hostname or "it")
        finally:
            asked.touch()
    try:
        made = _of_atom(answer, paper.id) if paper.service is Service.ARXIV else _of_work(answer, paper.id)
        return Card.parse(made.name, papers.rendered(made).encode())
    except (BadData, BadCard, expat.ExpatError) as error:
        what = shorten_middle(one_line(str(error)), 200)
        raise BadState(f"the answer on {paper.id} cannot be read: {what}", _BY_HAND) from None


def _url(paper: Paper) -> str:
    if paper.service is Service.ARXIV:
        return f"{paper.service.address}?{urlencode({'id_list': paper.id, 'max_results': 1})}"
    key = os.environ.get("OPENALEX_API_KEY")  # free; without one OpenAlex answers a few questions a day
    query = f"?{urlencode({'api_key': key})}" if key else ""
    return f"{paper.service.address.rstrip('/')}/works/{quote(paper.id, safe='/:')}{query}"


# -- the request ------------------------------------------------------------------------------------------


class _SameHost(urllib.request.HTTPRedirectHandler):
    """Follows a redirection only to where it was sent from."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if (old.scheme, old.netloc) != (new.scheme, new.netloc):
            return None
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _answer(url: str, host: str) -> bytes:
    """What a server answers, within the bounds.

    Raises:
        BadState: it does not, or with too much.
        NotFound: it knows no such thing.
    """
    try:
        content = _got(url)
    except urllib.error.HTTPError as error:
        if error.code in (400, 404):
            raise NotFound(f"{host} knows no such paper", "check its id") from None
        mend = "wait a while, then try again"
        if error.code in (401, 403, 429) and "openalex" in host:
            mend = "set OPENALEX_API_KEY, which is free, or wait a while"
        raise BadState(f"{host} answered with {error.code}", mend) from None
    except TimeoutError:
        raise BadState(f"{host} was silent for {SECONDS:g} s", f"try again later, or {_BY_HAND}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        why = one_line(str(getattr(error, "reason", error)))[:200]
        raise BadState(f"{host} cannot be reached: {why}", f"it needs the network; or {_BY_HAND}") from None
    if len(content) > MOST_BYTES:
        raise BadState(f"{host} answered with more than {MOST_BYTES:,} bytes", _BY_HAND)
    return content


def _got(url: str) -> bytes:
    """Asked in a thread: no other limit holds for a server that sends a byte now and then."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        _SameHost(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    results: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            request = urllib.request.Request(url, headers={"User-Agent": "dvc-ar"})  # noqa: S310 - HTTP alone
            with opener.open(request, timeout=SECONDS) as response:
                results.put(response.read(MOST_BYTES + 1))
        except Exception as error:  # raised again below
            results.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        result = results.get(timeout=SECONDS)
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(result, urllib.error.URLError) and isinstance(result.reason, TimeoutError):
        raise result.reason
    if isinstance(result, Exception):
        raise result
    return result


# -- the answers ------------------------------------------------------------------------------------------


def _of_atom(content: bytes, wanted: str) -> Card:
    entry = _entry(content)
    where = "".join(entry.get("id", []))
    if "/abs/" not in where:  # errors are entries, too
        raise NotFound(f"arXiv knows no paper {wanted}", "check its id")
    year = "".join(entry.get("published", []))[:4]
    title, abstract = ("".join(entry.get(key, [])) for key in ("title", "summary"))
    return _made(title, f"arXiv:{wanted}", abstract, entry.get("author name", []), year)


def _entry(content: bytes) -> dict[str, list[str]]:
    """Texts of the first entry of an Atom feed, by the path of their elements below it."""
    texts: dict[str, list[str]] = {}
    path: list[str] = []
    begun = [0]
    parser = expat.ParserCreate(namespace_separator=" ")

    def doctype(*_: object) -> None:
        raise BadData("it declares a document type")

    def start(name: str, _: object) -> None:
        space, _, local = name.rpartition(" ")
        path.append(local if space == _ATOM else f"other:{local}")
        if len(path) > formats.MOST_DEPTH:
            raise BadData(f"nested more than {formats.MOST_DEPTH} deep")
        begun[0] += path == ["feed", "entry"]
        if begun[0] == 1 and path[:2] == ["feed", "entry"]:
            texts.setdefault(" ".join(path[2:]), []).append("")

    def end(_: str) -> None:
        path.pop()

    def text(data: str) -> None:
        if begun[0] == 1 and path[:2] == ["feed", "entry"]:
            texts[" ".join(path[2:])][-1] += data

    parser.StartDoctypeDeclHandler = doctype
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = text
    parser.Parse(content, True)
    return texts


def _of_work(content: bytes, wanted: str) -> Card:
    work = formats.load_json(content, MOST_BYTES)
    if not isinstance(work, dict):
        raise BadData("it is no work")
    doi = str(work.get("doi") or "").rpartition("doi.org/")[2]
    source = f"doi:{doi}" if doi else wanted
    if not doi and wanted.startswith("W"):
        source = f"https://openalex.org/{wanted}"
    authors = work.get("authorships")
    people = (
        (item.get("author") for item in authors if isinstance(item, dict))
        if isinstance(authors, list)
        else ()
    )
    names = [str(person.get("display_name") or "") for person in people if isinstance(person, dict)]
    title, year = str(work.get("title") or ""), str(work.get("publication_year") or "")
    return _made(title, source, _abstract(work.get("abstract_inverted_index")), names, year)


def _abstract(index: object) -> str:
    """An abstract from its words' places, which is how OpenAlex tells it."""
    if not isinstance(index, dict):
        return ""
    placed = [
        (place, word)
        for word, places in index.items()
        if isinstance(places, list)
        for place in places
        if isinstance(place, int)
    ]
    return " ".join(word for _, word in sorted(placed))


def _made(title: str, source: str, abstract: str, authors: list[str], year: str) -> Card:
    title = one_line(title)
    slug = re.sub(r"[^a-z0-9]+", "-", title.lower())[:50].strip("-")
    people = [one_line(name)[:60] for name in authors[:_MOST_AUTHORS]]
    people += ["and others"] if len(authors) > _MOST_AUTHORS else []
    told = ", ".join(filter(None, [*people, one_line(year)[:4]]))
    words = shorten_middle(one_line(abstract), _MOST_ABSTRACT) or "(none is told)"
    quoted = textwrap.fill(words, _WIDTH, initial_indent="> ", subsequent_indent="> ")
    prose = f"{f'By {told}. ' if told else ''}The abstract:\n\n{quoted}"
    return Card(slug or "paper", title, source, status="untried", prose=prose)

"""What an agent does with what is remembered: it writes into the notebook, and takes up a near miss."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from ar.agents import digest, literature
from ar.agents.base import Briefing
from ar.agents.fence import fence
from ar.changes.merging import merge
from ar.errors import ArError, BadProposal, NotFound
from ar.git.repo import Repo
from ar.history import notebook
from ar.history.attempts import find
from ar.history.ideas import Proposal
from ar.history.notebook import Entry, Standing
from ar.project.project import Project
from ar.text import one_line, plain

MOST_NOTES = 5  # of one agent for one proposal
_MOST_SHOWN = 40  # lessons that one look finds
_NOTE = re.compile(
    rf"(?:(?P<of>[0-9a-f]{{8,40}}) +)?(?:(?P<standing>{'|'.join(Standing)}) *[:,] *)?(?P<text>.*)",
    re.IGNORECASE,
)
_CITES = re.compile(r"[(\[] *(?:cites|see|rests on):? *(?P<names>[^()\[\]]+)[)\]] *\.?$", re.IGNORECASE)


def note(repo: Repo, briefing: Briefing, text: str, standing: str, cites: Iterable[str], of: str) -> str:
    """Write into the notebook. Returns what to tell of it.

    Raises:
        BadNote, NotFound: it was refused, and why.
    """
    entry = Entry(briefing.agent, text, Standing(standing) if standing else None, tuple(cites), of)
    return f"Noted, as {notebook.write(repo, briefing.history, entry)[:8]}."


def lessons(repo: Repo, briefing: Briefing, contains: str) -> str:
    """Lessons that have a text in them, the newest first."""
    wanted = contains.lower()
    found = [
        text
        for lesson in notebook.by_recency(notebook.read(repo).lessons(), *Standing)
        if wanted in (text := digest.line(briefing.program, briefing.history, lesson)).lower()
    ]
    return fence("\n".join(found[:_MOST_SHOWN]) or "none", f"{len(found)} lessons, the newest first")


def revisit(project: Project, briefing: Briefing, name: str, why: str) -> Proposal:
    """An earlier change on the branch as it is, as a proposal.

    Raises:
        BadProposal: it is in the branch, was measured against it as it is, or conflicts with it.
        NotFound: there is no such change.
    """
    history = briefing.history
    attempt, _ = find(history, name)
    if history.is_head(attempt.baseline) or attempt.is_baseline:
        what = f"{attempt.name} was measured against the branch as it is"
        raise BadProposal(
            what, "build on it: propose it with something more, and name it as what that builds on"
        )
    if attempt.rung:
        raise NotFound(f"{attempt.name} was measured at a larger scale", "name its attempt at the base scale")
    head, first = history.head, attempt.first
    merged = merge(project, attempt.baseline, project.repo.tree(head), first.rev, attempt.name, yielding=True)
    if merged.clashes:
        where = ", ".join(clash.path for clash in merged.clashes)
        raise BadProposal(f"{attempt.name} conflicts with the branch in {where}", "make the change anew")
    words = [plain(why).strip(), f"Taken up again; {attempt.name} said: {first.hypothesis.strip()}"]
    return Proposal(
        title=first.title,
        hypothesis="\n\n".join(filter(None, words)),
        agent=briefing.agent,
        tree=merged.tree,
        expected=first.expected,
        simplification=first.simplification,
        parent=attempt.name,
        insist=one_line(why) or "the branch has moved since",
        sources=literature.known(project.repo, head, first.sources),
    )


def notes_of(message: str) -> Iterator[Entry]:
    """The entries that a command's last message asks for: lines `Note: …`.

    A line may begin with a lesson's name, and have a status before its words and experiments behind them:
    `Note: 3f2a1c9d refuted: It was the batch. (cites: a-1, b-2)`.
    """
    for line in plain(message).splitlines():
        begins = re.match(r"^[\s*_-]*note[*_]*\s*:[*_]*\s*(?P<rest>.+)$", line, re.IGNORECASE)
        if not begins:
            continue
        rest = one_line(begins["rest"])
        cited = _CITES.search(rest)
        found = _NOTE.fullmatch(rest[: cited.start()] if cited else rest)
        if found is not None:
            names = re.split(r"[,\s]+", cited["names"].strip()) if cited else []
            standing = Standing(found["standing"].lower()) if found["standing"] else None
            yield Entry("", found["text"].strip(), standing, tuple(filter(None, names)), found["of"] or "")


def keep_notes(repo: Repo, briefing: Briefing, message: str) -> Iterator[str]:
    """Write down what a command's last message asks for. Yields why an entry was refused."""
    for place, entry in enumerate(notes_of(message)):
        if place == MOST_NOTES:
            yield f"no more than {MOST_NOTES} notes are kept of one answer"
            return
        try:
            note(repo, briefing, entry.text, entry.standing or "", entry.cites, entry.of)
        except ArError as error:
            yield error.message


def revisited(message: str) -> str:
    """The change that a command's last message takes up again, by a line `Revisit: NAME`; empty for none."""
    found = re.search(
        r"^[\s*_-]*revisit[*_]*\s*:[\s*_]*(?P<name>\S+?)[*_]*\s*$",
        plain(message),
        re.IGNORECASE | re.MULTILINE,
    )
    return found["name"] if found else ""

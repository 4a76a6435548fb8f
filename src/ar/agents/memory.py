"""What an agent does with what is remembered: it writes into the notebook, takes up a change, joins two."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from ar.agents import digest, literature
from ar.agents.base import Briefing
from ar.agents.fence import fence
from ar.changes.merging import Merged, merge
from ar.errors import ArError, BadProposal, NotFound
from ar.git.repo import Repo
from ar.history import message_lines, notebook
from ar.history.attempts import find
from ar.history.ideas import Proposal
from ar.history.messages import MOST_SOURCES, TITLE_LIMIT
from ar.history.notebook import Entry, Standing
from ar.history.records import Attempt
from ar.project.project import Project
from ar.text import one_line, plain, shorten_middle

MOST_NOTES = 5  # of one agent for one proposal
_MOST_SHOWN = 40  # lessons that one look finds
_MOST_CLASHING = 6_000  # characters of what conflicts
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
    _refuse_larger_scale(attempt)
    head, first = history.head, attempt.first
    merged = merge(project, attempt.baseline, project.repo.tree(head), first.rev, attempt.name, yielding=True)
    if merged.clashes:
        where = _places(merged)
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


def combine(project: Project, briefing: Briefing, names: Sequence[str], why: str) -> Proposal:
    """Two earlier changes together on the branch as it is, as a proposal.

    Raises:
        BadProposal: one of them adds nothing, they are the same, or they conflict; `mend` shows where.
        NotFound: there is no such change.
    """
    repo, head = project.repo, project.repo.tree(briefing.history.head)
    first, second = (find(briefing.history, name)[0] for name in names)
    ours, theirs = (_on_branch(project, briefing, item) for item in (first, second))
    # What both changed otherwise is a conflict, a parameter too: neither side's word counts for more.
    merged = merge(project, head, ours, theirs, second.name)
    if merged.clashes:
        text = "\n\n".join(map(str, merged.clashes))
        told = fence(text, f"where they conflict; the branch is as {first.name} has it", _MOST_CLASHING)
        what = f"{first.name} and {second.name} conflict in {_places(merged)}"
        raise BadProposal(what, f"propose anew what keeps the sense of both\n{told}")
    if merged.tree in (ours, theirs):
        raise BadProposal(f"{first.name} and {second.name} change the same", "combine others")
    ideas = [item.first for item in (first, second)]
    sources = dict.fromkeys(name for idea in ideas for name in idea.sources)
    said = [f"Joins {first.name} and {second.name}."]
    said += [f"{item.name} said: {item.first.hypothesis.strip()}" for item in (first, second)]
    return Proposal(
        title=shorten_middle(" + ".join(one_line(idea.title) for idea in ideas), TITLE_LIMIT),
        hypothesis="\n\n".join(filter(None, [plain(why).strip(), *said])),
        agent=briefing.agent,
        tree=merged.tree,
        simplification=all(idea.simplification for idea in ideas),
        parent=first.name,
        insist=one_line(why) or "together they were not tried",
        sources=literature.known(repo, head, sources)[:MOST_SOURCES],
    )


def _on_branch(project: Project, briefing: Briefing, attempt: Attempt) -> str:
    """The tree of the branch with a change on it."""
    _refuse_larger_scale(attempt)
    head = project.repo.tree(briefing.history.head)
    merged = merge(project, attempt.baseline, head, attempt.first.rev, attempt.name, yielding=True)
    if merged.clashes:
        raise BadProposal(
            f"{attempt.name} conflicts with the branch in {_places(merged)}", "make the change anew"
        )
    if merged.tree == head:
        raise BadProposal(
            f"{attempt.name} adds nothing to the branch as it is", "combine others, or revisit one of them"
        )
    return merged.tree


def _places(merged: Merged) -> str:
    return ", ".join(one_line(clash.path) for clash in merged.clashes)


def _refuse_larger_scale(attempt: Attempt) -> None:
    if attempt.rung:
        raise NotFound(f"{attempt.name} was measured at a larger scale", "name its attempt at the base scale")


def notes_of(message: str) -> Iterator[Entry]:
    """The entries that a command's last message asks for: lines `Note: …`.

    A line may begin with a lesson's name, and have a status before its words and experiments behind them:
    `Note: 3f2a1c9d refuted: It was the batch. (cites: a-1, b-2)`.
    """
    for line in message_lines.named(message, "note"):
        rest = one_line(line)
        cited = _CITES.search(rest)
        found = _NOTE.fullmatch(rest[: cited.start()] if cited else rest)
        if found is not None:
            names = _names(cited["names"]) if cited else []
            standing = Standing(found["standing"].lower()) if found["standing"] else None
            yield Entry("", found["text"].strip(), standing, tuple(names), found["of"] or "")


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


def combined(message: str) -> tuple[str, ...]:
    """The two changes that a command's last message joins, by `Combine: NAME, NAME`; empty for none."""
    said = (tuple(_names(line)) for line in message_lines.named(message, "combine"))
    return next((names for names in said if len(names) == 2), ())


def revisited(message: str) -> str:
    """The change that a command's last message takes up again, by a line `Revisit: NAME`; empty for none."""
    said = (_names(line) for line in message_lines.named(message, "revisit"))
    return next((names[0] for names in said if len(names) == 1), "")


def _names(text: str) -> list[str]:
    return text.replace(",", " ").split()

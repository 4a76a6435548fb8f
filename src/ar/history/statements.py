"""Signed statements, on `refs/ar/signed`: what the owner of a key measured, judged and spent on a machine.

Each is a commit without files; its message holds one line of JSON and the signature over that line. It names
experiments by ref, commit and note, so that it says nothing of any other experiment, baseline or outcome. Two
clones' statements join by a merge. One counts where its key is trusted (`ar trust`), and nowhere else.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Self

from ar.formats import BadData, load_json
from ar.git import refs, signatures
from ar.git.references import ZERO
from ar.git.repo import Repo
from ar.git.signatures import PublicKey, Signer
from ar.history.messages import Message
from ar.local import pulled, trusted
from ar.record import Record

_MOST = 5000  # entries of one statement: well below what `load_json` reads
_MOST_CHECKED = 2000  # signatures looked at at once, at 5 ms each, however many a remote made up
_LOGS = {"spent": refs.SPEND, "noted": refs.NOTEBOOK}  # refs whose commits are stated one by one
_BEGIN = "-----BEGIN SSH SIGNATURE-----"

Entry = tuple[str, str, str]  # ref of an experiment, its commit, and the blob of its note (ZERO: none)


@dataclass(frozen=True)
class Statement(Record):
    """What somebody signed.

    Args:
        measured: experiments that ran there, each as `ref commit note`.
        judged: experiments that a trusted key had signed as measured, with the note that they have there.
        spent: commits of the account of what agents spent there.
        noted: commits of the notebook that were written there.
    """

    measured: tuple[str, ...] = ()
    judged: tuple[str, ...] = ()
    spent: tuple[str, ...] = ()
    noted: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self | None:
        with contextlib.suppress(BadData, TypeError, ValueError):
            return cls.from_json(load_json(text))
        return None

    @property
    def entries(self) -> Iterator[Entry]:
        return _entries((*self.measured, *self.judged))

    def names(self, commits: Collection[str]) -> bool:
        """Whether it says anything of one of these commits."""
        revs = (*(rev for _, rev, _ in self.entries), *self.spent, *self.noted)
        return any(rev in commits for rev in revs)


def experiments(repo: Repo) -> dict[str, str]:
    """Ref to commit of every experiment that ended."""
    return {ref: rev for ref, rev in repo.refs(refs.EXPS).items() if refs.ExperimentRef.parse(ref)}


def sign(repo: Repo) -> int:
    """State what counts here and is not stated yet with the key that git signs with. Returns how many
    experiments were measured here among that; without such a key there is nothing to do.

    Raises:
        CannotSign: there is a key, and it cannot be used.
    """
    if (signer := Signer.configured(repo)) is None:
        return 0
    found, marked = experiments(repo), pulled.read(repo)
    others, notes = pulled.foreign(repo, found), repo.note_files(repo.resolve(refs.NOTES))
    own = [each for rev, key, each in _all(repo) if rev not in marked and key.blob == signer.key.blob]
    known = {line for each in own for line in (*each.measured, *each.judged, *each.spent, *each.noted)}
    lines = {ref: f"{ref} {rev} {_note(notes, rev)}" for ref, rev in found.items() if ref not in others}
    fresh = [("measured" if ref not in marked else "judged", line) for ref, line in lines.items()]
    fresh = [(kind, line) for kind, line in fresh if line not in known and not _is_imported(repo, line)]
    fresh += [
        (kind, commit.rev)
        for kind, ref in _LOGS.items()
        for commit in repo.log(ref)
        if commit.rev not in marked and commit.rev not in known
    ]
    for start in range(0, len(fresh), _MOST):
        part = fresh[start : start + _MOST]
        kinds = ("measured", "judged", *_LOGS)
        stated = Statement(*(tuple(line for kind, line in part if kind == wanted) for wanted in kinds))
        text = json.dumps(stated.to_json())
        message = f"Signed by {signer.key.fingerprint}\n\n{text}\n{signer.sign(text)}"
        repo.append(refs.SIGNED, message)
    return sum(kind == "measured" for kind, _ in fresh)


def vouch(repo: Repo) -> int:
    """Let count here what remotes brought and trusted keys have signed, just as it is. Returns how many
    experiments more do.
    """
    found = experiments(repo)
    logged = {commit.rev: commit.rev for ref in _LOGS.values() for commit in repo.log(ref)}
    others = pulled.foreign(repo, found | logged)
    told = _of_trusted(repo, {(found | logged)[name] for name in others})
    noted = {entry for _, each in told for entry in each.entries}
    notes = repo.note_files(repo.resolve(refs.NOTES))
    words = []
    for key, each in told:
        words += [
            (key.fingerprint, ref, rev)
            for ref, rev, _ in _entries(each.measured)
            if ref in others and found.get(ref) == rev and (ref, rev, _note(notes, rev)) in noted
        ]
        own = (rev for rev in (*each.spent, *each.noted) if rev in others and rev in logged)
        words += [(key.fingerprint, rev, rev) for rev in own]
    if words:
        pulled.vouch(repo, dict.fromkeys(words))
    return len({ref for _, ref, _ in words if ref in found})


def signed(repo: Repo, entries: Collection[Entry]) -> set[Entry]:
    """Those of some entries that a trusted key has signed."""
    told = _of_trusted(repo, {rev for _, rev, _ in entries})
    return {entry for _, each in told for entry in each.entries}.intersection(entries)


def _is_imported(repo: Repo, line: str) -> bool:
    """Whether an entry is of an experiment that another tool's record tells of: nobody here measured it."""
    return any(Message.parse(repo.commit(rev).message).imported for _, rev, _ in _entries([line]))


def _note(notes: dict[str, tuple[str, str]], rev: str) -> str:
    return notes[rev][1] if rev in notes else ZERO


def _entries(lines: Collection[str]) -> Iterator[Entry]:
    for line in lines:
        with contextlib.suppress(ValueError):
            ref, rev, note = line.split(" ")
            yield ref, rev, note


def _all(repo: Repo) -> Iterator[tuple[str, PublicKey, Statement]]:
    """Commit, claimed key and content of every statement, newest first; no signature was looked at."""
    for rev, key, text, _ in _texts(repo):
        if stated := Statement.parse(text):
            yield rev, key, stated


def _texts(repo: Repo) -> Iterator[tuple[str, PublicKey, str, str]]:
    """Commit, claimed key, text and signature of all that may be a statement, newest first."""
    for commit in reversed(repo.log(refs.SIGNED)):
        text, begin, rest = commit.message.partition("\n\n")[2].partition(f"\n{_BEGIN}")
        signature = f"{_BEGIN}{rest}"
        if begin and (key := signatures.signer(signature)):
            yield commit.rev, key, text, signature


def _of_trusted(repo: Repo, commits: Collection[str]) -> list[tuple[PublicKey, Statement]]:
    """The statements of trusted keys about any of these commits."""
    keys = trusted.read(repo) if commits else {}
    told: list[tuple[PublicKey, Statement]] = []
    checked = 0
    for _, key, text, signature in _texts(repo) if keys else ():
        if key.fingerprint not in keys or not (stated := Statement.parse(text)) or not stated.names(commits):
            continue
        if checked == _MOST_CHECKED:
            break
        checked += 1
        if signatures.holds(key, text, signature):
            told.append((key, stated))
    return told

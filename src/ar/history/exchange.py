"""A campaign moved to and from a plain git remote: experiments, notes, accounts of what was spent, notebooks.

Nothing is overwritten on either side. An experiment is a commit on a ref of its own and never changes; notes,
accounts and notebooks of both sides are joined here and only ever moved forward there. What waits or runs
stays home.

Whoever can write to the remote may have written anything: what comes is marked as a remote's, and counts for
nothing here (see `local.pulled`) unless a trusted key signed it (`statements`), or the clone has a part in
the remote's campaign (`local.joined`); what is no experiment stays there; notes on what counts here stay
ours, and no verdict of ours is overturned, but by a campaign that the clone has a part in.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ar.errors import Conflict
from ar.formats import BadData, load_json
from ar.git import refs, transfer
from ar.git.references import ZERO, pause
from ar.git.remote import all_of, mirror
from ar.git.repo import Repo
from ar.git.signatures import CannotSign
from ar.history import notebook, statements
from ar.history.records import Decision, Label
from ar.local import joined, pulled

_RACES = 20  # how often others may push between our joining and pushing
_BATCH = 500  # refs in one git push
# Refs that both sides move. Who signed comes first: it tells whose notes count.
_JOINED = (refs.SIGNED, refs.NOTES, refs.SPEND, refs.NOTEBOOK)
_WAITING = (refs.QUEUE, refs.RUNNING)
_CAMPAIGN = (refs.HEADS, refs.WORKERS_NOTES)


@dataclass(frozen=True)
class Exchanged:
    """What one pull or push did.

    Args:
        experiments: that the receiving side did not have.
        notes: that it did not have, or had otherwise.
        entries: of the notebook, that it did not have.
        notebook_left: the remote's notebook is no notebook, or too large: it was left there, and ours here.
        clashes: names that stand for different experiments on the two sides, left as they are.
        odd: how many refs there are that no experiment can be, left there.
        vouched: how many pulled experiments count here since, as a trusted key signed them.
        signed: how many experiments of ours were signed, for those who trust our key.
        unsigned: why they could not be; empty where they were, or git has no ssh key to sign with.
    """

    remote: str
    experiments: int
    notes: int
    clashes: tuple[str, ...] = ()
    odd: int = 0
    vouched: int = 0
    signed: int = 0
    unsigned: str = ""
    entries: int = 0
    notebook_left: bool = False


def pull(repo: Repo, remote: str, baseline: str = "") -> Exchanged:
    """Bring in what the remote has and this repository lacks, and see what waits and runs there.

    Notes come before the experiments that they are on: whoever sees an experiment sees how it ended.

    Args:
        baseline: only what was measured against this commit; empty for everything.

    Raises:
        ArError: git cannot reach the remote.
    """
    mirror(repo, remote, _seen(remote) | all_of(remote, *_CAMPAIGN))
    theirs = transfer.listed(repo, remote, *_patterns(baseline))
    ours = statements.experiments(repo)
    found = _experiments(theirs)
    new = [ref for ref in found if ref not in ours]
    wanted = {ref: refs.at_remote(remote, ref) for ref in new}
    transfer.fetch(repo, remote, {**wanted, **_joined_refs(remote, theirs)})
    before, noted = repo.resolve(refs.NOTES), repo.resolve(refs.NOTEBOOK)
    left = _join(repo, remote)
    sound, taken = _bring(repo, remote, found)
    if not baseline:
        _show_waiting(repo, remote)
    odd, vouched = len(new) - len(sound) - len(taken), statements.vouch(repo)
    gained = _new_entries(repo, repo.resolve(refs.NOTEBOOK), noted)
    notes, clashes = _new_notes(repo, before), (*_clashes(ours, found), *taken)
    return Exchanged(
        remote, len(sound), notes, clashes, odd, vouched, entries=gained, notebook_left=refs.NOTEBOOK in left
    )


def follow(repo: Repo, remote: str, glance: bool = False) -> None:
    """See what waits and runs on a remote, and bring in what has come of it since the last look, by name:
    what else the remote has costs nothing, however much it is.

    What is not there any more goes from view only once its end, if it had one, is here.

    Args:
        glance: somebody waits to be shown what there is: give up soon where the remote does not answer.

    Raises:
        ArError: git cannot reach the remote.
    """
    moved = {f"{ref}*": f"{refs.at_remote(remote, ref)}*" for ref in _JOINED}
    mirror(repo, remote, _seen(remote) | moved | all_of(remote, *_CAMPAIGN), glance)
    told = list(dict.fromkeys([*_noted(repo, remote), *_gone(repo, remote)]))
    ours = repo.refs(*told)
    ended = [ref for ref in told if ref not in ours]
    if len(ended) > _BATCH and not glance:  # a clone that was away for long, or is new
        pull(repo, remote)
        return
    if ended:
        mirror(repo, remote, {f"{ref}*": f"{refs.at_remote(remote, ref)}*" for ref in ended}, glance)
    _join(repo, remote)
    here = {ref: repo.resolve(refs.at_remote(remote, ref)) for ref in ended}
    _bring(repo, remote, {ref: rev for ref, rev in here.items() if rev})
    _show_waiting(repo, remote)


def see(repo: Repo, remote: str) -> None:
    """Look what waits and runs on a remote; views show it later, see `follow`.

    Raises:
        Unreachable: it cannot be read.
    """
    mirror(repo, remote, _seen(remote))


def waiting(repo: Repo, remote: str, space: str) -> dict[str, str]:
    """Ref to commit of what a remote had in its queue, or running, when it was last looked at, by the names
    that the refs have there."""
    place = _seen(remote)[f"{space}/*"].removesuffix("*")
    return {f"{space}/{ref.removeprefix(place)}": rev for ref, rev in repo.refs(place.rstrip("/")).items()}


def _seen(remote: str) -> dict[str, str]:
    """Where the very last look at a remote's queue is kept: views show it once what has ended is here."""
    here, spaces = refs.at_remote(remote, refs.SEEN), (*_WAITING, refs.PUT)
    return {f"{space}/*": f"{here}/{refs.name_of(space)}/*" for space in spaces}


def _noted(repo: Repo, remote: str) -> Iterator[str]:
    """The experiments whose ends a remote's workers have noted since we last took in their notes."""
    ours = repo.resolve(refs.NOTES)
    for tip in set(repo.refs(refs.at_remote(remote, refs.WORKERS_NOTES)).values()):
        for commit in repo.log(tip, without=ours):
            ref = commit.message.strip().rpartition("\n")[2]
            if refs.ExperimentRef.parse(ref):
                yield ref


def _gone(repo: Repo, remote: str) -> Iterator[str]:
    """Where what is in view, and waits and runs no more, is if it has ended."""
    now = {refs.name_of(ref) for space in _WAITING for ref in waiting(repo, remote, space)}
    for space in _WAITING:
        for ref, commit in repo.commits(refs.at_remote(remote, space)).items():
            name, parents = refs.name_of(ref), commit.parents
            if name not in now and space == refs.RUNNING and parents:  # a lease, on top of what was queued
                parents = repo.commit(parents[0]).parents
            if name not in now and refs.is_name(name) and parents:
                yield str(refs.ExperimentRef(parents[0], name))


def _show_waiting(repo: Repo, remote: str) -> None:
    """Have in view what waited and ran at the last look, and what had been queued last by then: whoever knows
    that one knows all."""
    spaces = (*_WAITING, refs.PUT)
    now = {
        refs.at_remote(remote, ref): rev
        for space in spaces
        for ref, rev in waiting(repo, remote, space).items()
    }
    shown = repo.refs(*(refs.at_remote(remote, space) for space in spaces))
    changes: list[tuple[str, str, str | None]] = [
        (ref, rev, None) for ref, rev in now.items() if shown.get(ref) != rev
    ]
    changes += [(ref, ZERO, None) for ref in shown if ref not in now and repo.has_ref(ref)]
    if changes:
        repo.update_refs(*changes, reason=f"ar: look at {remote}")


def _bring(repo: Repo, remote: str, found: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Make experiments that were fetched ours, by ref and commit. Returns those that are since, and the names
    of those whose names are taken."""
    if not found:
        return {}, ()
    for _ in range(_RACES):
        ours = statements.experiments(repo)
        new = {ref: rev for ref, rev in found.items() if ref not in ours}
        names = {refs.name_of(ref) for ref in repo.refs(refs.QUEUE, refs.RUNNING, refs.EXPS)}
        free = {ref: rev for ref, rev in new.items() if refs.name_of(ref) not in names}
        sound = {ref: rev for ref, rev in free.items() if _is_experiment(repo, ref, rev)}
        pulled.add(repo, sound)
        if remote in joined.read(repo):
            _count(repo, remote, sound | {ref: rev for ref, rev in found.items() if ours.get(ref) == rev})
        changes: list[tuple[str, str, str | None]] = [(ref, rev, ZERO) for ref, rev in sound.items()]
        fetched = (refs.at_remote(remote, ref) for ref in found)
        changes += [(ref, ZERO, None) for ref in fetched if repo.has_ref(ref)]
        with contextlib.suppress(Conflict):  # another process of this clone's brought some of them
            if changes:
                repo.update_refs(*changes, reason=f"ar: pull from {remote}")
            return sound, tuple(refs.name_of(ref) for ref in new if ref not in free)
    raise Conflict(f"experiments of {remote} moved {_RACES} times in a row", "run the command again")


def share(repo: Repo, remote: str) -> None:
    """Bring the remote what was judged, noted and spent here since `follow` was called.

    Raises:
        ArError: git cannot reach the remote, or may not write there.
        Conflict: others push all the time.
    """
    for attempt in range(_RACES):
        pause(10 * attempt)
        known = {ref: repo.resolve(refs.at_remote(remote, ref)) for ref in _JOINED}
        ahead = {ref: rev for ref in _JOINED if (rev := repo.resolve(ref)) not in (None, known[ref])}
        if not ahead:
            return
        if transfer.push(repo, remote, ahead):
            repo.update_refs(*((refs.at_remote(remote, ref), rev, None) for ref, rev in ahead.items() if rev))
            return
        follow(repo, remote)
    raise Conflict(f"others pushed to {remote} {_RACES} times in a row", f"again: ar push {remote}")


def push(repo: Repo, remote: str, signing: bool = True) -> Exchanged:
    """Bring to the remote what it lacks, notes first.

    Args:
        signing: sign what was measured here, where git has an ssh key for that.

    Raises:
        ArError: git cannot reach the remote, or may not write there.
        Conflict: others push all the time.
    """
    signed, unsigned = 0, ""
    try:
        signed = statements.sign(repo) if signing else 0
    except CannotSign as error:
        unsigned = error.message
    for attempt in range(_RACES):
        pause(10 * attempt)
        theirs = transfer.listed(repo, remote, *_patterns())
        transfer.fetch(repo, remote, _joined_refs(remote, theirs))
        before = repo.resolve(refs.at_remote(remote, refs.NOTES))
        left = _join(repo, remote)
        ahead = [
            ref for ref in _JOINED if ref not in left and repo.resolve(ref) not in (None, theirs.get(ref))
        ]
        if not ahead or transfer.push(repo, remote, ahead):
            break
    else:
        raise Conflict(f"others pushed to {remote} {_RACES} times in a row", f"again: ar push {remote}")
    ours, found = statements.experiments(repo), _experiments(theirs)
    new = [ref for ref in ours if ref not in found]
    for start in range(0, len(new), _BATCH):
        if not transfer.push(repo, remote, new[start : start + _BATCH]):
            raise Conflict(f"{remote} has experiments of the same name", f"look at them: ar pull {remote}")
    notes, clashes = _new_notes(repo, before), _clashes(ours, found)
    told = (
        0
        if refs.NOTEBOOK in left
        else _new_entries(repo, repo.resolve(refs.NOTEBOOK), theirs.get(refs.NOTEBOOK))
    )
    return Exchanged(
        *(remote, len(new), notes, clashes),
        signed=signed,
        unsigned=unsigned,
        entries=told,
        notebook_left=refs.NOTEBOOK in left,
    )


def join(base: Mapping[str, Any], ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """One note from both sides' changes to it: by key, three-way; what both changed by a rule that does not
    ask which side is which, so that two clones come to the same.

    Of two verdicts a decided one counts, of two decided ones that with more runs.
    """
    joined = {}
    for key in dict.fromkeys([*ours, *theirs]):
        mine, other, old = ours.get(key), theirs.get(key), base.get(key)
        if mine == other or other == old or key not in theirs:
            joined[key] = mine
        elif mine == old or key not in ours:
            joined[key] = other
        else:
            joined[key] = max(mine, other, key=_weight if key == "verdict" else _text)
    return {key: value for key, value in joined.items() if value is not None}


def _weight(verdict: Any) -> tuple[int, int, str]:
    if not isinstance(verdict, dict):
        return -1, 0, _text(verdict)
    rank = 0 if verdict.get("label") == Label.SUPERSEDED else 2 if _is_decided(verdict) else 1
    runs = verdict.get("runs", 0)
    return rank, runs if isinstance(runs, int) else 0, _text(verdict)


def _is_decided(verdict: Any) -> bool:
    return isinstance(verdict, dict) and verdict.get("decision") in (Decision.PROMOTE, Decision.DISCARD)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _patterns(baseline: str = "") -> tuple[str, ...]:
    """What to ask a remote for."""
    return (str(refs.ExperimentRef(baseline, "*")) if baseline else f"{refs.EXPS}/*", *_JOINED)


def _count(repo: Repo, remote: str, found: Mapping[str, str]) -> None:
    """Let what comes from a remote that this clone has joined count here."""
    others = pulled.foreign(repo, found)
    word = joined.word(remote)
    if new := [(word, ref, found[ref]) for ref in found if ref in others]:
        pulled.vouch(repo, new)


def _joined_refs(remote: str, theirs: Mapping[str, str]) -> dict[str, str]:
    """What both sides move, as far as the remote has it, and where that is kept here."""
    return {ref: refs.at_remote(remote, ref) for ref in _JOINED if ref in theirs}


def _experiments(found: Mapping[str, str]) -> dict[str, str]:
    return {ref: rev for ref, rev in found.items() if refs.ExperimentRef.parse(ref)}


def _is_experiment(repo: Repo, ref: str, rev: str) -> bool:
    """Whether what a ref names is a commit above the baseline that the ref says."""
    said = refs.ExperimentRef.parse(ref)
    return said is not None and repo.resolve(rev) == rev and repo.is_ancestor(said.baseline, rev)


def _clashes(ours: Mapping[str, str], theirs: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(refs.name_of(ref) for ref, rev in theirs.items() if ours.get(ref, rev) != rev)


def _join(repo: Repo, remote: str) -> tuple[str, ...]:
    """Join the remote's notes, accounts and notebook into ours. Returns what cannot be joined."""
    left = []
    for ref in _JOINED:
        if not repo.has_ref(refs.at_remote(remote, ref)):
            continue
        theirs = repo.resolve(refs.at_remote(remote, ref))
        if theirs is None or (ref == refs.NOTEBOOK and not notebook.fits(repo, theirs, repo.resolve(ref))):
            left.append(ref)
        else:
            _advance(repo, ref, theirs, remote)
    _join_workers(repo, remote)
    return tuple(left)


def _new_entries(repo: Repo, rev: str | None, old: str | None) -> int:
    """How many entries one version of the notebook has that another has not."""
    return notebook.entries(repo, rev, old) if rev else 0


def _join_workers(repo: Repo, remote: str) -> None:
    """Take in the notes of the remote's workers, each of whose commits has one more."""
    for _ in range(_RACES):
        ours = repo.resolve(refs.NOTES)
        tips = set(repo.refs(refs.at_remote(remote, refs.WORKERS_NOTES)).values())
        new = sorted(tip for tip in tips if ours is None or not repo.is_ancestor(tip, ours))
        if not new:
            return
        tree, counts = ours, _own(repo, remote)
        for commit in (commit for tip in new for commit in repo.log(tip, without=ours)):
            for rev, note in repo.notes_at(commit.rev).items():
                known = repo.note_in(tree, rev)
                if rev not in counts or not known:
                    tree = repo.note_tree(tree, rev, join({}, known, note))
        parents = [ours, *new] if ours else new
        joined_tree = repo.empty_tree() if tree is None else repo.tree(tree)
        with contextlib.suppress(Conflict):
            merge = repo.commit_tree(joined_tree, parents, f"Join what workers of {remote} noted\n")
            repo.update_refs((refs.NOTES, merge, ours or ZERO), reason="ar: pull")
            return
    raise Conflict(f"{refs.NOTES} moved {_RACES} times in a row", "run the command again")


def _own(repo: Repo, remote: str) -> frozenset[str]:
    """The commits that count here, and that a remote's notes do not change: none, where it was joined."""
    if remote in joined.read(repo):
        return frozenset()
    found = repo.refs(refs.QUEUE, refs.RUNNING, refs.EXPS)
    others = pulled.foreign(repo, found)
    return frozenset(rev for ref, rev in found.items() if ref not in others)


def _advance(repo: Repo, ref: str, theirs: str, remote: str) -> None:
    """Move a ref of ours to where it reaches `theirs` too, by a merge commit where neither side is behind."""
    for _ in range(_RACES):
        ours = repo.resolve(ref)
        if ours is not None and repo.is_ancestor(theirs, ours):
            return
        if ref == refs.NOTES:
            kept = frozenset() if remote in joined.read(repo) else _kept(repo, ours, theirs)
            tree = repo.join_notes(ours, theirs, _joined, kept=kept)
        else:
            tree = repo.empty_tree()
            spent = [commit.rev for commit in repo.log(theirs, without=ours)]
            pulled.add(repo, spent)
            if remote in joined.read(repo):
                _count(repo, remote, {rev: rev for rev in spent})
        new, is_behind = theirs, ours is None or repo.is_ancestor(ours, theirs)
        if not is_behind or tree != repo.tree(theirs):
            parents = [each for each in (ours, theirs) if each is not None]
            new = repo.commit_tree(tree, parents, "Join what two clones wrote\n")
        with contextlib.suppress(Conflict):
            repo.update_refs((ref, new, ours or ZERO), reason="ar: pull")
            return
    raise Conflict(f"{ref} moved {_RACES} times in a row", "run the command again")


def _kept(repo: Repo, ours: str | None, theirs: str) -> frozenset[str]:
    """The commit of every experiment that counts here: its note stays as it is, but where a trusted key has
    signed a verdict and there is none here.
    """
    found = repo.refs(refs.QUEUE, refs.RUNNING, refs.EXPS)
    others = pulled.foreign(repo, found)
    own = {ref: rev for ref, rev in found.items() if ref not in others}
    mine, other = repo.note_files(ours), repo.note_files(theirs)
    differ = {ref: rev for ref, rev in own.items() if rev in other and mine.get(rev) != other[rev]}
    news = [
        (ref, rev, other[rev][1])
        for ref, rev in differ.items()
        if _is_news(
            *(repo.read_many([(notes[rev][1], "")])[0] if rev in notes else None for notes in (mine, other))
        )
    ]
    return frozenset(own.values()) - {rev for _, rev, _ in statements.signed(repo, news)}


def _is_news(mine: bytes | None, other: bytes | None) -> bool:
    """Whether of two notes the other one alone has a verdict that is decided."""
    verdicts = []
    for content in (mine, other):
        with contextlib.suppress(BadData):
            note = load_json(content or b"{}")
            verdicts.append(note.get("verdict") if isinstance(note, dict) else None)
    return len(verdicts) == 2 and not _is_decided(verdicts[0]) and _is_decided(verdicts[1])


def _joined(base: bytes | None, ours: bytes, theirs: bytes) -> bytes:
    """One note's text; of notes that are not ours to understand, the greater text."""
    if theirs == base or ours == base:
        return ours if theirs == base else theirs
    with contextlib.suppress(BadData):
        sides = [load_json(side or b"{}") for side in (base, ours, theirs)]
        if all(isinstance(side, dict) for side in sides):
            return json.dumps(join(*sides), ensure_ascii=False, indent=1).encode() + b"\n"
    return max(ours, theirs)


def _new_notes(repo: Repo, old: str | None) -> int:
    """How many of our notes a version of them has not, or has otherwise."""
    before, after = (repo.note_files(rev) for rev in (old, repo.resolve(refs.NOTES)))
    return sum(before.get(rev, ("", ""))[1] != blob for rev, (_, blob) in after.items())

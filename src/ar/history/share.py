"""A campaign moved to and from a plain git remote: experiments, notes, accounts of what was spent.

Nothing is overwritten on either side. An experiment is a commit on a ref of its own and never changes; notes
and accounts of both sides are joined here and only ever moved forward there. What waits or runs stays home.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ar.errors import ArError, Conflict, NotFound, nearest
from ar.git import refs
from ar.git.repo import ZERO, GitFailed, Repo
from ar.history.records import Decision, Label

_RACES = 20  # how often others may push between our joining and pushing
_BATCH = 500  # refs in one git push


@dataclass(frozen=True)
class Moved:
    """What one pull or push did.

    Args:
        experiments: that the receiving side did not have.
        notes: that it did not have, or had otherwise.
        clashes: names that stand for different experiments on the two sides, left as they are.
    """

    remote: str
    experiments: int
    notes: int
    clashes: tuple[str, ...] = ()


def remote_of(repo: Repo, name: str | None) -> str:
    """The remote of that name; without one, the branch's upstream, `origin`, or the only one.

    Raises:
        NotFound: there is no such remote, or none at all.
    """
    known = repo.run("remote").split()
    if name is not None:
        if name not in known:
            raise NotFound(f"there is no remote '{name}'", nearest(name, known))
        return name
    branch = (repo.branch() or "").removeprefix("refs/heads/")
    try:
        upstream = repo.run("config", "--get", f"branch.{branch}.remote")
    except GitFailed:
        upstream = ""
    for choice in (upstream, "origin", known[0] if len(known) == 1 else ""):
        if choice in known:
            return choice
    raise NotFound(
        "which remote?" if known else "there is no remote",
        f"name one: {', '.join(known)}" if known else "add one: git remote add origin URL",
    )


def pull(repo: Repo, remote: str) -> Moved:
    """Bring in what the remote has and this repository lacks.

    Notes come before the experiments that they are on: whoever sees an experiment sees how it ended.

    Raises:
        ArError: git cannot reach the remote.
    """
    theirs = _listed(repo, remote)
    ours = _experiments(repo.refs(refs.EXPS))
    found = _experiments(theirs)
    new = {ref: rev for ref, rev in found.items() if ref not in ours}
    waiting = {ref: _tracking(remote, ref) for ref in new}
    _fetch(repo, remote, theirs, waiting)
    notes = _join(repo, remote)
    changes = [(ref, rev, ZERO) for ref, rev in new.items()]
    changes += [(mine, ZERO, new[ref]) for ref, mine in waiting.items()]
    if changes:
        repo.update_refs(*changes, reason=f"ar: pull from {remote}")
    return Moved(remote, len(new), notes, _clashes(ours, found))


def push(repo: Repo, remote: str) -> Moved:
    """Bring to the remote what it lacks, notes first.

    Raises:
        ArError: git cannot reach the remote, or may not write there.
        Conflict: others push all the time.
    """
    for _ in range(_RACES):
        theirs = _listed(repo, remote)
        _fetch(repo, remote, theirs, {})
        before = repo.resolve(_tracking(remote, refs.NOTES))
        _join(repo, remote)
        moved = [ref for ref in (refs.NOTES, refs.SPEND) if repo.resolve(ref) not in (None, theirs.get(ref))]
        if not moved or _push(repo, remote, moved):
            break
    else:
        raise Conflict(f"others pushed to {remote} {_RACES} times in a row", f"again: ar push {remote}")
    ours, found = _experiments(repo.refs(refs.EXPS)), _experiments(theirs)
    new = [ref for ref in ours if ref not in found]
    for start in range(0, len(new), _BATCH):
        if not _push(repo, remote, new[start : start + _BATCH]):
            raise Conflict(f"{remote} has experiments of the same name", f"look at them: ar pull {remote}")
    count = _differing(repo, before, repo.resolve(refs.NOTES))
    return Moved(remote, len(new), count, _clashes(ours, found))


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
            weigh = _weight if key == "verdict" else _text
            joined[key] = max(mine, other, key=weigh)
    return {key: value for key, value in joined.items() if value is not None}


def _weight(verdict: Any) -> tuple[int, int, str]:
    if not isinstance(verdict, dict):
        return -1, 0, _text(verdict)
    decided = verdict.get("decision") in (Decision.PROMOTE, Decision.DISCARD)
    rank = 0 if verdict.get("label") == Label.SUPERSEDED else 2 if decided else 1
    runs = verdict.get("runs", 0)
    return rank, runs if isinstance(runs, int) else 0, _text(verdict)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


# -- git --------------------------------------------------------------------------------------------------


def _listed(repo: Repo, remote: str) -> dict[str, str]:
    """Ref to object id, for everything of ours at the remote."""
    patterns = (f"{refs.EXPS}/*", refs.NOTES, refs.SPEND)
    lines = _reach(repo, remote, "ls-remote", "--quiet", remote, *patterns).splitlines()
    return {ref: rev for rev, ref in (line.split("\t", 1) for line in lines)}


def _experiments(found: Mapping[str, str]) -> dict[str, str]:
    return {ref: rev for ref, rev in found.items() if refs.ExperimentRef.parse(ref)}


def _clashes(ours: Mapping[str, str], theirs: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(refs.name_of(ref) for ref, rev in theirs.items() if ours.get(ref, rev) != rev)


def _tracking(remote: str, ref: str) -> str:
    """Where a remote's ref is kept here."""
    return f"{refs.REMOTES}/{remote}/{ref.removeprefix('refs/')}"


def _fetch(repo: Repo, remote: str, theirs: Mapping[str, str], experiments: Mapping[str, str]) -> None:
    """Bring experiments to where they wait, and the remote's notes and accounts beside ours."""
    specs = [f"+{ref}:{mine}" for ref, mine in experiments.items()]
    specs += [f"+{ref}:{_tracking(remote, ref)}" for ref in (refs.NOTES, refs.SPEND) if ref in theirs]
    if specs:
        options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--stdin")
        _reach(repo, remote, "fetch", *options, remote, stdin="\n".join([*specs, ""]))


def _push(repo: Repo, remote: str, moved: Iterable[str]) -> bool:
    """Push refs as they are, forward only. False if the remote has moved on in between."""
    try:
        # --no-verify: DVC's own hook would upload its cache with every push.
        _reach(repo, remote, "push", "--quiet", "--no-verify", remote, *(f"{ref}:{ref}" for ref in moved))
    except _Refused:
        return False
    return True


class _Refused(ArError):
    """The remote does not hold what we took it to hold."""


def _reach(repo: Repo, remote: str, *args: str, stdin: str = "") -> str:
    try:
        return repo.run(*args, stdin=stdin.encode())
    except GitFailed as error:
        races = ("[rejected]", "fetch first", "non-fast-forward", "cannot lock ref", "incorrect old value")
        if args[0] == "push" and any(words in error.said for words in races):
            raise _Refused(error.message) from None
        raise ArError(f"{remote}: {error.message}", f"does this work? git ls-remote {remote}") from None


def _join(repo: Repo, remote: str) -> int:
    """Join the remote's notes and accounts into ours. Returns how many notes are new here, or different."""
    before = repo.resolve(refs.NOTES)
    for ref, merge in ((refs.NOTES, _joined_notes), (refs.SPEND, _empty)):
        theirs = repo.resolve(_tracking(remote, ref))
        if theirs is not None:
            _advance(repo, ref, theirs, merge)
    return _differing(repo, before, repo.resolve(refs.NOTES))


def _advance(repo: Repo, ref: str, theirs: str, merge: Callable[[Repo, str, str], str]) -> None:
    """Move a ref of ours to where it reaches `theirs` too, by a merge commit where neither side is behind."""
    for _ in range(_RACES):
        ours = repo.resolve(ref)
        if ours is not None and repo.is_ancestor(theirs, ours):
            return
        new = theirs
        if ours is not None and not repo.is_ancestor(ours, theirs):
            tree = merge(repo, ours, theirs)
            new = repo.commit_tree(tree, [ours, theirs], "Join what two clones wrote\n")
        try:
            repo.update_refs((ref, new, ours or ZERO), reason="ar: pull")
            return
        except Conflict:
            continue
    raise Conflict(f"{ref} moved {_RACES} times in a row", "run the command again")


def _empty(repo: Repo, _ours: str, _theirs: str) -> str:
    return repo.run("mktree")


def _joined_notes(repo: Repo, ours: str, theirs: str) -> str:
    """A tree with every note of both sides."""
    base = _merge_base(repo, ours, theirs)
    old, mine, other = (_notes(repo, rev) for rev in (base, ours, theirs))
    both = [rev for rev, (_, blob) in other.items() if rev in mine and mine[rev][1] != blob]
    blobs = [side.get(rev, ("", ""))[1] for rev in both for side in (old, mine, other)]
    contents = iter(repo.read_many([(blob or ZERO, "") for blob in blobs]))
    lines = [f"100644 {blob}\t{path}\0" for rev, (path, blob) in other.items() if rev not in mine]
    for rev, before, here, there in zip(both, contents, contents, contents, strict=True):
        blob = repo.write_blob(_joined(before, here or b"", there or b""))
        lines.append(f"100644 {blob}\t{mine[rev][0]}\0")
    with repo.own_index(ours) as env:
        repo.run("update-index", "-z", "--index-info", stdin="".join(lines).encode(), env=env)
        return repo.run("write-tree", env=env)


def _merge_base(repo: Repo, ours: str, theirs: str) -> str | None:
    try:
        return repo.run("merge-base", ours, theirs)
    except GitFailed:
        return None  # the two began apart


def _notes(repo: Repo, rev: str | None) -> dict[str, tuple[str, str]]:
    """Commit id to where its note lies in the notes tree, and the note's blob."""
    found = {}
    text = repo.run("ls-tree", "-r", "-z", "--full-tree", rev) if rev else ""
    for line in filter(None, text.split("\0")):
        meta, path = line.split("\t", 1)
        found[path.replace("/", "")] = (path, meta.split()[2])
    return found


def _joined(base: bytes | None, ours: bytes, theirs: bytes) -> bytes:
    """One note's text; of notes that are not ours to understand, the greater text."""
    if theirs == base or ours == base:
        return ours if theirs == base else theirs
    try:
        sides = [json.loads(side or b"{}") for side in (base, ours, theirs)]
    except ValueError:
        return max(ours, theirs)
    if not all(isinstance(side, dict) for side in sides):
        return max(ours, theirs)
    return json.dumps(join(*sides), ensure_ascii=False, indent=1).encode() + b"\n"


def _differing(repo: Repo, old: str | None, new: str | None) -> int:
    """How many notes one version of the notes has that another has not, or has otherwise."""
    before, after = (_notes(repo, rev) for rev in (old, new))
    return sum(before.get(rev, ("", ""))[1] != blob for rev, (_, blob) in after.items())

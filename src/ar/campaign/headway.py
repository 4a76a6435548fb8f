"""Where a shared campaign stands: a ref on its remote, that whoever promotes moves by compare-and-swap before
anybody's branch moves, and that the branches of all clones follow.

Nobody's branch on the remote is touched: that goes with `git push`.
"""

from __future__ import annotations

from dataclasses import replace

from ar.campaign.campaign import Campaign
from ar.changes import integrity
from ar.errors import BadState, CheckoutInTheWay, Conflict
from ar.git import refs, remote, worktree
from ar.git.references import ZERO
from ar.git.remote import Move
from ar.git.repo import Repo
from ar.history import exchange
from ar.history.records import History
from ar.local import joined
from ar.project.pipeline_file import Declared, within


def announce(campaign: Campaign, new: str, old: str) -> None:
    """Have the campaign go on from `old` to `new` for everybody.

    Raises:
        Conflict: somebody else promoted meanwhile.
        Unreachable, Refused: not now; nothing has moved.
    """
    repo, there = campaign.repo, campaign.queue.remote
    ref = refs.standing(repo.branch())
    known = repo.resolve(refs.at_remote(there, ref))
    if known not in (None, old) or not remote.move(repo, there, Move(ref, new, known or ZERO)):
        exchange.follow(repo, there)
        raise Conflict("another clone promoted meanwhile", "it is followed")
    repo.update_refs((refs.at_remote(there, ref), new, None))


def bring(campaign: Campaign, new: str) -> str:
    """Bring the branch to where the campaign is; beside the checkout where that cannot follow. Returns what
    to tell of the latter.

    Raises:
        Conflict: the branch moved just now.
    """
    repo = campaign.repo
    try:
        worktree.forward(repo, repo.branch(), new, repo.head())
    except CheckoutInTheWay as error:
        ahead = repo.ahead()
        repo.update_refs((ahead, new, repo.resolve(ahead) or ZERO), reason="ar: promote")
        return f"{error.message}; the campaign goes on on {ahead.removeprefix('refs/heads/')}"
    campaign.queue.fetch_outputs(new)
    campaign.pipeline.checkout()
    worktree.done(repo)
    return ""


def begin(campaign: Campaign) -> str:
    """Say where the campaign stands, where nobody has yet, or the user's branch is ahead. Returns what to
    tell of the campaign.

    Raises:
        BadState: the branch went another way, or its metrics are for this machine alone.
        Unreachable, Refused: not now.
    """
    repo, there, head = campaign.repo, campaign.queue.remote, campaign.repo.head()
    cached = Declared.read(repo, head).cached
    if unseen := sorted({it.file for it in campaign.program.written if within(it.file, cached)}):
        what = f"{', '.join(unseen)} is kept in DVC's cache alone, where other machines cannot read it"
        raise BadState(what, "set cache: false for it in dvc.yaml, and commit that")
    known = repo.resolve(refs.at_remote(there, refs.standing(repo.branch())))
    if known is None or (known != head and repo.is_ancestor(known, head)):
        announce(campaign, head, known or head)
    elif not repo.is_ancestor(head, known):
        raise _apart(repo, there, "the campaign there and your branch have gone separate ways")
    return f"queue: on {there}; machines with a clone join by: ar worker --remote {there}"


def follow(campaign: Campaign, history: History) -> str:
    """Go where the campaign has gone since. Returns what to tell; empty where it stands where we are.

    Raises:
        BadState: it went on by what is no promotion of ours to follow.
    """
    repo, there, head = campaign.repo, campaign.queue.remote, campaign.repo.head()
    new = repo.resolve(refs.at_remote(there, refs.standing(repo.branch())))
    if new is None or new == head or repo.is_ancestor(new, head):
        return ""
    if not repo.is_ancestor(head, new):
        raise _apart(repo, there, "the campaign there and your branch have gone separate ways")
    if flaw := _flaw(campaign, history, head, new):
        raise _apart(repo, there, f"the campaign there went on by more than promotions: {flaw}")
    aside = bring(campaign, new)
    return f"followed {there} to {new[:9]}, promoted by another clone{f': {aside}' if aside else ''}"


def catch_up(campaign: Campaign) -> str:
    """Have this clone know where the campaign is by now, and leave the checkout alone. Returns what to tell;
    empty where it is known, or is nothing to follow."""
    repo = campaign.repo
    for there in joined.read(repo):
        new, head = repo.resolve(refs.at_remote(there, refs.standing(repo.branch()))), repo.head()
        if new is None or new == head or not repo.is_ancestor(head, new):
            continue
        if not _flaw(campaign, campaign.history(), head, new):
            ahead = repo.ahead()
            repo.update_refs((ahead, new, repo.resolve(ahead) or ZERO), reason="ar: follow")
            name = ahead.removeprefix("refs/heads/")
            return f"the campaign on {there} went on; to bring that in: git merge --ff-only {name}"
    return ""


def _flaw(campaign: Campaign, history: History, old: str, new: str) -> str:
    """What stands between two heads besides promotions of experiments within the scope; empty if nothing."""
    repo, known = campaign.repo, {run.rev: run for run in history.everything}
    while new != old:
        parents = repo.commit(new).parents
        run = known.get(parents[1]) if len(parents) == 2 else None
        if run is None:
            return f"{new[:9]} is no merge of an experiment that is known here"
        result = replace(run, baseline=parents[0], rev=repo.tree(new))
        if flaw := integrity.changed(campaign.project, result, integrity.reference(history, parents[0])):
            return f"{new[:9]}: {flaw}"
        new = parents[0]
    return ""


def _apart(repo: Repo, there: str, what: str) -> BadState:
    place = refs.at_remote(there, refs.standing(repo.branch()))
    return BadState(f"{there}: {what}", f"look at it, then bring it in: git merge {place}")

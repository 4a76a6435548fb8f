"""Every ref and name `ar` uses, built and parsed here and nowhere else."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Self

EXPS = "refs/exps"
STASH = f"{EXPS}/celery/stash"
QUEUE = "refs/ar/queue"
RUNNING = "refs/ar/running"
NOTES = "refs/notes/ar"
SPEND = "refs/ar/spend"
SIGNED = "refs/ar/signed"
NOTEBOOK = "refs/ar/notebook"
OBSERVED = "refs/heads/ar/observed"  # where a campaign stands that observes others\' commits
REMOTES = "refs/ar/remotes"  # <remote>/…: what a remote had when it was last looked at
# On a remote whose queue several clones share, beside QUEUE and RUNNING:
PUT = "refs/ar/put"
LAST = f"{PUT}/last"  # what was queued there last
HEADS = "refs/ar/heads"  # <branch>: where the campaign stands
WORKERS_NOTES = "refs/ar/notes"  # <worker>: the notes on what that one ran, one a commit
SEEN = "refs/ar/seen"  # only below REMOTES: what waited and ran at the very last look
# In a worker's clone, <remote>/<name>:
LEASES = "refs/ar/leases"  # what it last said there of an experiment that it has
FINISHED = "refs/ar/finished"  # a result that is not there yet, with its note
PROMOTING = "refs/worktree/ar/promoting"  # the merge that this working tree is being brought to

_EXPERIMENT = re.compile(rf"^{EXPS}/(?P<two>[0-9a-f]{{2}})/(?P<rest>[0-9a-f]{{38}})/(?P<name>\w[^/\s]*)\Z")
_NAME = re.compile(r"^[a-z0-9][a-z0-9.-]{0,79}$")
_WORD = re.compile(r"[a-z0-9.]+")


@dataclass(frozen=True)
class ExperimentRef:
    """`refs/exps/<2 hex>/<38 hex>/<name>`: an attempt against a baseline commit, as DVC lays it out."""

    baseline: str
    name: str

    def __str__(self) -> str:
        return f"{EXPS}/{self.baseline[:2]}/{self.baseline[2:]}/{self.name}"

    @classmethod
    def parse(cls, ref: str) -> Self | None:
        """The experiment a ref stands for; None for DVC's own refs below `refs/exps`, and for names with
        signs that cannot be seen, or that programs take for something else: options, formulas.
        """
        match = _EXPERIMENT.match(ref) if ref.isprintable() else None
        return cls(match["two"] + match["rest"], match["name"]) if match else None


def ahead(place: str) -> str:
    """The branch on which a campaign goes on that the checkout cannot follow.

    Args:
        place: what is checked out: a branch as a full ref name, or a commit.
    """
    branch = place.removeprefix("refs/heads/")
    return f"refs/heads/ar-{branch if branch != place else place[:12]}"


def queued(name: str) -> str:
    return f"{QUEUE}/{name}"


def running(name: str) -> str:
    return f"{RUNNING}/{name}"


def standing(place: str | None) -> str:
    """On a remote that several clones share: where the campaign of a branch stands.

    Args:
        place: the branch, as a full ref name; None where none is checked out.
    """
    return f"{HEADS}/{(place or 'HEAD').removeprefix('refs/heads/')}"


def at_remote(remote: str, ref: str) -> str:
    """Where a remote's ref is kept here."""
    return f"{REMOTES}/{remote}/{ref.removeprefix('refs/')}"


def of_remote(space: str, remote: str, name: str) -> str:
    """The ref of `LEASES` or `FINISHED` for an experiment of a remote's queue."""
    return f"{space}/{remote}/{name}"


def remote_in(ref: str) -> str:
    """The remote that `at_remote` has in a ref: one whose name has no slash."""
    return ref.removeprefix(f"{REMOTES}/").partition("/")[0]


def name_of(ref: str) -> str:
    """The experiment's name in a queue, running or experiment ref."""
    return ref.rsplit("/", 1)[-1]


def is_name(text: str) -> bool:
    return bool(_NAME.match(text)) and ".." not in text and not text.endswith((".lock", "."))


def new_name(title: str, seed: int | None = None) -> str:
    """A readable name that nobody else will pick: words of the title and six random hex digits.

    Replicates carry their seed (`-s2`), so that a name says what it repeats.
    """
    words = _WORD.findall(title.lower())
    slug = ""
    for word in words:
        if len(slug) + len(word) + 1 > 32:
            break
        slug = f"{slug}-{word.strip('.')}" if slug else word.strip(".")
    slug = re.sub(r"\.{2,}", ".", slug).strip("-.") or "experiment"
    replicate = "" if seed is None else f"-s{abs(seed)}"
    return f"{slug}{replicate}-{secrets.token_hex(3)}"


def imported_name(tool: str, key: str) -> str:
    """The name of what is imported: the tool and ten hex digits, the same whenever it is. It has no words of
    the record's, which may tell what no agent is to see."""
    return f"{tool}-{hashlib.sha256(key.encode(errors='replace')).hexdigest()[:10]}"

"""What can go wrong, in the user's words.

Every error a command expects is an `ArError`: its message names the thing that is wrong and ends with
what to do next; its `exit_code` is the process's. `cli/main.py` turns it into text, and nothing else does.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
from collections.abc import Iterable, Iterator
from pathlib import Path

_SQLITE_FULL = 13


class ArError(Exception):
    """An expected failure. `message` says what is wrong, `mend` what to do about it."""

    exit_code = 2

    def __init__(self, message: str, mend: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.mend = mend

    def __str__(self) -> str:
        return f"{self.message}\n  {self.mend}" if self.mend else self.message


class NotARepo(ArError):
    """The command needs a git repository with DVC in it."""


class BadProgram(ArError):
    """`program.md` cannot be used as it stands."""


class BadParams(ArError):
    """A parameters or metrics file cannot be read, or lacks what was asked of it."""


class BadProposal(ArError):
    """A proposal was refused: out of scope, does not apply, or was tried before."""


class TriedBefore(BadProposal):
    """An earlier attempt is exactly this change.

    Args:
        name: the attempt's.
    """

    def __init__(self, message: str, mend: str, name: str) -> None:
        super().__init__(message, mend)
        self.name = name


class BadNote(ArError):
    """What somebody would write into the notebook was refused."""


class NotFound(ArError):
    """Nothing goes by that name."""


class CannotClimb(ArError):
    """A change cannot be measured at a larger scale."""


class CannotPromote(ArError):
    """The branch cannot, or should not, take this experiment."""


class CheckoutInTheWay(CannotPromote):
    """Uncommitted changes lie where the merge writes; the branch may go on without the checkout."""


class FailedAtHeadSeed(CannotPromote):
    """A winner has no run at the branch's own seed that ended well: its tree cannot become the branch's."""


class Tampered(CannotPromote):
    """A result differs from its baseline in more than its scope allows: nobody may merge it."""


class Stopped(ArError):
    """The user ended what was under way."""

    exit_code = 130


class Conflict(ArError):
    """A ref moved under us, or two sides changed the same thing."""


class AgentFailed(ArError):
    """An agent could not answer.

    Args:
        passing: it may yet, without anybody mending anything.
        in_vain: it was asked, and that led to nothing: another question may go better, but not for ever.
    """

    def __init__(
        self, message: str, mend: str | None = None, passing: bool = False, in_vain: bool = False
    ) -> None:
        super().__init__(message, mend)
        self.passing = passing or in_vain
        self.in_vain = in_vain


class OutOfBudget(ArError):
    """What is about to be done would spend more than `program.md` allows."""


class Exhausted(ArError):
    """An agent has no further change to propose: all that it may try has been tried."""


class BadState(ArError):
    """The repository or the machine is in a state that the command cannot work in."""


class DiskFull(BadState):
    """Nothing more can be written.

    Args:
        where: the file that could not be, if that is known.
    """

    def __init__(self, where: str = "") -> None:
        mend = "free some space, then run the command again: nothing is lost"
        super().__init__(f"the disk is full{f': {where}' if where else ''}", mend)


class NotAllowed(ArError):
    """A repository would have this machine do what its owner has not allowed."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the system has against writing a file, in the user's words.

    Raises:
        DiskFull: there is no room for it.
        BadState: it cannot be written.
    """
    try:
        yield
    except OSError as error:
        if full_disk(error):
            raise DiskFull(str(path)) from None
        raise BadState(f"cannot write {path}: {error.strerror}", "check the permissions") from None


def full_disk(error: BaseException | None) -> DiskFull | None:
    """The full disk behind an error, if one is: by the system's own word, or by SQLite's for one of DVC's
    databases."""
    while error is not None:
        if getattr(error, "sqlite_errorcode", None) == _SQLITE_FULL:
            return DiskFull()
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            return DiskFull(str(error.filename or ""))
        error = error.__cause__ or error.__context__
    return None


def nearest(word: str, known: Iterable[str]) -> str:
    """'did you mean X?' for the nearest of `known`, or the list of them if none is near."""
    options = sorted(known)
    close = difflib.get_close_matches(word, options, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"known: {', '.join(options)}" if options else "none is known"

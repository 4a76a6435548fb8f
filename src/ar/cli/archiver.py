"""Stand aside for the archiver: our console script hides binutils' `ar`, which C builds call by that name.

What fits the archiver's grammar and is none of our commands is handed, untouched, to the next `ar` on PATH.
Only the command line is looked at, unless its first word may be a slip for a command of ours: then the files
that it names must be there, too.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NoReturn

from ar.errors import ArError

# GNU ar 2.40, llvm-ar, and the BSDs: `ar(1)`, "[-]p[mod]". `s` is an operation when it stands alone.
_OPERATIONS = frozenset("dmpqrtx")
_MAKES_ARCHIVE = "qr"
_MODIFIERS = frozenset("abcCDfijklLNoOPsSTuUvVzZ")
# Modifiers that the archiver refuses without one of these operations. They keep words such as `diff` ours.
_ONLY_WITH = {"u": "r", "N": "dpx", "a": "mqr", "b": "mqr", "i": "mqr", "O": "t"}
_NEAR = 0.7  # of 1 for the same word; `dff` and `diff` 0.86, `cru` and `run` 0.67
_TAKES_ARGUMENT = frozenset("abiN")  # a member's name to stand by; a count

_WITH_VALUE = {"--plugin", "--target", "--output", "--record-libdeps", "--format", "--rsp-quoting"}
_ALONE = re.compile(r"--thin|-X(32|64|32_64|any)")  # the latter are AIX's

# Ourselves and whom we handed to already: a wrapper that comes back (a pyenv shim does) is passed over.
_TRIED = "AR_ARCHIVERS_TRIED"


class NoArchiver(ArError):
    """There is no other `ar` on PATH."""

    exit_code = 127  # the shell's "command not found", which build systems know


def is_archiver_call(argv: Sequence[str], commands: Collection[str]) -> bool:
    """Whether the arguments are meant for the archiver.

    A first word among our own commands is ours, and so is one near to them where the archiver would miss a
    file: `ar dff lr-up` would make an empty archive of that name.
    """
    if not argv or argv[0] in commands:
        return False
    if argv[0].startswith("@") and len(argv[0]) > 1:
        return True  # the archiver reads its arguments from that file
    split = _split(argv)
    if split is None:
        return False
    letters, operands = split
    if letters in ("M", "V"):
        return not operands  # a librarian script on standard input; the archiver's version
    found = [letter for letter in letters if letter in _OPERATIONS]
    operation = found[0] if len(found) == 1 else "s" if not found and "s" in letters else None
    if operation is None or not set(letters) <= _OPERATIONS | _MODIFIERS:
        return False
    if any(operation not in _ONLY_WITH.get(letter, operation) for letter in letters):
        return False
    archive, *members = operands[sum(letter in letters for letter in _TAKES_ARGUMENT) :] or [""]
    needed = members if operation in _MAKES_ARCHIVE else [archive]
    missing = [name for name in needed if not name.startswith("@") and not Path(name).exists()]
    is_slip = missing and difflib.get_close_matches(argv[0], commands, cutoff=_NEAR)
    return bool(archive and not is_slip)


def _split(argv: Sequence[str]) -> tuple[str, list[str]] | None:
    """Key letters and operands; None where a word has no place in the grammar."""
    letters = ""
    operands: list[str] = []
    words = iter(argv)
    for word in words:
        name, equals, _ = word.partition("=")
        if word == "--":
            operands += words
        elif name in _WITH_VALUE:
            if not equals and next(words, None) is None:
                return None
        elif _ALONE.fullmatch(word):
            continue
        elif len(word) > 1 and word[0] == "-":
            if not word[1:].isalpha():
                return None
            letters += word[1:]
        elif not letters:
            letters = word
        else:
            operands.append(word)
    return letters, operands


def exec_archiver(argv: Sequence[str]) -> NoReturn:
    """Become the next `ar` on PATH with these arguments; never one of the folder that we happen to be in.

    Raises:
        NoArchiver: there is none.
    """
    tried = [str(Path(sys.argv[0]).resolve()), *os.environ.get(_TRIED, "").split(os.pathsep)]
    for folder in os.get_exec_path():
        if folder in ("", "."):
            continue  # it may be a stranger's folder
        path = Path(folder, "ar")
        real = str(path.resolve())
        if real in tried or not path.is_file() or not os.access(path, os.X_OK) or _is_ours(path):
            continue
        tried.append(real)
        sys.stdout.flush()
        with contextlib.suppress(OSError):  # not a program after all: on to the next
            os.execve(path, [str(path), *argv], {**os.environ, _TRIED: os.pathsep.join(tried)})  # noqa: S606
    call = f"'ar {' '.join(argv)}' is a call of the archiver"
    raise NoArchiver(f"{call}, and PATH has no other ar than this one", "install binutils")


def _is_ours(path: Path) -> bool:
    """Whether the file is this tool's console script, perhaps of another environment."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        head = file.read(4096)
        return head.startswith(b"#!") and b"python" in head and b"ar.cli" in head
    return False

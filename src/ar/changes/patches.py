"""Patches as people send them: read with their message, applied to a tree."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ar.errors import BadProposal, NotFound
from ar.git.command import GitFailed
from ar.git.repo import Repo
from ar.text import one_line

MAX_BYTES = 10_000_000
_MAIL = re.compile(rb"\A(?:From |(?:From|Date|Subject|Message-Id): )", re.IGNORECASE)
_LITERAL = re.compile(rb"^literal (\d{1,300})$", re.MULTILINE)  # bytes of a binary file, unpacked
_GLOB = re.compile(r"([*?[\\])")
_COMMIT = re.compile(r"\Acommit [0-9a-f]{7,64}\n(?:[^\n]+\n)*\n(?P<message>(?:    [^\n]*\n|\n)*)")
_NO_PREFIX = re.compile(rb"^diff --git (\S+) \1$", re.MULTILINE)
_FAILED = re.compile(r"^error: patch failed: (?P<path>.+):(?P<line>\d+)$", re.MULTILINE)
_HUNK = re.compile(r"^@@ -(?P<line>\d+)(?:,\d+)? \+\d+(?:,\d+)? @@")
_SAYS = {
    "No valid patches in input": "there is no diff in it",
    ": does not exist in index": " does not exist at the baseline",
    ": already exists in index": " exists at the baseline already",
}


@dataclass(frozen=True)
class Patch:
    """A change as text.

    Args:
        diff: unified diff, with whatever git skips around it.
        title, body: of its message; empty where it has none.
    """

    diff: bytes
    title: str = ""
    body: str = ""


def parse(repo: Repo, content: bytes) -> Patch:
    """A patch as `git diff`, `git show`, `git format-patch` or `diff -u` write it.

    Raises:
        BadProposal: it is far too long.
    """
    if len(content) > MAX_BYTES:
        raise BadProposal(f"the patch is longer than {MAX_BYTES} bytes", "make a smaller change")
    content = content if content.endswith(b"\n") else content + b"\n"
    if _MAIL.match(content):
        return _mail(repo, content)
    shown = _COMMIT.match(content.decode(errors="replace"))
    lines = [line.strip() for line in shown["message"].splitlines()] if shown else [""]
    return Patch(content, lines[0], "\n".join(lines[1:]).strip())


def _mail(repo: Repo, content: bytes) -> Patch:
    with tempfile.TemporaryDirectory(prefix="ar-patch-") as folder:
        message, diff = Path(folder, "message"), Path(folder, "diff")
        try:
            headers = repo.run("mailinfo", str(message), str(diff), stdin=content)
        except GitFailed:
            return Patch(content)
        subject = re.search(r"^Subject: (.*)$", headers, re.MULTILINE)
        title = subject[1].strip() if subject else ""
        return Patch(diff.read_bytes(), title, message.read_text(errors="replace").strip())


def of_commit(repo: Repo, rev: str) -> Patch:
    """What one commit changed.

    Raises:
        BadProposal: it is a merge.
    """
    commit = repo.commit(rev)
    if len(commit.parents) > 1:
        raise BadProposal("it is a merge, not one change", "name the commits that it merged")
    title, _, body = commit.message.strip().partition("\n")
    return Patch(between(repo, f"{rev}^" if commit.parents else None, rev), title, body.strip())


def between(repo: Repo, old: str | None, new: str) -> bytes:
    """The change from one tree or commit to another (None: from nothing), binary files too."""
    form = ("-p", "-r", "-M", "--binary", "--full-index", "--src-prefix=a/", "--dst-prefix=b/")
    plain = ("--no-ext-diff", "--no-textconv", "--no-commit-id")
    names = ("--root", new) if old is None else (old, new)
    text = repo.run("diff-tree", *form, *plain, *names)
    return f"{text}\n".encode(errors="surrogateescape")


def series(repo: Repo, source: str) -> Sequence[tuple[str, Callable[[], Patch]]]:
    """Label and reader of each patch: the `*.patch` and `*.diff` files of a folder, by name, or the commits
    of a range, the oldest first.

    Raises:
        NotFound: it is neither, or holds nothing.
    """
    folder = Path(source)
    if folder.is_dir():
        files = sorted(path for path in folder.iterdir() if path.suffix in (".patch", ".diff"))
        readers = [(path.name, partial(_read, repo, path)) for path in files if path.is_file()]
        if not readers:
            what = f"there is no *.patch or *.diff file in {source}"
            raise NotFound(what, "git format-patch writes such files")
        return readers
    neither = NotFound(
        f"'{source}' is neither a folder nor a range of commits",
        "for example: ar next --series patches/, or ar next --series main..ideas",
    )
    if ".." not in source:
        raise neither
    try:
        revs = repo.run("rev-list", "--reverse", "--end-of-options", source, "--").split()
    except GitFailed:
        raise neither from None
    if not revs:
        raise NotFound(f"there is no commit in {source}", "name the older end first: main..ideas")
    titles = (repo.commit(rev).message.partition("\n")[0] for rev in revs)
    return [
        (f"{rev[:9]} {one_line(title)}", partial(of_commit, repo, rev))
        for rev, title in zip(revs, titles, strict=True)
    ]


def _read(repo: Repo, path: Path) -> Patch:
    with path.open("rb") as stream:
        patch = parse(repo, stream.read(MAX_BYTES + 1))
    words = re.sub(r"[-_]+", " ", path.stem).lstrip("0123456789 ")
    return patch if patch.title else replace(patch, title=words)


def apply(repo: Repo, base: str, diff: bytes, leave_out: Callable[[str], bool]) -> str:
    """The tree of `base` with a patch applied. Every hunk must match.

    Args:
        leave_out: paths whose part of the patch is not wanted.

    Raises:
        BadProposal: it does not apply; which hunk of which file.
    """
    if any(int(match[1]) > MAX_BYTES for match in _LITERAL.finditer(diff)):
        raise BadProposal(f"the patch unpacks to more than {MAX_BYTES} bytes", "make a smaller change")
    options = ["--whitespace=nowarn", "-p0" if _NO_PREFIX.search(diff) else "-p1"]
    with repo.own_index(base) as env:
        try:
            paths = _paths(repo, diff, options)
            if repo.prefix and not any(path.startswith(f"{repo.prefix}/") for path in paths):
                options.append(f"--directory={repo.prefix}")
                paths = [f"{repo.prefix}/{path}" for path in paths]
            inside = f"{repo.prefix}/" if repo.prefix else ""
            unwanted = [path for path in paths if leave_out(path.removeprefix(inside))]
            options += ["--exclude=" + _GLOB.sub(r"\\\1", path) for path in unwanted]
            repo.run("apply", "--cached", *options, "-", stdin=diff, env=env)
        except GitFailed as error:
            what = f"the patch does not apply: {_reason(diff.decode(errors='replace'), error.said)}"
            raise BadProposal(what, "make it against HEAD, for example with: git diff HEAD") from None
        return repo.run("write-tree", env=env)


def _paths(repo: Repo, diff: bytes, options: list[str]) -> list[str]:
    """Files that a patch writes, as it names them."""
    lines = repo.run("apply", "--numstat", "-z", *options, "-", stdin=diff).split("\0")
    return [line.split("\t", 2)[2] for line in lines if line]


def _reason(diff: str, said: str) -> str:
    """What git said of a patch that does not apply, with the hunks by number."""
    failed = [_hunk(diff, match["path"], int(match["line"])) for match in _FAILED.finditer(said)]
    if failed:
        return one_line("; ".join(failed))
    lines = [line.removeprefix("error: ") for line in said.splitlines() if line.startswith("error: ")]
    text = "; ".join(lines) or said
    for words, plainer in _SAYS.items():
        text = text.replace(words, plainer)
    return one_line(text.replace(' (allow with "--allow-empty")', ""))


def _hunk(diff: str, path: str, line: int) -> str:
    """The hunk of a file that begins at a line of the old version, in words."""
    number, here = 0, False
    for text in diff.splitlines():
        if text.startswith("--- "):
            name = text[4:].partition("\t")[0]
            inside = name.partition("/")[2]
            number, here = 0, path in (name, inside) or path.endswith(f"/{inside}")
        elif here and (match := _HUNK.match(text)):
            number += 1
            if int(match["line"]) == line:
                return f"hunk {number} of {path} ({text}) does not match the baseline"
    return f"{path} differs at line {line}"

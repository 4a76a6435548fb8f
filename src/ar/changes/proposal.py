"""From a `Proposal` to a tree: scope checked, edits applied, parameters set, earlier attempts named."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ar.changes import composition, size
from ar.errors import ArError, BadParams, BadProposal, TriedBefore, nearest
from ar.formats import BadData, check, load_json
from ar.git.repo import Repo
from ar.history.ideas import Edit, Proposal
from ar.history.messages import MOST_SOURCES, TITLE_LIMIT
from ar.history.records import History
from ar.project import papers, params
from ar.project.identity import identity
from ar.project.params import PARAMS_FILE, ParamKey, same_code
from ar.project.pipeline_file import PIPELINE_FILE, Declared
from ar.project.program import Program
from ar.project.project import Project
from ar.project.scope import is_obeyed
from ar.project.values import element, flat, flatten, get, parse
from ar.redaction import MARK, redact
from ar.text import one_line, shorten_middle

MAX_FILE_BYTES = 1_000_000
_WORD = re.compile(r"[\w@%/][\w.,:=+@%/-]*", re.ASCII)
MAX_EDITS = 200
MAX_NAME_BYTES = 200  # of a file or folder: file systems take 255, tools add to them
MAX_PATH_BYTES = 1000  # from the project's top


@dataclass(frozen=True)
class Change:
    """A proposal that passed every check.

    Args:
        tree: the baseline's tree with the change in it, at the baseline's own seed.
        candidate: identity of that tree.
    """

    proposal: Proposal
    baseline: str
    tree: str
    candidate: str


def prepare(project: Project, proposal: Proposal, history: History) -> Change:
    """Check a proposal against the scope and apply it to the head.

    Raises:
        BadProposal: with everything that the proposer needs to do better. What nobody foresaw is one, too: it
            is the proposal that brought it about.
    """
    try:
        return _checked_change(project, proposal, history)
    except ArError:
        raise
    except Exception as error:
        what = shorten_middle(one_line(f"{type(error).__name__}: {error}"), 200)
        raise BadProposal(f"the proposal cannot be checked: {what}", "propose something simpler") from error


def _checked_change(project: Project, proposal: Proposal, history: History) -> Change:
    repo, program = project.repo, project.program
    if not proposal.title.strip() or "\n" in proposal.title:
        raise BadProposal("the title must be one line", f"at most {TITLE_LIMIT} characters")
    _refuse_odd(proposal)
    _refuse_unknown(repo, history.head, proposal.sources)
    base = proposal.tree or history.head
    if proposal.tree:
        _check_tree(project, history.head, proposal.tree)
    contents = _edited(project, proposal, base)
    for file, values in _by_file(program, flatten(proposal.params)).items():
        old = contents.get(file, repo.read(base, file))
        if old is None:
            raise BadProposal(f"there is no {file} at the baseline", "set parameters of files that exist")
        contents[file] = params.update(old, file, _checked(old, file, values))
    if not contents and base in (history.head, repo.tree(history.head)):
        raise BadProposal("the proposal changes nothing", "set a parameter or edit a file")
    tree = _settled(project, history.head, repo.write_tree(base, contents))
    _refuse_names(repo, history.head, tree)
    _refuse_commands(project, history.head, tree)
    _refuse_bulk(repo, history.head, tree)
    _refuse_secrets(repo, history.head, tree)
    candidate = candidate_of(project, proposal, tree, history)
    _refuse_repeats(candidate, history)
    return Change(proposal=proposal, baseline=history.head, tree=tree, candidate=candidate)


def _refuse_unknown(repo: Repo, head: str, sources: Sequence[str]) -> None:
    """Hold what a proposal cites to the cards of literature that the head has."""
    if not sources:
        return
    if len(sources) > MOST_SOURCES:
        raise BadProposal(
            f"{len(sources)} cards are too many to cite", f"cite the {MOST_SOURCES} it rests on"
        )
    known = papers.read(repo, head).cards
    for name in sources:
        if name not in known:
            what = shorten_middle(one_line(name), 100)
            raise BadProposal(f"the branch has no card {papers.FOLDER}/{what}.md", nearest(name, known))


def _check_tree(project: Project, head: str, tree: str) -> None:
    """Hold every file that differs from the head to what an edit of it would be held to."""
    repo, program = project.repo, project.program
    changed = repo.changed(head, tree)
    if len(changed) > MAX_EDITS:
        raise BadProposal(f"{len(changed)} changed files are too many", f"at most {MAX_EDITS}")
    declared = Declared.read(repo, head)
    before = repo.files(head)
    for path, entry in changed.items():
        ours = path in program.param_files or composition.is_source(repo, head, path)
        if not ours or program.scope.covers(path) or is_obeyed(path):
            checked_path(path, program)
        if declared.is_output(path):
            raise BadProposal(f"{path} is written by the pipeline", "edit what it is made from")
        if any(side is not None and not side.is_file for side in (entry, before.get(path))):
            raise BadProposal(f"{path} is a link or a submodule", "change regular files only")
    files = {path: entry.blob for path, entry in changed.items() if entry is not None}
    for path, length in zip(files, repo.sizes(list(files.values())), strict=True):
        if length > MAX_FILE_BYTES:
            raise BadProposal(f"{path} grows beyond {MAX_FILE_BYTES} bytes", "make a smaller change")
    for path, content in zip(files, repo.read_many([(tree, path) for path in files]), strict=True):
        if path.endswith(".py"):
            _check_text(path, _text(path, content or b""))
    for path in changed:
        if path in program.param_files:
            _check_values(program, path, repo.read(head, path), repo.read(tree, path))


def _settled(project: Project, head: str, tree: str) -> str:
    """The tree with what Hydra composes and what it composes it of in line, held to the scope."""
    repo, program = project.repo, project.program
    try:
        settled = composition.settled(repo, head, tree)
        unread = [path for path in composition.unread(repo, head, settled) if not program.scope.covers(path)]
    except BadParams as error:
        raise BadProposal(error.message, error.mend) from None
    if unread:
        raise BadProposal(f"{unread[0]} lies outside the scope", "change files that Hydra composes")
    if settled != tree:
        _check_values(program, PARAMS_FILE, repo.read(head, PARAMS_FILE), repo.read(settled, PARAMS_FILE))
    return settled


def _refuse_odd(proposal: Proposal) -> None:
    """What no file, message or program could hold: half characters, numbers beyond any, groups in groups."""
    try:
        check(proposal.to_json())
    except BadData as error:
        raise BadProposal(
            f"the proposal cannot be written down: {error}", "use plain text and numbers"
        ) from None
    if any(
        "\0" in text for text in (proposal.title, proposal.hypothesis, proposal.expected, proposal.parent)
    ):
        raise BadProposal("the proposal cannot be written down: a null character", "use plain text")


def _refuse_names(repo: Repo, head: str, tree: str) -> None:
    """Names that some file system has no room for, or takes for one that is there already."""
    before, after = repo.files(head), repo.files(tree)
    new = [path for path in after if path not in before]
    spelled: dict[str, set[str]] = {}
    for path in after if new else ():
        for name in (path, *map(str, PurePosixPath(path).parents)):
            spelled.setdefault(unicodedata.normalize("NFKC", name).casefold(), set()).add(name)
    alike = {name for names in spelled.values() if len(names) > 1 for name in names}
    for path in new:
        sizes = [len(name.encode(errors="surrogateescape")) for name in (path, *PurePosixPath(path).parts)]
        if sizes[0] > MAX_PATH_BYTES or max(sizes[1:]) > MAX_NAME_BYTES:
            raise BadProposal(f"{path[:80]}… is too long a name", f"at most {MAX_NAME_BYTES} bytes")
        if alike & {path, *map(str, PurePosixPath(path).parents)}:
            what = f"{path} differs from a name that is there by case or form of its letters only"
            raise BadProposal(what, "choose another name")


def _refuse_commands(project: Project, head: str, tree: str) -> None:
    """Text that would end up in command lines and paths of `dvc.yaml`, where it might be a command itself."""
    repo = project.repo
    if not any(b"${" in (repo.read(head, place) or b"") for place in Declared.read(repo, head).pipelines):
        return
    for path in sorted(project.program.param_files & repo.changed(head, tree).keys()):
        before, after = (flat(repo.read(rev, path) or b"", path) for rev in (head, tree))
        for key, value in after.items():
            old = before.get(key)
            items = load_json(value) if isinstance(value, str) and _is_list(value) else [value]
            odd = [item for item in items if not isinstance(item, int | float | None) and not _is_word(item)]
            if value != old and odd:
                what = f"{key} may stand in a command of {PIPELINE_FILE}, and {odd[0]!r} is no plain word"
                raise BadProposal(what, "use letters, digits and . , : = + @ % / _ -")


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and _WORD.fullmatch(value) is not None and ".." not in value


def _refuse_bulk(repo: Repo, head: str, tree: str) -> None:
    """What a program could not know it could carry along, were there room."""
    added = size.added(repo, head, tree, repo.changed(head, tree))
    if added > size.MAX_ADDED_BYTES:
        most = f"at most {size.MAX_ADDED_BYTES}, over all files"
        raise BadProposal(f"the proposal adds {added} bytes", f"make a smaller change: {most}")


def _refuse_secrets(repo: Repo, head: str, tree: str) -> None:
    """What is in a tree is in a ref for ever: no proposal may bring a key there."""
    paths = [path for path, entry in repo.changed(head, tree).items() if entry is not None]
    before = repo.read_many([(head, path) for path in paths])
    after = repo.read_many([(tree, path) for path in paths])
    for path, old, new in zip(paths, before, after, strict=True):
        secrets = [redact((text or b"").decode(errors="replace")).count(MARK) for text in (old, new)]
        if secrets[1] > secrets[0]:
            raise BadProposal(f"{path} would hold a secret, such as a key", "read it from the environment")


def _check_values(program: Program, path: str, old: bytes | None, new: bytes | None) -> None:
    """Hold a rewritten parameters file to what setting its keys would be held to; keys may come and go."""
    if old is None or new is None:
        raise BadProposal(f"{path} may be neither added nor deleted", "set parameters in files that exist")
    before, after = flat(old, path), flat(new, path)
    changed = {key for key, _ in before.items() ^ after.items()}
    differ = [key for key in (*before, *after) if key in changed]
    if program.scope.may_edit(path):  # all of it is free, but for the seed
        differ = [key for key in differ if ParamKey(path, key) == program.seed]
    elif not same_code(path, old, new):
        raise BadProposal(f"the code of {path} lies outside the scope", "change its values only")
    _by_file(program, {str(ParamKey(path, key)): after.get(key) for key in differ})
    _checked(old, path, {key: after[key] for key in differ if key in before and key in after})


def _text(path: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise BadProposal(f"{path} is not UTF-8 text", "edit text files only") from None


def _edited(project: Project, proposal: Proposal, baseline: str) -> dict[str, bytes | None]:
    if not proposal.edits:
        return {}
    if len(proposal.edits) > MAX_EDITS:
        raise BadProposal(f"{len(proposal.edits)} edits are too many", f"at most {MAX_EDITS}")
    files = project.repo.files(baseline)
    declared = Declared.read(project.repo, baseline)
    texts: dict[str, str] = {}
    for edit in proposal.edits:
        path = checked_path(edit.path, project.program)
        if declared.is_output(path):
            raise BadProposal(f"{path} is written by the pipeline", "edit what it is made from")
        entry = files.get(path)
        if entry is not None and not entry.is_file:
            raise BadProposal(f"{path} is a link or a submodule", "edit regular files only")
        if above := next((str(folder) for folder in PurePosixPath(path).parents if str(folder) in files), ""):
            raise BadProposal(f"{above} is a file, no folder", "choose another path")
        if path not in texts:
            texts[path] = _text(path, (project.repo.read(baseline, path) if entry else None) or b"")
        texts[path] = _replaced(edit, texts[path], exists=entry is not None or bool(texts[path]))
    for path, text in texts.items():
        _check_text(path, text)
    return {path: text.encode() for path, text in texts.items()}


def checked_path(path: str, program: Program) -> str:
    """The path in its plain form, if a proposal may edit it.

    Raises:
        BadProposal: it may not.
    """
    pure = PurePosixPath(path)
    odd = not pure.parts or ".." in pure.parts or "\\" in path or any(ord(char) < 32 for char in path)
    if odd or pure.is_absolute():
        mend = "use paths relative to the project's root"
        raise BadProposal(f"{path!r} is no path inside the project", mend)
    clean = str(pure)
    if not program.scope.may_edit(clean):
        allowed = ", ".join(program.scope.files) or "no file at all"
        raise BadProposal(f"{clean} lies outside the scope", f"what may change is: {allowed}")
    return clean


def _replaced(edit: Edit, text: str, exists: bool) -> str:
    if not edit.old:
        if exists:
            raise BadProposal(f"{edit.path} exists already", "give the old text to replace")
        return edit.new
    count = text.count(edit.old)
    if count != 1:
        where = "is not" if count == 0 else f"is {count} times"
        what = f"the old text {where} in {edit.path}: {edit.old[:80]!r}"
        raise BadProposal(what, "quote it exactly, with enough lines around it")
    return text.replace(edit.old, edit.new)


def _check_text(path: str, text: str) -> None:
    if len(text.encode()) > MAX_FILE_BYTES:
        raise BadProposal(f"{path} grows beyond {MAX_FILE_BYTES} bytes", "make a smaller change")
    if path.endswith(".py"):
        try:
            ast.parse(text)
        except (RecursionError, MemoryError):
            raise BadProposal(f"{path} does not compile: nested too deep", "mend the edit") from None
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None)
            raise BadProposal(f"{path} does not compile: line {line}: {error}", "mend the edit") from None


def _by_file(program: Program, values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    files: dict[str, dict[str, Any]] = {}
    for text, value in values.items():
        key = ParamKey.parse(text)
        if program.seed == key:
            raise BadProposal(f"{key} is the seed", "replicates vary it; set something else")
        if not program.scope.allows_param(key):
            allowed = ", ".join(str(scope) for scope in program.scope.params) or "no parameter at all"
            raise BadProposal(f"{key} lies outside scope.params", f"what may be set is: {allowed}")
        files.setdefault(key.file, {})[key.key] = value
    return files


def _checked(content: bytes, file: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of the type that the file has now; an int may stand for a float. A list is its JSON text."""
    data, checked = parse(content, file), dict(values)
    for key, value in values.items():
        try:
            old = element(data, key)
        except KeyError:
            raise BadProposal(f"{file} has no key '{key}'", nearest(key, flatten(data))) from None
        is_list = isinstance(get(data, key), list) and _is_list(value)
        if not _is_finite(load_json(value) if is_list else value):
            raise BadProposal(f"{key} cannot be {value}", f"now it is {old!r}")
        if isinstance(get(data, key), list) and not is_list:
            raise BadProposal(f"{key} is a list in {file}, not {value!r}", f"now it is {old}")
        numbers = isinstance(old, float) and isinstance(value, int | float) and not isinstance(value, bool)
        whole = type(old) is int and isinstance(value, float) and value.is_integer()
        if old is not None and not numbers and not whole and type(value) is not type(old):
            kinds = f"{type(old).__name__} in {file}, not {type(value).__name__}"
            raise BadProposal(f"{key} is {kinds}", f"now it is {old!r}")
        checked[key] = int(value) if type(old) is int else value
    return checked


def _is_finite(value: Any) -> bool:
    """Whether no number in it is infinite or none at all."""
    if isinstance(value, list | dict):
        return all(map(_is_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


def _is_list(value: Any) -> bool:
    with contextlib.suppress(ValueError, TypeError):
        return isinstance(load_json(value), list)
    return False


def candidate_of(project: Project, proposal: Proposal, tree: str, history: History) -> str:
    """A change's identity: its tree's.

    A tree may have been measured against another baseline, by what joins or takes out promoted changes, or
    where the branch moved on before it was decided. A verdict holds for one baseline only, so there the
    identity is one of both.
    """
    plain = identity(project, tree)
    earlier = history.of(plain)
    again = proposal.stack or proposal.reverts or (earlier and earlier.is_superseded)
    if not again or plain == history.incumbent or earlier is None or history.is_head(earlier.baseline):
        return plain
    return hashlib.sha256(f"{plain} on {history.incumbent}".encode()).hexdigest()[:16]


def _refuse_repeats(candidate: str, history: History) -> None:
    if candidate == history.incumbent:
        mend = "change something that matters to the run"
        raise BadProposal("the proposal leaves the baseline as it is", mend)
    for attempt in history.attempts:
        if attempt.candidate == candidate:
            what = f"{attempt.name} tried exactly this ({attempt.outcome})"
            raise TriedBefore(what, "propose something else", attempt.name)

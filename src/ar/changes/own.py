"""What people propose by themselves: a patch, parameters, the state of their checkout."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence

from ar.changes import merging, patches
from ar.changes.patches import Patch
from ar.changes.proposal import MAX_FILE_BYTES
from ar.errors import BadProposal
from ar.formats import BadData, load_yaml
from ar.git import worktree
from ar.history.ideas import Proposal
from ar.history.messages import TITLE_LIMIT
from ar.project.hydra import Hydra
from ar.project.params import ParamKey
from ar.project.pipeline_file import Declared
from ar.project.project import Project
from ar.project.values import Scalar, element, flatten, parse
from ar.text import listed, one_line

NAME = "human"
_CATCH_UP = "merge what the campaign promoted first; ar run says how"


def from_patch(project: Project, patch: Patch, values: Mapping[str, Scalar], message: str) -> Proposal:
    """A patch, applied to the head, with parameters set on top of it.

    What DVC writes (`dvc.lock`, outputs) is left out of the patch: the run writes it anew.

    Raises:
        BadProposal: it does not apply.
    """
    head = project.repo.head()
    declared = Declared.read(project.repo, head)
    tree = patches.apply(project.repo, head, patch.diff, leave_out=declared.is_generated)
    return from_values(project, values, message or f"{patch.title}\n\n{patch.body}".strip(), tree)


def from_checkout(project: Project, values: Mapping[str, Scalar], message: str) -> tuple[Proposal, list[str]]:
    """The user's uncommitted changes, and the changed files left out of it: those outside the scope.

    Raises:
        BadProposal: nothing in the scope differs from the head.
    """
    repo, program = project.repo, project.program
    wanted, declared = _wanted(project, repo.head()), Declared.read(repo, repo.head())
    tree, others = worktree.snapshot(repo, wanted, MAX_FILE_BYTES)
    left_out = [path for path in others if not declared.is_generated(path)]
    if repo.checked_out() != repo.head():
        merged = merging.merge(project, repo.checked_out(), repo.head(), tree, "your checkout")
        if merged.clashes:
            where = ", ".join(clash.path for clash in merged.clashes)
            raise BadProposal(f"your checkout is behind the campaign, and they differ in {where}", _CATCH_UP)
        tree = merged.tree
    if tree == repo.tree(repo.head()) and not values:
        outside = f" (outside it: {', '.join(left_out[:5])})" if left_out else ""
        mend = f"what may change is: {', '.join([*program.scope.files, *map(str, program.scope.params)])}"
        raise BadProposal(f"nothing in the scope differs from HEAD{outside}", mend)
    return from_values(project, values, message, tree), left_out


def from_commit(project: Project, rev: str, base: str) -> tuple[str, list[str]]:
    """The tree of an ancestor with what a commit has otherwise inside the scope, and the files left out of
    it: those outside the scope. What DVC writes is in neither."""
    repo, declared = project.repo, Declared.read(project.repo, rev)
    wanted, changed = _wanted(project, rev), repo.changed(base, rev)
    inside = {path: entry for path, entry in changed.items() if wanted(path)}
    left_out = [path for path in changed if path not in inside and not declared.is_generated(path)]
    return repo.write_tree(base, inside), left_out


def _wanted(project: Project, rev: str) -> Callable[[str], bool]:
    """Whether a path of a commit may be part of a change, as far as its name tells."""
    declared, hydra = Declared.read(project.repo, rev), Hydra.of(project.repo, rev)

    def wanted(path: str) -> bool:
        ours = project.program.may_change(path) or (hydra and hydra.holds(path))
        return bool(ours) and not declared.is_generated(path)

    return wanted


def from_values(project: Project, values: Mapping[str, Scalar], message: str, tree: str = "") -> Proposal:
    """Parameters, on a tree where there is one. Without a message, the title says what is changed."""
    first, _, rest = message.strip().partition("\n")
    title, hypothesis = one_line(first), rest.strip()
    if not title or len(title) > TITLE_LIMIT or (values and not tree):
        title, hypothesis = _changes(project, tree, values), message.strip()
    return Proposal(title=title, hypothesis=hypothesis, agent=NAME, params=dict(values), tree=tree)


def parse_values(texts: Sequence[str]) -> dict[str, Scalar]:
    """`KEY=VALUE` texts as parameters; values are YAML as DVC reads it, lists and mappings too.

    Raises:
        BadProposal: one is not of that form.
    """
    values: dict[str, Scalar] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        try:
            parsed = load_yaml(value)
        except BadData:
            equals = ""
        if not equals or not key.strip():
            raise BadProposal(f"'{text}' does not set a parameter", "for example: --set optim.lr=0.06")
        values |= flatten({key.strip(): parsed})
    return values


def _changes(project: Project, tree: str, values: Mapping[str, Scalar]) -> str:
    """What is changed, in a line: `optim.lr 0.04 → 0.06, edit model/gpt.py`."""
    parts = [f"{key} {_now(project, ParamKey.parse(key))} → {value}" for key, value in values.items()]
    files = sorted(project.repo.changed(project.repo.head(), tree)) if tree else []
    if files:
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        parts.append(f"edit {files[0]}{more}")
    return listed([one_line(part) for part in parts or ["nothing"]], TITLE_LIMIT)


def _now(project: Project, param: ParamKey) -> Scalar:
    """What a parameter is at the head; None where there is none."""
    content = project.repo.read(project.repo.head(), param.file)
    with contextlib.suppress(KeyError):
        return element(parse(content or b"", param.file), param.key)
    return None

"""Parameters that Hydra composes: a change of them is one of the files that it reads, too.

Otherwise the next `dvc exp run` of the user's composes `params.yaml` anew, and what was promoted is lost.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ar.git.repo import Repo
from ar.project import params
from ar.project.hydra import Hydra
from ar.project.params import PARAMS_FILE
from ar.project.project import Project
from ar.project.values import Scalar, dump_yaml, flat


def settled(repo: Repo, head: str, tree: str) -> str:
    """A changed tree whose `params.yaml` and whose files for Hydra say the same; as it is without Hydra.

    Raises:
        BadParams: what is set in `params.yaml` cannot be said in those files.
    """
    hydra = Hydra.of(repo, head)
    content = repo.read(tree, PARAMS_FILE)
    if hydra is None or content is None:
        return tree
    by_hand = _changed(_params(repo, head), _params(repo, tree))
    composed = _recomposed(repo, hydra, head, tree)
    if lacking := {key: value for key, value in by_hand.items() if composed.get(key) != value}:
        tree = repo.write_tree(tree, hydra.with_values(repo, tree, lacking))
        composed = _recomposed(repo, hydra, head, tree)
    now, whole = _params(repo, tree), hydra.composed(repo, tree)
    if whole.values.keys() == hydra.composed(repo, head).values.keys():
        wanted = {key: value for key, value in composed.items() if key in now and now[key] != value}
        new = params.update(content, PARAMS_FILE, wanted)
    else:  # another member of a group, say
        new = f"{dump_yaml(dict(whole.data))}\n".encode()
    return repo.write_tree(tree, {PARAMS_FILE: new}) if new != content else tree


def unread(repo: Repo, head: str, tree: str) -> list[str]:
    """Files in Hydra's folder that changed, and that it does not compose."""
    hydra = Hydra.of(repo, head)
    changed = [path for path in repo.changed(head, tree) if hydra.holds(path)] if hydra else []
    if hydra is None or not changed:
        return []
    read = {f"{hydra.folder}/{source.path}" for source in hydra.composed(repo, tree).sources}
    return [path for path in changed if path not in read]


def flaw(project: Project, baseline: str, result: str, apart: Collection[str]) -> str:
    """What a result's files for Hydra say otherwise than its `params.yaml`, in words; empty if nothing.

    Args:
        apart: keys that a run sets in `params.yaml` alone: the seed, and what a scale sets.
    """
    repo, scope = project.repo, project.program.scope
    hydra = Hydra.of(repo, baseline)
    if hydra is None or not any(hydra.holds(path) for path in repo.changed(baseline, result)):
        return ""
    if other := [path for path in unread(repo, baseline, result) if not scope.may_edit(path)]:
        return f"{other[0]} differs from the baseline"
    values = _params(repo, result)
    composed = _recomposed(repo, hydra, baseline, result)
    other = [key for key, value in composed.items() if key not in apart and values.get(key) != value]
    return f"{hydra.folder}/ composes another {other[0]} than {PARAMS_FILE} has" if other else ""


def is_source(repo: Repo, rev: str, path: str) -> bool:
    """Whether Hydra composes `params.yaml` of a file, or of others in its folder."""
    hydra = Hydra.of(repo, rev) if path.endswith((".yaml", ".yml")) else None
    return hydra is not None and hydra.holds(path)


def _recomposed(repo: Repo, hydra: Hydra, head: str, tree: str) -> dict[str, Scalar]:
    """What is composed otherwise than at the head."""
    return _changed(hydra.composed(repo, head).values, hydra.composed(repo, tree).values)


def _changed(old: Mapping[str, Scalar], new: Mapping[str, Scalar]) -> dict[str, Scalar]:
    return {key: value for key, value in new.items() if key not in old or old[key] != value}


def _params(repo: Repo, rev: str) -> Mapping[str, Scalar]:
    return flat(repo.read(rev, PARAMS_FILE) or b"", PARAMS_FILE)

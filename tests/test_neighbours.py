"""A value that hurts at a larger scale: which ones are tried next to it, and what the change is called."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from helpers import commit, run
from histories import attempt

from ar.campaign.neighbours import between, label, neighbours, wanted
from ar.git.repo import Repo
from ar.history.records import Decision, Label, Verdict
from ar.project.params import ParamKey
from ar.project.program import Range

LR, DECAY = ParamKey("params.yaml", "lr"), ParamKey("params.yaml", "decay")


def verdict(decision: str, z: float) -> Verdict:
    return Verdict(Decision(decision), "", effect=-z, standard_error=1.0, z=z)


@pytest.mark.parametrize(
    ("within", "branch", "failed", "tried"),
    [
        (Range(0.0, 1.0), 0.2, 0.6, [0.4, 0.3]),
        (Range(0.0, 1.0), 0.6, 0.2, [0.4, 0.5]),
        (Range(0.001, 1.0, log=True), 0.01, 0.16, [0.04, 0.02]),
        (Range(0.0, 1.0, log=True), 0.0, 0.4, [0.2, 0.1]),  # nothing is a ratio of 0
        (Range(1, 9), 2, 6, [4, 3]),
        (Range(1, 9), 2, 3, []),
        (Range(0.0, 1.0, step=0.25), 0.0, 1.0, [0.5, 0.25]),
        (Range(0.0, 1.0, step=0.25), 0.0, 0.5, [0.25]),
        (Range(choices=(1, 2, 4, 8, "off")), 1, 8, [4, 2]),
        (Range(choices=(0, 1)), 0, 1, []),
        (Range(choices=("a", "b")), 0, 1, []),
    ],
)
def test_neighbours_lie_half_way_on_the_values_own_scale(
    within: Range, branch: float, failed: float, tried: list[float]
) -> None:
    assert between(within, branch, failed) == pytest.approx(tried)


HURTS, IDLE, HELPS = verdict("discard", -4.0), verdict("discard", 0.3), verdict("promote", 4.0)


@pytest.mark.parametrize(
    ("there", "tried", "next_", "called"),
    [
        (HURTS, [], None, Label.SCALE_BOUND),
        (HURTS, [None, None], 0, Label.SCALE_BOUND),
        (HURTS, [HURTS, None], 1, Label.SCALE_BOUND),
        (HURTS, [IDLE, HURTS], None, Label.SCALE_BOUND),
        (HURTS, [HELPS, None], None, Label.MOVES),
        (HURTS, [HURTS, HELPS], None, Label.MOVES),
        (IDLE, [], None, Label.PLAIN),
    ],
)
def test_what_is_tried_next_and_what_the_change_is_called(
    there: Verdict, tried: list[Verdict | None], next_: int | None, called: Label
) -> None:
    assert wanted(tried) == next_
    assert label(there, tried, Label.PLAIN) is called


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("lr: 0.16\ndecay: 0.5\n", [0.04, 0.02]),
        ("lr: 0.16\ndecay: 0.7\n", []),  # two at once
        ("lr: 0.16\ndecay: 0.5\nmore: 1\n", []),  # and what is not searched
    ],
)
def test_only_a_change_of_one_value_has_neighbours(tmp_path: Path, text: str, values: list[float]) -> None:
    run(tmp_path, "git", "init", "-q")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "params.yaml").write_text("lr: 0.01\ndecay: 0.5\n")
    commit(tmp_path, "Start")
    repo = Repo.open(tmp_path)
    base = repo.resolve("HEAD")
    assert base
    tree = repo.write_tree(base, {"params.yaml": text.encode()})
    one = attempt(1, 2.2)
    first = replace(one.first, rev=tree)
    one = replace(one, baseline=base, candidate=repo.tree(tree), experiments=(first,))
    search = {LR: Range(0.001, 1.0, log=True), DECAY: Range(0.0, 1.0)}
    found = neighbours(repo, search, repo.tree, one)
    assert [near.value for near in found] == pytest.approx(values)
    assert [repo.read(near.tree, "params.yaml") for near in found] == [
        f"lr: {near.value}\ndecay: 0.5\n".encode() for near in found
    ]

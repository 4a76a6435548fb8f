"""Changes merged in git objects: by lines, by key, never what the pipeline writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import git

from ar.changes.merging import Merged, merge
from ar.git.repo import Repo
from ar.judge.contrast import best_paired, contrast
from ar.judge.evidence import Candidate, Run
from ar.judge.noise import Noise
from ar.project.program import Program
from ar.project.program_file import load
from ar.project.project import Project

CODE = b"one\ntwo\nthree\nfour\nfive\n"


@pytest.fixture
def repo(project: Path) -> Repo:
    return Repo.open(project)


@pytest.fixture
def program(repo: Repo) -> Program:
    return load(repo.root)


def _merged(
    repo: Repo, program: Program, ours: dict[str, bytes | None], theirs: dict[str, bytes | None]
) -> Merged:
    base = repo.write_tree("HEAD", {"fit.awk": CODE})
    return merge(
        Project(repo, program), base, repo.write_tree(base, ours), repo.write_tree(base, theirs), "other"
    )


def test_lines_that_do_not_touch_merge(repo: Repo, program: Program) -> None:
    ours, theirs = CODE.replace(b"one", b"ONE"), CODE.replace(b"five", b"FIVE")
    found = _merged(repo, program, {"fit.awk": ours}, {"fit.awk": theirs, "more.awk": b"new\n"})
    assert not found.clashes
    assert repo.read(found.tree, "fit.awk") == b"ONE\ntwo\nthree\nfour\nFIVE\n"
    assert repo.read(found.tree, "more.awk") == b"new\n"
    assert git(repo.root, "status", "--porcelain") == ""


def test_lines_that_touch_show_both_sides_and_what_was(repo: Repo, program: Program) -> None:
    ours, theirs = CODE.replace(b"three", b"3"), CODE.replace(b"three", b"III")
    (clash,) = _merged(repo, program, {"fit.awk": ours}, {"fit.awk": theirs}).clashes
    assert clash.path == "fit.awk"
    lines = clash.text.splitlines()
    assert lines == [
        *("<<<<<<< the branch", "3", "||||||| before both", "three", "=======", "III", ">>>>>>> other"),
    ]


def test_a_file_that_one_side_removed(repo: Repo, program: Program) -> None:
    changed = CODE.replace(b"three", b"3")
    gone = _merged(repo, program, {"fit.awk": None}, {"fit.awk": changed})
    assert [clash.text for clash in gone.clashes] == ["missing in the branch"]
    assert not _merged(repo, program, {"fit.awk": None}, {"fit.awk": None}).clashes
    kept = _merged(repo, program, {}, {"fit.awk": None})
    assert repo.read(kept.tree, "fit.awk") is None


def test_parameters_merge_by_key_with_our_layout_and_seed(repo: Repo, program: Program) -> None:
    ours = b"x: 2.0   # ours\ny: 0.03\nseed: 1\n"
    theirs = b"# where we start\nx: 1.5\ny: 0.1\nseed: 7\n"
    found = _merged(repo, program, {"params.yaml": ours}, {"params.yaml": theirs})
    assert not found.clashes
    assert repo.read(found.tree, "params.yaml") == b"x: 2.0   # ours\ny: 0.1\nseed: 1\n"
    same = _merged(repo, program, {"params.yaml": ours}, {"params.yaml": b"x: 2\ny: 0.03\nseed: 1\n"})
    assert not same.clashes
    (clash,) = _merged(
        repo, program, {"params.yaml": ours}, {"params.yaml": b"x: 3.0\ny: 0.03\nseed: 1\n"}
    ).clashes
    assert clash.text == "x: 2.0 in the branch, 3.0 in other, 1.5 before both"


def test_results_are_never_merged(repo: Repo, program: Program) -> None:
    theirs = {"m.json": b'{"val_loss": 0}\n', "dvc.lock": b"{}\n", "c.yaml": None, "program.md": b"mine\n"}
    found = _merged(repo, program, {"m.json": b'{"val_loss": 9}\n'}, dict(theirs))
    assert not found.clashes
    for path in theirs:
        wanted = b'{"val_loss": 9}\n' if path == "m.json" else repo.read("HEAD", path)
        assert repo.read(found.tree, path) == wanted


def test_a_contrast_over_shared_runs_has_the_error_of_its_weights() -> None:
    """Unpaired noise: the error is sigma times the root of the squared weights, shared runs counted once."""
    values = [0.0, 1.0, -1.0, 2.0, -2.0, 0.5]
    base = [Run(None, value, when=float(place)) for place, value in enumerate(values)]
    one, two, both = (
        [Run(None, value, when=10.0 * place)] for place, value in ((2, 5.0), (3, 7.0), (4, 11.0))
    )
    noise = Noise.of([Candidate(base=tuple(base))])
    gap = contrast([(1, both), (-1, base), (-1, one), (1, base), (-1, two), (1, base)], noise)
    assert gap.effect == pytest.approx(11 - 5 - 7 + sum(values) / 6)
    assert gap.error == pytest.approx(noise.sigma * (3 + 1 / 6) ** 0.5)


def test_a_contrast_of_changes_that_are_not_alike_is_as_precise_as_its_seeds_say() -> None:
    luck = [1.0, -2.0, 0.5, 3.0, -1.5, 2.5, -3.0, 0.2]

    def runs(level: float, wild: float = 0.0, count: int = 4) -> list[Run]:
        return [Run(k, level + luck[k] + wild * (-1) ** k, when=level + k) for k in range(count)]

    base = runs(0.0, count=8)
    known = [Candidate(tuple(runs(0.1 * k, wild=0.1 * (k - 4)))) for k in range(9)]
    noise = Noise.of([Candidate(base=tuple(base)), *known])
    one, two, both = runs(-5.0), runs(-7.0), runs(-11.0)
    sides = [(1, both), (-1, base), (-1, one), (1, base), (-1, two), (1, base)]
    assert best_paired(sides, noise)
    found = contrast(sides, noise, paired=True)
    assert found.effect == pytest.approx(-11 + 5 + 7)  # the seeds' luck is gone
    assert found.error < contrast(sides, noise).error / 2
    others = [(1.0, runs(-11.0, wild=2.0)), *sides[1:]]
    unlike = contrast(others, noise, paired=True)
    assert unlike.error > 2 * found.error

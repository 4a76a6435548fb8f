"""The history as `ar` reads it is the history as DVC reads it, and long ones are read fast."""

from __future__ import annotations

import json
import math
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from helpers import Ar, attempts_of, git, run, runs_of
from synthetic import fill

from ar.errors import NotFound
from ar.git.repo import Repo
from ar.history import reader
from ar.history.attempts import find
from ar.project.identity import identity
from ar.project.program_file import load
from ar.project.project import Project


def _theirs(root: Path) -> dict[str, dict[str, Any]]:
    shown = json.loads(run(root, "dvc", "exp", "show", "--json", "-A").stdout)
    found = {}
    for base in shown:
        for item in base["experiments"] or []:
            data = item["revs"][0]["data"]
            values = {"metrics": {}, "params": {}}
            for kind, flat in values.items():
                for file, content in data[kind].items():
                    flat.update(
                        {f"{file}:{key}": value for key, value in _flat(content.get("data", {})).items()}
                    )
            found[item["revs"][0]["name"]] = {"rev": item["revs"][0]["rev"], **values}
    return found


def _flat(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in data.items():
        out.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return out


def _assert_same(ours: dict[str, dict[str, Any]], theirs: dict[str, dict[str, Any]]) -> None:
    assert set(ours) == set(theirs)
    for name, experiment in theirs.items():
        assert ours[name]["rev"] == experiment["rev"], name
        assert ours[name]["metrics"] == experiment["metrics"], name
        used = {key: ours[name]["params"][key] for key in experiment["params"]}
        assert used == experiment["params"], name


@pytest.mark.slow
def test_our_table_is_dvcs_table(measured: Path, ar: Ar) -> None:
    ar(measured, "run", "-n", "3", "--plain", "--jobs", "2")
    # One that DVC made alone, without any trailer of ours.
    run(measured, "dvc", "exp", "run", "-q", "-n", "by-hand", "-S", "x=2.9")
    run(measured, "git", "checkout", "-q", ".")
    ours = runs_of(measured)
    _assert_same(ours, _theirs(measured))
    attempts = {attempt["name"]: attempt for attempt in attempts_of(measured)}
    assert (attempts["by-hand"]["outcome"], attempts["by-hand"]["title"]) == ("not judged", "dvc exp run")
    # It is shown, and is none of the campaign's.
    tried = sum(attempt["outcome"] not in ("baseline", "not judged") for attempt in attempts.values())
    assert f"{tried} attempts: " in ar(measured, "show").stdout


def test_seven_hundred_experiments_are_shown_by_few_processes(project: Path, tmp_path: Path, ar: Ar) -> None:
    fill(project, 700)

    ar(project, "show", env=os.environ | {"GIT_TRACE2_EVENT": str(tmp_path / "trace")})
    assert (tmp_path / "trace").read_text().count('"event":"start"') < 20  # git is not started per experiment
    assert len(runs_of(project)) == 700


@pytest.mark.slow
def test_seven_hundred_experiments_equal_dvcs_table(project: Path, ar: Ar) -> None:
    fill(project, 700)
    _assert_same(runs_of(project), _theirs(project))


def test_standard_error_is_of_the_mean_with_pooled_noise(measured: Path) -> None:
    repo = Repo.open(measured)
    history = reader.read(Project(repo, load(measured)))
    (baseline,) = history.attempts
    values = [float(item.metrics["m.json:val_loss"]) for item in baseline.experiments]  # type: ignore[arg-type]
    count = len(values)
    mean = sum(values) / count
    sigma = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
    assert baseline.value == pytest.approx(mean)
    assert history.sigma == pytest.approx(sigma)
    assert baseline.standard_error == pytest.approx(sigma / math.sqrt(count))


def test_readings_in_two_threads_do_not_mix(measured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that began before the branch moved ends after one that began later, with the same memory."""
    project, memory = Project.open(measured), reader.Memory()
    before = reader.read(project)
    half_way, go_on = threading.Event(), threading.Event()
    merged_parents = Repo.merged_parents

    def slow(repo: Repo, head: str) -> set[str]:
        if head == before.head and not half_way.is_set():
            half_way.set()
            assert go_on.wait(60)
        return merged_parents(repo, head)

    monkeypatch.setattr(Repo, "merged_parents", slow)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(reader.read, project, memory)
        assert half_way.wait(60)
        (measured / "fit.awk").write_text(f"# another\n{(measured / 'fit.awk').read_text()}")
        run(measured, "git", "commit", "-qam", "Move on")
        second = reader.read(project, memory)
        go_on.set()
        assert first.result() == before
    assert second.head != before.head
    assert second.incumbent == identity(project, second.head) != before.incumbent
    assert reader.read(project, memory) == second


def test_names_are_found_by_their_beginning_or_revision(measured: Path) -> None:
    history = reader.read(Project(Repo.open(measured), load(measured)))
    run_ = history.attempts[0].experiments[-1]
    assert find(history, run_.name)[1] == run_
    assert find(history, run_.rev[:10])[1] == run_
    with pytest.raises(NotFound, match="did you mean"):
        find(history, run_.name[:-1] + "x")


def test_broken_files_of_old_experiments_are_no_obstacle(measured: Path, ar: Ar) -> None:
    repo = Repo.open(measured)
    ref, rev = next(iter(repo.refs("refs/exps").items()))
    tree = repo.write_tree(rev, {"m.json": b"{", "params.yaml": b"a: [", "c.yaml": b"\xff\xfe"})
    broken = repo.commit_tree(tree, [repo.head()], "Broken\n")
    repo.update_refs((ref.rpartition("/")[0] + "/broken", broken, None))
    repo.update_note(broken, lambda _: {"status": "no such status"})
    ours = runs_of(measured)
    assert ours["broken"]["metrics"] == {}
    assert git(measured, "status", "--porcelain") == ""

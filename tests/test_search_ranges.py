"""Ranges of parameters that the branch does not have yet: they wait for the change that introduces them."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import Ar, commit, edit, git, names_of, run
from synthetic import fill

from ar.agents import Briefing, make
from ar.agents.prompt import compose
from ar.campaign.campaign import Campaign
from ar.campaign.doctor import examine
from ar.changes import own
from ar.formats import load_yaml
from ar.history import reader
from ar.project.params import ParamKey
from ar.project.program import AgentSpec
from ar.project.project import Project


@pytest.fixture
def waiting(project: Path) -> Path:
    """A project with a history, whose programme has a range for `z`, which nothing has yet."""
    edit(project / "program.md", "params: [x, y]", "params: [x, y, z]")
    edit(project / "program.md", "search:\n", "search:\n  z: {low: 0.0, high: 1.0}\n")
    commit(project, "Search z as soon as it is there")
    fill(project, 12)
    return project


def _introduce(root: Path) -> None:
    """What a coding agent would do: a parameter with its default, and code that reads it."""
    edit(root / "params.yaml", "y: 0.03\n", "y: 0.03\nz: 0.5\n")
    edit(root / "fit.awk", "/^seed:/", "/^z:/ {z = $2}\n/^seed:/")
    edit(root / "fit.awk", " + 0.01 * noise", " + (z - 0.25) ^ 2 + 0.01 * noise")


def _briefing(campaign: Campaign) -> Briefing:
    return Briefing(campaign.program, campaign.history(), reader.baseline_params(campaign.project))


def test_a_range_of_what_is_not_there_yet_stops_nothing(waiting: Path, ar: Ar) -> None:
    out = ar(waiting, "doctor").stdout
    assert out.count("search.z is not in params.yaml yet") == 1
    ar(waiting, "next")
    (name,) = names_of(waiting, "refs/ar/queue")
    assert "z:" not in git(waiting, "show", f"refs/ar/queue/{name}:params.yaml")
    ar(waiting, "show")


def test_doctor_tells_a_slip_from_what_is_to_come(project: Path) -> None:
    edit(project / "program.md", "params: [x, y]", "params: [x, y, momentum, z]")
    edit(project / "params.yaml", "y: 0.03\n", "y: 0.03\nmomentum: 0.9\n")
    ranges = "  momentun: {low: 0.5, high: 0.99}\n  z: {low: 0.0, high: 1.0}\n"
    edit(project / "program.md", "search:\n", f"search:\n{ranges}")
    edit(project / "program.md", "momentum, z]", "momentum, momentun, z]")
    commit(project, "Search")
    checks = {check.ok: check for check in examine(project) if check.name == "search"}
    assert checks[False].mend == "did you mean 'momentum'?"
    assert not checks[False].required
    assert "search.z" in checks[True].detail


def test_it_is_searched_once_a_change_has_introduced_it(waiting: Path) -> None:
    campaign = Campaign(Project.open(waiting))
    agent = make(AgentSpec("optuna"), campaign.repo)
    assert set(agent.propose(_briefing(campaign)).params) <= {"x", "y"}

    _introduce(waiting)
    proposal, left_out = own.from_checkout(campaign.project, {}, "Add z")
    assert not left_out
    assert campaign.check(proposal).candidate
    commit(waiting, "Add z, as a promotion would")

    campaign = Campaign(Project.open(waiting))
    briefing = _briefing(campaign)
    proposal = agent.propose(briefing)
    assert "z" in proposal.params
    assert campaign.check(proposal).candidate
    # What ran without it stands at the default that the change gave it.
    assert "z 0.5" in proposal.hypothesis
    assert "z = 0.5" in compose(briefing).text


def test_a_search_of_what_is_not_there_yet_alone_says_so(project: Path, ar: Ar) -> None:
    edit(project / "program.md", "params: [x, y]", "params: [z]")
    text = (project / "program.md").read_text()
    lines = [line for line in text.splitlines(keepends=True) if not line.startswith(("  x:", "  y:"))]
    (project / "program.md").write_text("".join(lines).replace("search:\n", "search:\n  z: [1, 2]\n"))
    commit(project, "Search z only")
    done = run(project, "python", "-m", "ar", "next", check=False)
    assert done.returncode == 2
    assert "that the branch has" in done.stderr
    assert ar(project, "doctor", check=False).returncode == 2


@pytest.mark.parametrize("kind", ["search", "optuna"])
@pytest.mark.parametrize(
    "choices", ["[0.5, 1.5, 2.5]", "[0.5, 2.5]", "[1e-4, 1e-3, 1e-2]", "[3.0, 1, 2.5]", "[1, 2, 3, 4]"]
)
def test_a_range_may_be_a_list_of_numbers(project: Path, choices: str, kind: str) -> None:
    """Whether the branch's value is in the list, or its numbers are in order, or not."""
    edit(project / "program.md", "x: {low: 0.5, high: 6.0}", f"x: {choices}")
    commit(project, "Search a list")
    fill(project, 12)
    campaign = Campaign(Project.open(project))
    values = load_yaml(choices)
    assert campaign.program.search[ParamKey.parse("x")].choices == tuple(values)
    proposal = campaign.propose(kind).proposal
    assert proposal.params.get("x", values[0]) in values

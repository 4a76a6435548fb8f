"""Transfer rules: a value follows the scale by a power of it, and nothing else is ever read into one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from helpers import commit, git, run
from histories import attempt

from ar.campaign.ladder import tree_at
from ar.errors import BadParams, BadProgram
from ar.git.repo import Repo
from ar.history.optima import fitted_rules
from ar.history.records import Attempt, History
from ar.project.program import Program
from ar.project.program_file import parse
from ar.project.rules import Rule


@pytest.mark.parametrize(
    ("text", "name", "power"),
    [
        ("width^-2", "width", -2),
        ("model.depth ^ 0.5", "model.depth", 0.5),
        ("n^+1.5", "n", 1.5),
        ("n^.5", "n", 0.5),
    ],
)
def test_a_rule_is_a_name_and_a_power(text: str, name: str, power: float) -> None:
    assert Rule.parse(text) == Rule(name, power)
    assert Rule.parse(str(Rule.parse(text))) == Rule.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "width",
        "width^",
        "^2",
        "2^width",
        "width**2",
        "width^depth",
        "1/width",
        "f(x)^2",
        "a^2^3",
        "w^1e9",
        "w^2;x",
    ],
)
def test_nothing_else_is_one(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Rule.parse(text)
    with pytest.raises(BadProgram):
        program(f'transfer: {{lr: "{text}"}}')


def test_the_published_weight_decays_follow_the_fitted_rule() -> None:
    """nanochat's dev/LOG.md, 2026-01-10: best weight decay by width; its own fit over four depths is
    width^-1.97."""
    published = {512: 0.40, 768: 0.22, 1024: 0.10, 1280: 0.08}
    rule = Rule.fitted("width", (512, published[512]), (1024, published[1024]))
    assert rule.power == pytest.approx(-1.97, abs=0.05)
    assert rule.at(published[512], 512, 1280) == pytest.approx(published[1280], rel=0.25)


@pytest.mark.parametrize(("low", "high"), [((8, 0.4), (8, 0.2)), ((8, 0), (12, 0.2)), ((0, 0.4), (12, 1))])
def test_no_rule_goes_through_anything(low: tuple[float, float], high: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="no rule goes"):
        Rule.fitted("depth", low, high)


LADDER = "ladder: [{name: d2, scale: {width: 128}}, {name: d4, params: {depth: 4}, scale: {width: 256}}]\n"


def program(more: str, ladder: str = LADDER) -> Program:
    return parse(f'---\nobjective: "m.json:loss"\nseed: seed\n{ladder}{more}\n---\n')


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('transfer: {lr: "height^-2"}', "which no rung says"),
        ('transfer: {depth: "width^-2"}', "is set by d4 itself"),
        ('transfer: {seed: "width^-2"}', "transfer.seed"),
        ("transfer: {lr: 3}", "should be text"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(more: str, said: str) -> None:
    with pytest.raises(BadProgram) as error:
        program(more)
    assert said in str(error.value)


def test_a_scale_that_one_rung_lacks_is_named() -> None:
    ladder = "ladder: [{name: d2}, {name: d4, params: {depth: 4}, scale: {width: 256}}]\n"
    with pytest.raises(BadProgram, match="which d2 does not say"):
        program('transfer: {lr: "width^-2"}', ladder)


def test_a_rung_s_tree_has_what_the_rule_makes_of_the_value(tmp_path: Path) -> None:
    run(tmp_path, "git", "init", "-q")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "params.yaml").write_text("lr: 0.04  # of Adam\nwd: 0.2\nnone: 0\ndepth: 2\nseed: 1\n")
    commit(tmp_path, "Start")
    found = program('transfer: {lr: "depth^-0.5", wd: "width^-2", none: "width^-2"}')
    repo = Repo.open(tmp_path)
    made = tree_at(repo, found, found.rung("d4"), "HEAD")
    text = git(tmp_path, "show", f"{made}:params.yaml")
    assert text.splitlines()[0] == "lr: 0.0282843  # of Adam"
    assert text.splitlines()[1:] == ["wd: 0.05", "none: 0.0", "depth: 4", "seed: 1"]


def test_what_is_no_number_has_no_rule(tmp_path: Path) -> None:
    run(tmp_path, "git", "init", "-q")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "params.yaml").write_text("lr: fast\ndepth: 2\nseed: 1\n")
    commit(tmp_path, "Start")
    found = program('transfer: {lr: "width^-2"}')
    with pytest.raises(BadParams, match="lr"):
        tree_at(Repo.open(tmp_path), found, found.rung("d4"), "HEAD")


def test_a_rule_is_fitted_from_the_best_values_at_two_rungs() -> None:
    found = program("scope: {params: [wd]}\nsearch: {wd: {low: 0.01, high: 1.0, log: true}}")
    key = next(iter(found.search))

    def measured(number: int, value: float, loss: float, rung: str = "") -> Attempt:
        item = attempt(number, loss)
        runs = tuple(replace(one, params={key.flat: value}) for one in item.experiments)
        return replace(item, experiments=runs, rung=rung)

    base = [measured(1, 0.2, 2.1), measured(2, 0.4, 2.0), measured(3, 0.8, 2.1)]
    above = [measured(k, at, loss, "d4") for k, at, loss in ((1, 0.05, 1.6), (2, 0.1, 1.5), (3, 0.2, 1.7))]
    history = History(head="b" * 40, incumbent="", attempts=tuple(base), at_rungs=tuple(above))
    [rule] = fitted_rules(found, history).values()
    assert (rule.name, rule.power) == ("width", pytest.approx(-2.0))
    assert (
        fitted_rules(found, replace(history, at_rungs=tuple(above[1:]))) == {}
    )  # two values tell no optimum
    known = replace(found, transfer={key: rule})
    assert fitted_rules(known, history) == {}

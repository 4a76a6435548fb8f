"""`program.md` is read strictly: what cannot be meant is refused, by name."""

from __future__ import annotations

import pytest

from ar.errors import BadProgram
from ar.project.params import ParamKey
from ar.project.program import AgentRole, Metric, Range
from ar.project.program_file import parse, seconds
from ar.project.scope import Scope
from ar.project.values import Scalar

GOOD = 'objective: {metric: "m.json:loss"}\n'


def _program(yaml: str) -> str:
    return f"---\n{yaml}---\nprose\n"


def test_defaults() -> None:
    program = parse(_program(GOOD))
    assert str(program.objective) == "m.json:loss"
    assert program.objective.direction == "minimize"
    assert [agent.name for agent in program.agents] == ["search"]
    assert program.prose == "prose"


def test_claude_may_think_more_or_less() -> None:
    swarm = "agents: [{kind: claude, thinking: off}, {kind: claude, lane: a, thinking: 8_000, effort: low}]\n"
    program = parse(f"---\n{GOOD}{swarm}---\n")
    assert [(agent.thinking, agent.effort) for agent in program.agents] == [("off", ""), (8000, "low")]


def test_agents_have_roles_besides_lanes() -> None:
    swarm = "agents: [{kind: claude, role: scout}, {kind: claude, role: skeptic, lane: data}, claude]\n"
    program = parse(_program(GOOD + swarm))
    assert [agent.role for agent in program.agents] == [AgentRole.SCOUT, AgentRole.SKEPTIC, None]
    assert [agent.name for agent in program.agents] == ["claude/scout", "claude/skeptic/data", "claude"]


def test_a_metric_may_be_given_as_text() -> None:
    assert parse(_program("objective: out/m.yaml:eval.loss\n")).objective.key == "eval.loss"


@pytest.mark.parametrize(
    ("yaml", "says"),
    [
        ("", "objective is missing"),
        ("objectiv: x\n" + GOOD, "did you mean 'objective'"),
        ("objective: {metric: loss}\n", "should name file and key"),
        ('objective: {metric: "m.json:loss", direction: maximise}\n', "did you mean 'maximize'"),
        ('objective: {metric: "/etc/m.json:loss"}\n', "inside the project"),
        ('objective: {metric: "../m.json:loss"}\n', "inside the project"),
        (GOOD + "budget: {runs: 0}\n", "above 0"),
        (GOOD + "budget: {runs: 1.5}\n", "whole number"),
        (GOOD + "budget: {timeout: 5 parsecs}\n", "duration"),
        (GOOD + "budget: {run: 5}\n", "did you mean 'runs'"),
        (GOOD + "guards: {metric: x}\n", "should be a list"),
        (GOOD + "agent: {kind: optunas}\n", "did you mean 'optuna'"),
        (GOOD + "agents: [{kind: optuna}, optuna]\n", "names 'optuna' more than once"),
        (GOOD + "agent: optuna\nagents: [optuna]\n", "stands beside agent"),
        (GOOD + "agent: {lane: [a]}\n", "should be text"),
        (GOOD + "agents: [{kind: claude, role: scot}]\n", "did you mean 'scout'"),
        (GOOD + "agents: [{kind: search, role: scout}]\n", "role"),
        (GOOD + "agent: {kind: claude, thinking: 500}\n", "adaptive, off, or tokens from 1,024 to 30,000"),
        (GOOD + "agent: {kind: claude, thinking: on}\n", "adaptive, off, or tokens"),
        (GOOD + "agent: {kind: claude, effort: hihg}\n", "did you mean 'high'"),
        (GOOD + "agent: {kind: command, command: codex, effort: high}\n", "effort"),
        (GOOD + "agents: [{weight: 0}]\n", "agents[0].weight should be above 0"),
        (GOOD + "agents: [{weight: learned}, optuna]\n", "weight is learned for one agent only"),
        (GOOD + "search: {lr: {low: 1, high: 2}}\n", "outside scope.params"),
        (GOOD + "scope: {params: [lr]}\nsearch: {lr: {low: 2, high: 1}}\n", "not below high"),
        (GOOD + "scope: {params: [lr]}\nsearch: {lr: {low: 0, high: 1, log: true}}\n", "logarithmic"),
        (GOOD + "scope: {params: [lr]}\nsearch: {lr: {low: 1}}\n", "needs low and high"),
        (GOOD + "scope: {params: [lr]}\nsearch: {lr: [1]}\n", "one choice only"),
        (GOOD + "scope: {params: [seed]}\nseed: seed\nsearch: {seed: [1, 2]}\n", "is the seed"),
        (GOOD + "scope: {files: [/etc/*]}\n", "inside the project"),
        (GOOD + "sandbox: bwarp\n", "did you mean 'bwrap'"),
        (GOOD + "sandbox: {memory: 24 gigs}\n", "should be a size such as 500MB"),
        (GOOD + "sandbox: {memmory: 1GB}\n", "did you mean 'memory'"),
        (GOOD + "a: [\n", "not YAML: line"),
        ("- a\n", "should be a mapping"),
    ],
)
def test_what_cannot_be_meant_is_refused(yaml: str, says: str) -> None:
    with pytest.raises(BadProgram, match=r"(?s).") as caught:
        parse(_program(yaml))
    assert says in str(caught.value)


def test_no_front_matter() -> None:
    with pytest.raises(BadProgram, match="does not start with YAML"):
        parse("just prose\n")


def test_scope_covers_groups_not_prefixes_of_words() -> None:
    program = parse(_program(GOOD + "scope: {params: [optim, 'conf.json:a.b']}\n"))
    assert program.scope.allows_param(ParamKey.parse("optim.lr"))
    assert not program.scope.allows_param(ParamKey.parse("optimizer.lr"))
    assert program.scope.allows_param(ParamKey.parse("conf.json:a.b.c"))
    assert not program.scope.allows_param(ParamKey.parse("a.b.c"))


@pytest.mark.parametrize(
    ("glob", "path", "covered"),
    [
        ("src/*", "src/a.py", True),
        ("src/*", "src/deep/er.py", False),
        ("src", "src/a.py", False),
        ("*.py", "src/a.py", False),
        ("**/*.py", "a.py", True),
        ("**/*.py", "a/b/c.py", True),
        ("m[!0-9].py", "mx.py", True),
        ("m[!0-9].py", "m1.py", False),
    ],
)
def test_a_star_stays_in_its_folder(glob: str, path: str, covered: bool) -> None:
    assert Scope((glob,)).covers(path) is covered


def test_the_frame_is_out_of_every_scope() -> None:
    everything = Scope(("**",))
    assert everything.may_edit("model/a.py")
    for path in ("program.md", "dvc.yaml", "dvc.lock", ".dvc/config", ".git/hooks/pre-push"):
        assert everything.covers(path)
        assert not everything.may_edit(path)


@pytest.mark.parametrize(
    ("text", "value"), [("90s", 90), ("15m", 900), ("2h", 7200), ("1d", 86400), (5, 5), ("1.5 h", 5400)]
)
def test_durations(text: object, value: float) -> None:
    assert seconds(text, "x") == value


def test_a_sandbox_is_named_or_described() -> None:
    assert parse(_program(GOOD)).sandbox.kind == "auto"
    assert parse(_program(GOOD + "sandbox: {env: [HF_HOME]}\n")).sandbox.kind == "auto"
    for text, kind in (("bwrap", "bwrap"), ("off", "off"), ("{kind: off}", "off"), ('"auto"', "auto")):
        assert parse(_program(GOOD + f"sandbox: {text}\n")).sandbox.kind == kind
    found = parse(_program(GOOD + "sandbox: {memory: 1.5GB, disk: 2000000, processes: 8, read: [/data]}\n"))
    assert found.sandbox.memory == 1_500_000_000
    assert (found.sandbox.disk, found.sandbox.processes, found.sandbox.read) == (2_000_000, 8, ("/data",))


@pytest.mark.parametrize(
    ("within", "inside", "outside"),
    [
        (Range(0.0, 1.0), (0.0, 0.33, 1), (-0.1, 1.1, "0.5", None, True)),
        (Range(1, 8), (1, 8, 3.0), (0, 9, 2.5)),
        (Range(0.1, 0.9, step=0.2), (0.1, 0.3, 0.7, 0.9), (0.2, 0.35)),
        (Range(choices=("a", 2.0)), ("a", 2.0), ("b", 3.0)),
    ],
)
def test_a_range_says_what_it_holds(
    within: Range, inside: tuple[Scalar, ...], outside: tuple[Scalar, ...]
) -> None:
    assert all(map(within.holds, inside))
    assert not any(map(within.holds, outside))


@pytest.mark.parametrize("key", ["train_seconds", "step.time", "latency_ms", "tokens_per_sec", "p99.ms"])
def test_a_time_is_known_by_its_name(key: str) -> None:
    assert Metric("m.json", key).is_time


@pytest.mark.parametrize("key", ["val_loss", "accuracy", "timestamps", "loss.test", "work", "f1_per_sample"])
def test_what_is_no_time_is_not_taken_for_one(key: str) -> None:
    assert not Metric("m.json", key).is_time

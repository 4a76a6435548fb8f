"""What `program.md` says: what to look for, what may change, what to spend."""

from __future__ import annotations

import math
from collections.abc import Container
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

from ar.errors import NotFound, nearest
from ar.project import naming
from ar.project.params import PARAMS_FILE, ParamKey
from ar.project.rules import Rule
from ar.project.scope import Scope
from ar.project.values import Scalar, number

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

FILE = "program.md"
FILES = (FILE, ".ar/program.md")  # the second where a project has a program.md of its own for something else
AGENTS = ("search", "optuna", "claude", "command")
LEARNED = "learned"  # stands for a weight that follows from what an agent gains
EMBEDDED = ("search", "optuna")  # agents that move parameters by themselves, at once and for nothing
OURS = "ar"  # stands for the file in the names of metrics that `ar` measures itself
CPU_SECONDS, PEAK_MEMORY = f"{OURS}:cpu_seconds", f"{OURS}:peak_memory_mb"
AGENT_PLUGINS = "ar.agents"  # entry point group in which installed packages offer more kinds


@dataclass(frozen=True)
class Metric:
    """One scalar of a metrics file: `metrics.json:val_bpb`."""

    file: str
    key: str
    direction: Literal["minimize", "maximize"] = "minimize"

    def __str__(self) -> str:
        return f"{self.file}:{self.key}"

    @property
    def better(self) -> str:
        """The word for what is better of it."""
        return "lower" if self.direction == "minimize" else "higher"

    @property
    def is_time(self) -> bool:
        """Whether its name says that it is a time or a rate, which changes with the machine."""
        return naming.is_time(self.key)

    @property
    def is_ours(self) -> bool:
        """Whether `ar` measures it, from outside, so that no stage need write it."""
        return self.file == OURS

    def orient(self, value: float) -> float:
        """The value turned so that lower is better; its own inverse."""
        return value if self.direction == "minimize" else -value


@dataclass(frozen=True)
class Range:
    """Values a parameter may take in the search: an interval (`low`, `high`, `log`, `step`) or `choices`."""

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    step: float | None = None
    choices: tuple[Scalar, ...] = ()

    @property
    def integer(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def spacing(self) -> float | None:
        """How far its values lie apart; None for a continuum, or where it lists them."""
        return self.step or (1 if self.integer else None)

    def holds(self, value: Scalar) -> bool:
        """Whether it is one of the values."""
        size = number(value)
        if self.low is None or self.high is None:
            return value in self.choices
        if size is None or not self.low <= size <= self.high:
            return False
        places = (size - self.low) / (self.spacing or math.inf)
        return abs(places - round(places)) < 1e-8


@dataclass(frozen=True)
class Prices:
    """US dollars for a million tokens: sent, answered from the prompt cache, received."""

    input: float
    cached: float
    output: float


class AgentRole(StrEnum):
    """What an agent does in a swarm: bring new ideas, refine near misses, refute and simplify, or combine."""

    SCOUT = "scout"
    REFINER = "refiner"
    SKEPTIC = "skeptic"
    SYNTHESIST = "synthesist"


@dataclass(frozen=True)
class AgentSpec:
    """One who proposes.

    Args:
        lane: the field it keeps to ("optimizer", "data order"); empty for all of them.
        role: the kind of change that it looks for; None for any.
        weight: its share of the proposals, relative to the other agents'; None where what it gains decides.
        timeout: seconds that one answer may take.
        fallback: kind of the agent that proposes while this one cannot; empty for none.
        prices: of the model that answers.
        model, base_url: of the API that answers; an empty `base_url` is the client's own.
        thinking: how that may think before it answers: `adaptive`, as it sees fit; `off`; or by so many
            tokens at most. Empty for the model's own way.
        effort: how much of its tokens it is to spend; empty for the model's own.
        reflect: whether it is asked, in a short call each, what its verdicts teach.
        command, env: of a command-line agent, what to run and which variables it is given besides the usual.
        options: of an agent that another package offers, as they stand in `program.md`.
    """

    kind: str = "search"
    lane: str = ""
    role: AgentRole | None = None
    weight: float | None = 1.0
    timeout: float = 900.0
    fallback: str = ""
    prices: Prices | None = None
    model: str = "claude-opus-5-5"
    base_url: str = ""
    thinking: str | int = ""
    effort: str = ""
    reflect: bool = False
    command: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the history calls it: its kind, and its role and its lane where it has them."""
        return "/".join(filter(None, (self.kind, self.role, self.lane)))

    @property
    def is_learned(self) -> bool:
        """Whether its share of the proposals follows from what they gained for what they cost."""
        return self.weight is None

    @property
    def is_embedded(self) -> bool:
        """Whether it moves parameters by itself, and can do nothing else."""
        return self.kind in EMBEDDED


def agent_plugins() -> dict[str, EntryPoint]:
    """Kinds of agents that installed packages offer."""
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=AGENT_PLUGINS)}


@dataclass(frozen=True)
class Allowance:
    """What one stage may see besides what all may.

    Args:
        network: the machine's network.
        env: names of environment variables that are passed on.
        read: paths outside the project that may be read: data sets, say. Relative ones start at the project,
            `~` is the user's home.
    """

    network: bool = False
    env: tuple[str, ...] = ()
    read: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sandbox(Allowance):
    """What a stage may see besides its folder, and use.

    Args:
        kind: bubblewrap, where it works (`auto`), always (`bwrap`), or never (`off`).
        stages: exceptions, by the name of the stage.
        memory, disk: bytes that one run may use or write; None for its share of the machine.
        processes: that it may have at once; None for the usual limit.
    """

    kind: Literal["auto", "bwrap", "off"] = "auto"
    stages: dict[str, Allowance] = field(default_factory=dict)
    memory: int | None = None
    processes: int | None = None
    disk: int | None = None

    def of_stage(self, name: str) -> Sandbox:
        """What holds for one stage: what all may, and its own exceptions."""
        own = self.stages.get(name, Allowance())
        network, env, read = self.network or own.network, self.env + own.env, self.read + own.read
        return replace(self, network=network, env=env, read=read)


@dataclass(frozen=True)
class Budget:
    """What a campaign may spend. `runs` counts every run, crashed ones and the baseline's too.

    Args:
        hours: in which at least one run is under way; None for no limit, here and below.
        gpu_hours: in which a GPU has a run, summed over GPUs.
        tokens, usd: of all calls of models.
        timeout: seconds after which one run is ended; None for no limit.
    """

    runs: int = 700
    hours: float | None = None
    gpu_hours: float | None = None
    tokens: int | None = None
    usd: float | None = None
    timeout: float | None = None


@dataclass(frozen=True)
class CurveFile:
    """A CSV file in which a run tells how it went: the column of the value, and of what it is drawn against
    (seconds, tokens), the first of which is the time that counts."""

    file: str
    value: str
    against: tuple[str, ...] = ("seconds",)
    direction: Literal["minimize", "maximize"] = "minimize"


@dataclass(frozen=True)
class Rung:
    """One scale of the ladder. The first is the project as it is.

    Args:
        params: what the scale sets, in a candidate's tree and in the baseline's alike.
        scale: scale variables that no parameter holds, such as a width that follows from the depth; they are
            what transfer rules are about.
        runs: at most so many at this scale; None for no limit.
        timeout: seconds after which one run is ended; None for that of `budget`.
    """

    name: str
    params: dict[ParamKey, Scalar] = field(default_factory=dict)
    scale: dict[str, float] = field(default_factory=dict)
    runs: int | None = None
    timeout: float | None = None


@dataclass(frozen=True)
class EarlyStop:
    """By which curve a hopeless run is ended before its time.

    Args:
        curve: a column of a CSV or TSV file that a stage declares and appends to while it runs.
        x: the column that says how far the run is: what a run's length is fixed in, tokens or steps.
    """

    curve: Metric
    x: str


@dataclass(frozen=True)
class Program:
    """`program.md`, checked.

    Args:
        questions: how many agents may be asked at once; None for one question to each that takes its time.
        ladder: scales, the base first; empty where there is one only.
        transfer: how parameters follow the scale: what a tree holds is its value at the base.
        promote_rung: the scale at which a change must hold, too, before it is promoted; empty for none.
        curve: how a run tells how fast it learns; None where it does not.
        devices: patterns of the classes of devices whose runs count; empty for all.
        file: where it stands, for what is said of it: users go there to change it.
    """

    objective: Metric
    guards: tuple[Metric, ...] = ()
    holdout: Metric | None = None
    early_stop: EarlyStop | None = None
    seed: ParamKey | None = None
    scope: Scope = field(default_factory=Scope)
    search: dict[ParamKey, Range] = field(default_factory=dict)
    agents: tuple[AgentSpec, ...] = (AgentSpec(),)
    questions: int | None = None
    budget: Budget = field(default_factory=Budget)
    sandbox: Sandbox = field(default_factory=Sandbox)
    ladder: tuple[Rung, ...] = ()
    transfer: dict[ParamKey, Rule] = field(default_factory=dict)
    promote_rung: str = ""
    curve: CurveFile | None = None
    devices: tuple[str, ...] = ()
    prose: str = ""
    file: str = FILE

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Objective, guards and holdout."""
        return (self.objective, *self.guards, *([self.holdout] if self.holdout else []))

    @property
    def written(self) -> list[Metric]:
        """Those that a stage writes."""
        return [metric for metric in self.metrics if not metric.is_ours]

    @property
    def handed(self) -> list[str]:
        """Names of the environment variables that stages and agents may see besides the usual few."""
        sandboxes = (self.sandbox, *self.sandbox.stages.values())
        given = [*(one.env for one in self.agents), *(one.env for one in sandboxes)]
        return sorted({name for names in given for name in names})

    def allows_device(self, device: str) -> bool:
        """Whether runs on a class of devices count. What nobody noted is taken for the right one."""
        return not self.devices or not device or any(fnmatchcase(device, like) for like in self.devices)

    def may_change(self, path: str) -> bool:
        """Whether a proposal may change anything in a file: its text, or values of parameters."""
        return self.scope.may_edit(path) or path in self.param_files

    @property
    def param_files(self) -> set[str]:
        keys = [*self.scope.params, *self.search, *([self.seed] if self.seed else [])]
        keys += [key for rung in self.ladder for key in rung.params] + list(self.transfer)
        return {key.file for key in keys} | {PARAMS_FILE}

    def searched(self, params: Container[str]) -> dict[ParamKey, Range]:
        """The ranges of `search` whose parameters are there; of the others, a change has yet to make them.

        Args:
            params: keys of the parameters at the head, as `ParamKey.flat`.
        """
        return {key: within for key, within in self.search.items() if key.flat in params}

    @property
    def target(self) -> str:
        """The scale that counts: that of `promote.rung`, else the largest; empty without a ladder."""
        return self.promote_rung or (self.ladder[-1].name if len(self.ladder) > 1 else "")

    def rung(self, name: str) -> Rung:
        """A scale above the base, by its name.

        Raises:
            NotFound: there is none.
        """
        higher = {rung.name: rung for rung in self.ladder[1:]}
        if name not in higher:
            mend = nearest(name, higher) if higher else f"declare it in {self.file}, under ladder:"
            raise NotFound(f"no rung above the base is called '{name}'", mend)
        return higher[name]

    def timeout(self, rung: str = "") -> float | None:
        """Seconds after which a run at a scale is ended; None for never."""
        own = next((item.timeout for item in self.ladder if item.name == rung), None)
        return self.budget.timeout if own is None else own

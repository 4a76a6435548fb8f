"""`program.md`: what to look for, what may change, what to spend.

YAML front matter holds the settings, the prose after it is the agent's brief. Reading is strict: an unknown
key is refused and the nearest known one named, so that a typo never silently switches a guard off.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import yaml

from ar.errors import BadProgram, NotFound, nearest
from ar.project.values import Scalar

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

FILE = "program.md"
PARAMS_FILE = "params.yaml"

_FRONT = re.compile(r"\A---[ \t]*\n(?P<yaml>.*?)^---[ \t]*$\n?(?P<prose>.*)\Z", re.DOTALL | re.MULTILINE)
_BYTES = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Metric:
    """One scalar of a metrics file: `metrics.json:val_bpb`."""

    file: str
    key: str
    direction: Literal["minimize", "maximize"] = "minimize"

    def __str__(self) -> str:
        return f"{self.file}:{self.key}"

    def orient(self, value: float) -> float:
        """The value turned so that lower is better; its own inverse."""
        return value if self.direction == "minimize" else -value


@dataclass(frozen=True)
class ParamKey:
    """One value of a parameters file: `optim.matrix_lr`, or `other.json:optim.matrix_lr`."""

    file: str
    key: str

    def __str__(self) -> str:
        return self.key if self.file == PARAMS_FILE else f"{self.file}:{self.key}"

    @property
    def flat(self) -> str:
        """The key of `Experiment.params`."""
        return f"{self.file}:{self.key}"

    @classmethod
    def parse(cls, text: str) -> ParamKey:
        file, _, key = text.rpartition(":")
        return cls(file or PARAMS_FILE, key)

    def is_under(self, scope: ParamKey) -> bool:
        """Whether `scope` is this key or a group that holds it."""
        return self.file == scope.file and (self.key == scope.key or self.key.startswith(f"{scope.key}."))


@dataclass(frozen=True)
class Range:
    """Values the optuna agent may try: an interval (`low`, `high`, `log`, `step`) or `choices`."""

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    step: float | None = None
    choices: tuple[Scalar, ...] = ()

    @property
    def integer(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)


@dataclass(frozen=True)
class Scope:
    """What a proposal may change: file globs, and keys or groups of parameters."""

    files: tuple[str, ...] = ()
    params: tuple[ParamKey, ...] = ()

    def allows_param(self, key: ParamKey) -> bool:
        return any(key.is_under(scope) for scope in self.params)


@dataclass(frozen=True)
class Prices:
    """US dollars for a million tokens: sent, answered from the prompt cache, received."""

    input: float
    cached: float
    output: float


@dataclass(frozen=True)
class AgentSpec:
    """One who proposes.

    Args:
        kind: which agent.
        lane: the field it keeps to ("optimizer", "data order"); empty for all of them.
        weight: its share of the proposals, relative to the other agents'.
        timeout: seconds that one answer may take.
        fallback: kind of the agent that proposes while this one cannot; empty for none.
        prices: of the model that answers.
        model, base_url: of the API that answers; an empty `base_url` is the client's own.
        command, env: of a command-line agent, what to run and which variables it is given besides the usual.
        options: of an agent that another package offers, as they stand in `program.md`.
    """

    kind: str = "optuna"
    lane: str = ""
    weight: float = 1.0
    timeout: float = 900.0
    fallback: str = ""
    prices: Prices | None = None
    model: str = "claude-opus-5-5"
    base_url: str = ""
    command: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the history calls it: its kind, and its lane where it has one."""
        return f"{self.kind}/{self.lane}" if self.lane else self.kind


@dataclass(frozen=True)
class Sandbox:
    """What a stage may see besides its folder, and use.

    Args:
        kind: bubblewrap, where it works (`auto`), always (`bwrap`), or never (`off`).
        env: names of environment variables that are passed on.
        read: paths outside the project that may be read: data sets, say. Relative ones start at the project.
        memory, disk: bytes that one run may use or write; None for its share of the machine.
        processes: that it may have at once; None for the usual limit.
    """

    kind: Literal["auto", "bwrap", "off"] = "auto"
    env: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    memory: int | None = None
    processes: int | None = None
    disk: int | None = None


@dataclass(frozen=True)
class Budget:
    """What a campaign may spend. `runs` counts every run, crashed ones and the baseline's too.

    Args:
        runs: runs in all.
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
    against: tuple[str, ...]
    direction: Literal["minimize", "maximize"] = "minimize"


@dataclass(frozen=True)
class Rung:
    """One scale of the ladder. The first is the project as it is.

    Args:
        params: what the scale sets, in a candidate's tree and in the baseline's alike.
        runs: at most so many at this scale; None for no limit.
        timeout: seconds after which one run is ended; None for that of `budget`.
    """

    name: str
    params: dict[ParamKey, Scalar] = field(default_factory=dict)
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
        ladder: scales, the base first; empty where there is one only.
        promote_rung: the scale at which a change must hold, too, before it is promoted; empty for none.
        curve: how a run tells how fast it learns; None where it does not.
    """

    objective: Metric
    guards: tuple[Metric, ...] = ()
    holdout: Metric | None = None
    early_stop: EarlyStop | None = None
    seed: ParamKey | None = None
    scope: Scope = field(default_factory=Scope)
    search: dict[ParamKey, Range] = field(default_factory=dict)
    agents: tuple[AgentSpec, ...] = (AgentSpec(),)
    budget: Budget = field(default_factory=Budget)
    sandbox: Sandbox = field(default_factory=Sandbox)
    ladder: tuple[Rung, ...] = ()
    promote_rung: str = ""
    curve: CurveFile | None = None
    prose: str = ""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Objective, guards and holdout."""
        return (self.objective, *self.guards, *([self.holdout] if self.holdout else []))

    @property
    def param_files(self) -> set[str]:
        keys = [*self.scope.params, *self.search, *([self.seed] if self.seed else [])]
        keys += [key for rung in self.ladder for key in rung.params]
        return {key.file for key in keys} | {PARAMS_FILE}

    def rung(self, name: str) -> Rung:
        """A scale above the base, by its name.

        Raises:
            NotFound: there is none.
        """
        higher = {rung.name: rung for rung in self.ladder[1:]}
        if name not in higher:
            mend = nearest(name, higher) if higher else f"declare it in {FILE}, under ladder:"
            raise NotFound(f"no rung above the base is called '{name}'", mend)
        return higher[name]

    def timeout(self, rung: str = "") -> float | None:
        """Seconds after which a run at a scale is ended; None for never."""
        own = next((item.timeout for item in self.ladder if item.name == rung), None)
        return self.budget.timeout if own is None else own


def load(root: Path) -> Program:
    """Read `program.md` of the project at `root`.

    Raises:
        BadProgram: it is missing, or says something that cannot be meant.
    """
    path = root / FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadProgram(f"there is no {FILE} in {root}", "run: ar init") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadProgram(f"{FILE} cannot be read: {error}", "save it as UTF-8 text") from None
    return parse(text)


def parse(text: str) -> Program:
    """The programme that a text with YAML front matter describes."""
    match = _FRONT.match(text)
    if not match:
        raise BadProgram(
            f"{FILE} does not start with YAML between two lines of ---", "compare: ar init --print"
        )
    try:
        data = yaml.safe_load(match["yaml"])
    except yaml.YAMLError as error:
        raise BadProgram(
            f"{FILE}: the front matter is not YAML: {_yaml_place(error)}", "mend it there"
        ) from None
    top = _Section(data if data is not None else {}, "")
    program = Program(
        objective=top.need("objective", _metric),
        guards=top.get("guards", _list_of(_metric), ()),
        holdout=top.get("holdout", _metric, None),
        early_stop=top.get("early_stop", _early_stop, None),
        seed=top.get("seed", _param_key, None),
        scope=top.get("scope", _scope, Scope()),
        search=top.get("search", _search, {}),
        agents=_agents(top),
        budget=top.get("budget", _budget, Budget()),
        sandbox=top.get("sandbox", _sandbox, Sandbox()),
        ladder=top.get("ladder", _ladder, ()),
        promote_rung=top.get("promote", _promote, ""),
        curve=top.get("curve", _curve, None),
        prose=match["prose"].strip(),
    )
    top.finish()
    if program.promote_rung:
        names = [rung.name for rung in program.ladder[1:]]
        if program.promote_rung not in names:
            mend = nearest(program.promote_rung, names) if names else "declare it under ladder:"
            raise BadProgram(f"{FILE}: promote.rung is no rung above the base: {program.promote_rung}", mend)
    for rung in program.ladder:
        if program.seed in rung.params:
            raise BadProgram(f"{FILE}: rung {rung.name} sets the seed", "the seed is varied by replicates")
    for key in program.search:
        if not program.scope.allows_param(key):
            raise BadProgram(f"{FILE}: search.{key} lies outside scope.params", f"add {key} to scope.params")
        if program.seed == key:
            raise BadProgram(
                f"{FILE}: search.{key} is the seed", "the seed is varied by replicates; remove it from search"
            )
    return program


class _Section:
    """A mapping of the front matter that knows its place and which of its keys were asked for."""

    def __init__(self, data: Any, place: str) -> None:
        if not isinstance(data, Mapping):
            raise _bad(place or "the front matter", f"should be a mapping, not {_kind(data)}")
        self.data: Mapping[Any, Any] = data
        self.place = place
        self.known: list[str] = []

    def get(self, key: str, read: Callable[[Any, str], Any], default: Any) -> Any:
        self.known.append(key)
        value = self.data.get(key)
        return default if value is None else read(value, f"{self.place}.{key}".lstrip("."))

    def need(self, key: str, read: Callable[[Any, str], Any]) -> Any:
        if self.data.get(key) is None:
            raise _bad(f"{self.place}.{key}".lstrip("."), "is missing")
        return self.get(key, read, None)

    def finish(self) -> None:
        for key in self.data:
            if key not in self.known:
                place = f"{self.place}.{key}".lstrip(".")
                raise BadProgram(f"{FILE}: unknown key '{place}'", nearest(str(key), self.known))


def _bad(place: str, what: str, mend: str | None = None) -> BadProgram:
    return BadProgram(f"{FILE}: {place} {what}", mend or f"edit {FILE}")


def _kind(value: Any) -> str:
    names = {
        dict: "a mapping",
        list: "a list",
        str: "text",
        bool: "true/false",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value), type(value).__name__)


def _yaml_place(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return f"line {mark.line + 2}: {problem}" if mark else str(problem)


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _bad(place, f"should be text, not {_kind(value)}")
    return value


def _number(value: Any, place: str) -> float:
    # YAML 1.1 reads 1e-4 (no dot) as text.
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise _bad(place, f"should be a number, not {value!r}") from None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _bad(place, f"should be a number, not {_kind(value)}")
    return value


def _positive(value: Any, place: str) -> float:
    number = _number(value, place)
    if number <= 0:
        raise _bad(place, f"should be above 0, not {number:g}")
    return number


def _whole(value: Any, place: str) -> int:
    number = _positive(value, place)
    if number != int(number):
        raise _bad(place, f"should be a whole number, not {number:g}")
    return int(number)


def _flag(value: Any, place: str) -> bool:
    if not isinstance(value, bool):
        raise _bad(place, f"should be true or false, not {_kind(value)}")
    return value


def _list_of(read: Callable[[Any, str], Any]) -> Callable[[Any, str], tuple[Any, ...]]:
    def read_list(value: Any, place: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _bad(place, f"should be a list, not {_kind(value)}")
        return tuple(read(item, f"{place}[{index}]") for index, item in enumerate(value))

    return read_list


def _inside(path: str, place: str) -> str:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path or "\n" in path:
        raise _bad(place, f"should be a path inside the project, not {path!r}")
    return path


def _metric(value: Any, place: str) -> Metric:
    direction = "minimize"
    if isinstance(value, Mapping):
        section = _Section(value, place)
        name = section.need("metric", _text)
        direction = section.get("direction", _text, "minimize")
        section.finish()
    else:
        name = _text(value, place)
    file, _, key = name.rpartition(":")
    if not file or not key:
        raise _bad(place, f"should name file and key, not {name!r}", 'for example "metrics.json:val_loss"')
    if direction not in ("minimize", "maximize"):
        raise _bad(f"{place}.direction", f"is {direction!r}", nearest(direction, ["minimize", "maximize"]))
    return Metric(_inside(file, place), key, "minimize" if direction == "minimize" else "maximize")


def _early_stop(value: Any, place: str) -> EarlyStop:
    section = _Section(value, place)
    name = section.need("curve", _text)
    curve = _metric({"metric": name, "direction": section.get("direction", _text, "minimize")}, place)
    found = EarlyStop(curve=curve, x=section.need("x", _text))
    section.finish()
    if PurePosixPath(curve.file).suffix not in (".csv", ".tsv"):
        raise _bad(
            f"{place}.curve",
            f"is in {curve.file}, not in a .csv or .tsv file",
            "name one that grows as it runs",
        )
    return found


def _param_key(value: Any, place: str) -> ParamKey:
    key = ParamKey.parse(_text(value, place))
    _inside(key.file, place)
    if not key.key:
        raise _bad(place, f"names no key: {value!r}")
    return key


def _scope(value: Any, place: str) -> Scope:
    section = _Section(value, place)
    files = section.get("files", _list_of(lambda item, at: _inside(_text(item, at), at)), ())
    scope = Scope(files=files, params=section.get("params", _list_of(_param_key), ()))
    section.finish()
    return scope


def _search(value: Any, place: str) -> dict[ParamKey, Range]:
    section = _Section(value, place)
    return {_param_key(key, place): _range(item, f"{place}.{key}") for key, item in section.data.items()}


def _range(value: Any, place: str) -> Range:
    if isinstance(value, list):
        value = {"choices": value}
    section = _Section(value, place)
    found = Range(
        low=section.get("low", _number, None),
        high=section.get("high", _number, None),
        log=section.get("log", _flag, False),
        step=section.get("step", _positive, None),
        choices=section.get("choices", _list_of(_scalar), ()),
    )
    section.finish()
    if found.choices:
        if found.low is not None or found.high is not None:
            raise _bad(place, "has both choices and an interval", "keep one of them")
        if len(found.choices) < 2:
            raise _bad(place, "offers one choice only")
        return found
    if found.low is None or found.high is None:
        raise _bad(place, "needs low and high, or choices")
    if found.low >= found.high:
        raise _bad(place, f"has low {found.low:g} not below high {found.high:g}")
    if found.log and found.low <= 0:
        raise _bad(place, f"is logarithmic, so low must be above 0, not {found.low:g}")
    if found.log and found.step is not None:
        raise _bad(place, "has both log and step", "keep one of them")
    return found


def _scalar(value: Any, place: str) -> Scalar:
    if value is not None and not isinstance(value, str | int | float | bool):
        raise _bad(place, f"should be a plain value, not {_kind(value)}")
    return value


AGENTS = ("optuna", "claude", "command")
AGENT_PLUGINS = "ar.agents"  # entry point group in which installed packages offer more kinds
_SHELL = ("|", "||", "&", "&&", ";", "<", ">", ">>", "2>&1")


def _agents(top: _Section) -> tuple[AgentSpec, ...]:
    """`agent:`, or the list `agents:`, or the one that needs nothing."""
    single = top.get("agent", _agent, None)
    several: tuple[AgentSpec, ...] = top.get("agents", _list_of(_agent), ())
    if single and several:
        raise _bad("agents", "stands beside agent", "move what is under agent: into the list")
    names = [spec.name for spec in several]
    for name in names:
        if names.count(name) > 1:
            raise _bad("agents", f"names '{name}' more than once", "give each of them a lane of its own")
    return several or (single or AgentSpec(),)


def _agent(value: Any, place: str) -> AgentSpec:
    section = _Section({"kind": value} if isinstance(value, str) else value, place)
    kind = section.get("kind", _text, "optuna")
    if kind not in AGENTS and kind not in agent_plugins():
        raise _bad(f"{place}.kind", f"is {kind!r}", nearest(kind, [*AGENTS, *agent_plugins()]))
    spec = AgentSpec(
        kind=kind,
        lane=section.get("lane", _lane, ""),
        weight=section.get("weight", _positive, 1.0),
    )
    if kind != "optuna":
        spec = replace(
            spec,
            timeout=section.get("timeout", seconds, AgentSpec.timeout),
            fallback=section.get("fallback", _fallback, ""),
        )
    if kind in ("claude", "command"):
        spec = replace(spec, prices=section.get("prices", _prices, None))
    if kind == "claude":
        spec = replace(
            spec,
            model=section.get("model", _text, AgentSpec.model),
            base_url=section.get("base_url", _url, ""),
        )
    if kind == "command":
        names = section.get("env", _list_of(_text), ())
        spec = replace(spec, command=section.need("command", _argv), env=names)
    if kind not in AGENTS:
        spec = replace(spec, options=section.get("options", _mapping, {}))
    section.finish()
    return spec


def agent_plugins() -> dict[str, EntryPoint]:
    """Kinds of agents that installed packages offer."""
    from importlib.metadata import entry_points

    return {found.name: found for found in entry_points(group=AGENT_PLUGINS)}


def _mapping(value: Any, place: str) -> dict[str, Any]:
    return dict(_Section(value, place).data)


def _argv(value: Any, place: str) -> tuple[str, ...]:
    """A command and its arguments: a list, or text that is split as a shell would, but run by none."""
    if isinstance(value, str):
        try:
            words = tuple(shlex.split(value))
        except ValueError as error:
            raise _bad(place, f"cannot be split into words: {error}") from None
        if found := [word for word in words if word in _SHELL]:
            raise _bad(place, f"has {found[0]}, but no shell runs it", 'write [sh, -c, "…"] if you want one')
    else:
        words = _list_of(_text)(value, place)
    if not words:
        raise _bad(place, "names no command", 'for example command: "claude -p"')
    return words


def _prices(value: Any, place: str) -> Prices:
    section = _Section(value, place)
    prices = Prices(*(section.need(key, _not_negative) for key in ("input", "cached", "output")))
    section.finish()
    return prices


def _not_negative(value: Any, place: str) -> float:
    number = _number(value, place)
    if number < 0:
        raise _bad(place, f"should not be below 0, but is {number:g}")
    return number


def _url(value: Any, place: str) -> str:
    """Whoever listens there is sent the key: so only encrypted, or to this machine."""
    text = _text(value, place)
    parts = urlsplit(text)
    if parts.scheme != "https" and not (
        parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")
    ):
        raise _bad(place, f"should begin with https://, not {text!r}", "or set ANTHROPIC_BASE_URL instead")
    if parts.username or parts.password:
        raise _bad(place, "holds a password", "set ANTHROPIC_AUTH_TOKEN instead")
    return text


def _fallback(value: Any, place: str) -> str:
    if value != "optuna":
        raise _bad(place, f"is {value!r}", "only optuna needs nobody else: fallback: optuna")
    return "optuna"


def _lane(value: Any, place: str) -> str:
    text = _text(value, place)
    if len(text) > 40 or not text.isprintable():
        raise _bad(place, f"should be a few words, not {text[:50]!r}")
    return " ".join(text.split())


def _budget(value: Any, place: str) -> Budget:
    section = _Section(value, place)
    budget = Budget(
        runs=section.get("runs", _whole, Budget.runs),
        hours=section.get("hours", _positive, None),
        gpu_hours=section.get("gpu_hours", _positive, None),
        tokens=section.get("tokens", _whole, None),
        usd=section.get("usd", _positive, None),
        timeout=section.get("timeout", seconds, None),
    )
    section.finish()
    return budget


def _sandbox(value: Any, place: str) -> Sandbox:
    # YAML 1.1 reads a bare off as false.
    section = _Section({"kind": value} if isinstance(value, str | bool) else value, place)
    kind = section.get("kind", lambda item, at: "off" if item is False else _text(item, at), "auto")
    if kind not in (kinds := ("auto", "bwrap", "off")):
        raise _bad(f"{place}.kind", f"is {kind!r}", nearest(kind, kinds))
    sandbox = Sandbox(
        kind=kind,
        env=section.get("env", _list_of(_text), ()),
        read=section.get("read", _list_of(_text), ()),
        memory=section.get("memory", size, None),
        processes=section.get("processes", _whole, None),
        disk=section.get("disk", size, None),
    )
    section.finish()
    return sandbox


def size(value: Any, place: str) -> int:
    """A size: a number of bytes, or text such as `500MB`, `24GB`, `1.5TB` (powers of ten)."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kMGT])B\s*", value)
        if match:
            return int(float(match[1]) * _BYTES[match[2]])
        raise _bad(place, f"should be a size such as 500MB or 24GB, not {value!r}")
    return _whole(value, place)


_RUNG = re.compile(r"[a-z0-9][a-z0-9.-]{0,11}")


def _ladder(value: Any, place: str) -> tuple[Rung, ...]:
    rungs: tuple[Rung, ...] = _list_of(_rung)(value, place)
    names = [rung.name for rung in rungs]
    for index, rung in enumerate(rungs):
        if rung.name in names[:index]:
            raise _bad(f"{place}[{index}].name", f"is used twice: {rung.name}")
        if index and not rung.params:
            raise _bad(f"{place}[{index}].params", "is missing", "say what is larger there")
    if rungs and rungs[0] != Rung(rungs[0].name):
        words = "is the project as it is, and has a name only"
        raise _bad(f"{place}[0]", words, f"set its values in {PARAMS_FILE}, and its limits under budget:")
    return rungs


def _rung(value: Any, place: str) -> Rung:
    section = _Section(value, place)
    name = str(section.need("name", _scalar))
    if not _RUNG.fullmatch(name) or ".." in name:
        raise _bad(f"{place}.name", f"is {name!r}", "at most 12 lower-case letters, digits, dots and dashes")
    values = section.get("params", _rung_params, {})
    budget = section.get("budget", _rung_budget, Budget(runs=0))
    section.finish()
    return Rung(name, values, budget.runs or None, budget.timeout)


def _rung_params(value: Any, place: str) -> dict[ParamKey, Scalar]:
    section = _Section(value, place)
    return {_param_key(key, place): _scalar(item, f"{place}.{key}") for key, item in section.data.items()}


def _rung_budget(value: Any, place: str) -> Budget:
    section = _Section(value, place)
    budget = Budget(runs=section.get("runs", _whole, 0), timeout=section.get("timeout", seconds, None))
    section.finish()
    return budget


def _curve(value: Any, place: str) -> CurveFile:
    section = _Section(value, place)
    against = section.get("against", _list_of(_text), ("seconds",))
    if not against:
        raise _bad(f"{place}.against", "is empty", "name the column of the time")
    direction = section.get("direction", _text, "minimize")
    if direction not in ("minimize", "maximize"):
        raise _bad(f"{place}.direction", f"is {direction!r}", nearest(direction, ["minimize", "maximize"]))
    file = _inside(section.need("file", _text), f"{place}.file")
    found = CurveFile(file, section.need("value", _text), against, direction)
    section.finish()
    return found


def _promote(value: Any, place: str) -> str:
    section = _Section(value, place)
    rung = section.get("rung", _scalar, "")
    section.finish()
    return str(rung)


def seconds(value: Any, place: str) -> float:
    """A duration: a number of seconds, or text such as `90s`, `15m`, `2h`, `1d`."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd])\s*", value)
        if match:
            return float(match[1]) * _SECONDS[match[2]]
        raise _bad(place, f"should be a duration such as 90s, 15m or 2h, not {value!r}")
    return _positive(value, place)

"""`program.md`, read: YAML front matter holds the settings, the prose after it is the agent's brief.

Reading is strict: an unknown key is refused and the nearest known one named, so that a typo never silently
switches a guard off.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ar.errors import BadProgram, nearest
from ar.formats import BadData, load_yaml
from ar.git.repo import Repo
from ar.project.params import PARAMS_FILE, ParamKey
from ar.project.program import (
    AGENTS,
    CPU_SECONDS,
    EMBEDDED,
    FILE,
    FILES,
    LEARNED,
    OURS,
    PEAK_MEMORY,
    AgentRole,
    AgentSpec,
    Allowance,
    Budget,
    CurveFile,
    EarlyStop,
    Metric,
    Prices,
    Program,
    Range,
    Rung,
    Sandbox,
    agent_plugins,
)
from ar.project.rules import Rule
from ar.project.scope import Scope
from ar.project.values import Scalar
from ar.redaction import hand

Reader = Callable[[Any, str], Any]  # from a value and its place in the file to what it means
T = TypeVar("T")

_FRONT = re.compile(r"\A---[ \t]*\n(?P<yaml>.*?)^---[ \t]*$\n?(?P<prose>.*)\Z", re.DOTALL | re.MULTILINE)
_RUNG = re.compile(r"[a-z0-9][a-z0-9.-]{0,11}")
_AMOUNT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*")
_BYTES = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SHELL = ("|", "||", "&", "&&", ";", "<", ">", ">>", "2>&1")
_KINDS = {
    dict: "a mapping",
    list: "a list",
    str: "text",
    bool: "true/false",
    int: "a number",
    float: "a number",
}


_LEAST_THINKING, _MOST_THINKING = 1024, 30_000  # tokens of one answer's: the least that the API takes
_NOT_OURS = "compare: ar init --dry-run; is it a text for something else, run: ar init"


def place(root: Path) -> str:
    """Where the programme of the project at `root` is."""
    return next((file for file in FILES[1:] if (root / file).exists()), FILE)


def free_place(root: Path) -> str:
    """Where a programme can be written: beside a `program.md` that is a text for something else."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if not _FRONT.match((root / FILE).read_text(encoding="utf-8")):
            return FILES[1]
    return place(root)


def load(root: Path) -> Program:
    """Read the programme of the project at `root`; from here on, what it hands stages and agents is secret.

    Raises:
        BadProgram: it is missing, or says something that cannot be meant.
    """
    file = place(root)
    try:
        text = (root / file).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadProgram(f"there is no {file} in {root}", "run: ar init") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadProgram(f"{file} cannot be read: {error}", "save it as UTF-8 text") from None
    program = parse(text, file)
    hand(os.environ.get(name, "") for name in program.handed)
    return program


def current(repo: Repo) -> Program:
    """The programme of the checkout; that of the branch, where others move the checkout, and it has none just
    now.

    Raises:
        BadProgram: it is missing, or says something that cannot be meant.
    """
    try:
        return load(repo.root)
    except BadProgram:
        known = load_at(repo, repo.head()) if repo.is_apart() else None
        if known is None:
            raise
        return known


def load_at(repo: Repo, rev: str) -> Program | None:
    """The programme as a commit has it; None where it has none. What it hands on is secret from here on, too.

    Raises:
        BadProgram: it says something that cannot be meant.
    """
    for file in FILES[::-1]:
        content = repo.read(rev, file)
        if content is not None and _FRONT.match(content.decode(errors="replace")):
            program = parse(content.decode(errors="replace"), file)
            hand(os.environ.get(name, "") for name in program.handed)
            return program
    return None


def parse(text: str, file: str = FILE) -> Program:
    """The programme that a text with YAML front matter describes.

    Args:
        file: its path, for what is said of it.
    """
    try:
        return replace(_parse(text), file=file)
    except BadProgram as error:
        raise BadProgram(f"{file}: {error.message}", error.mend or f"edit {file}") from None


def _parse(text: str) -> Program:
    match = _FRONT.match(text)
    if not match:
        raise BadProgram("does not start with YAML between two lines of ---", _NOT_OURS)
    try:
        data = load_yaml(match["yaml"])
    except BadData as error:
        where = f"line {error.line + 1}: {error}" if error.line else str(error)
        raise BadProgram(f"the front matter is not YAML: {where}", "mend it there") from None
    found = _keys(
        {} if data is None else data,
        "",
        "objective",
        objective=_metric,
        guards=_list_of(_guard),
        holdout=_metric,
        early_stop=_early_stop,
        seed=_param_key,
        scope=_scope,
        search=_search,
        agent=_agent,
        agents=_agents,
        questions=_whole,
        budget=_budget,
        sandbox=_sandbox,
        ladder=_ladder,
        transfer=_transfer,
        promote=partial(_keys, rung=_scalar),
        curve=_curve,
        devices=_list_of(_text),
    )
    single = found.pop("agent", None)
    if single and found.get("agents"):
        raise _bad("agents", "stands beside agent", "move what is under agent: into the list")
    found["agents"] = found.get("agents") or (single or AgentSpec(),)
    found["promote_rung"] = str(found.pop("promote", {}).get("rung", ""))
    program = Program(**found, prose=match["prose"].strip())
    _refuse_contradictions(program)
    return program


def _refuse_contradictions(program: Program) -> None:
    if sum(spec.is_learned for spec in program.agents) == 1:
        what, mend = f"is {LEARNED} for one agent only", "give it to those that are to be compared"
        raise _bad("weight", what, mend)
    names = [rung.name for rung in program.ladder[1:]]
    if program.promote_rung not in ("", *names):
        mend = nearest(program.promote_rung, names) if names else "declare it under ladder:"
        raise _bad("promote.rung", f"is no rung above the base: {program.promote_rung}", mend)
    for rung in program.ladder:
        if program.seed in rung.params:
            raise _bad(f"rung {rung.name}", "sets the seed", "the seed is varied by replicates")
    _refuse_rules(program)
    for key in program.search:
        if not program.scope.allows_param(key):
            raise _bad(f"search.{key}", "lies outside scope.params", f"add {key} to scope.params")
        if program.seed == key:
            mend = "the seed is varied by replicates; remove it from search"
            raise _bad(f"search.{key}", "is the seed", mend)


def _refuse_rules(program: Program) -> None:
    """A rule needs its scale at every rung, and nothing is left to it where a rung sets the value itself."""
    for key, rule in program.transfer.items():
        place, of = f"transfer.{key}", ParamKey.parse(rule.name)
        if len(program.ladder) < 2:
            raise _bad(place, "has no ladder to be carried up", "declare its scales under ladder:")
        if key in (of, program.seed):
            raise _bad(place, f"follows {rule.name}", "name what it follows: depth^-0.5")
        declared = [rule.name in rung.scale for rung in program.ladder]
        if any(declared) and not all(declared):
            where = program.ladder[declared.index(False)].name
            raise _bad(
                place, f"follows {rule.name}, which {where} does not say", f"scale: {{{rule.name}: …}} there"
            )
        if not any(declared) and not any(of in rung.params for rung in program.ladder):
            known = sorted({*(name for rung in program.ladder for name in rung.scale)})
            mend = nearest(rule.name, known) if known else f"give every rung a scale: {{{rule.name}: …}}"
            raise _bad(place, f"follows {rule.name}, which no rung says", mend)
        for rung in program.ladder:
            if key in rung.params:
                raise _bad(place, f"is set by {rung.name} itself", "keep one of the two")


def _bad(place: str, what: str, mend: str | None = None) -> BadProgram:
    return BadProgram(f"{place} {what}", mend)


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), type(value).__name__)


def _mapping(value: Any, place: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise _bad(place or "the front matter", f"should be a mapping, not {_kind(value)}")
    return value


def _keys(value: Any, place: str, /, *needed: str, **readers: Reader) -> dict[str, Any]:
    """What a mapping holds, each key by its reader; a null stands for a key that is not there."""
    data = _mapping(value, place)
    prefix = f"{place}." if place else ""
    found = {}
    for key, read in readers.items():
        if data.get(key) is not None:
            found[key] = read(data[key], f"{prefix}{key}")
        elif key in needed:
            raise _bad(f"{prefix}{key}", "is missing")
    for key in data:
        if key not in readers:
            raise BadProgram(f"unknown key '{prefix}{key}'", nearest(str(key), readers))
    return found


def _record(kind: type[T], value: Any, place: str, /, **readers: Reader) -> T:
    """A record from a mapping: what is missing by the record's own default."""
    needed = [spec.name for spec in fields(kind) if spec.default is spec.default_factory is MISSING]  # type: ignore[arg-type]
    return kind(**_keys(value, place, *needed, **readers))


def _list_of(read: Reader) -> Callable[[Any, str], tuple[Any, ...]]:
    def read_list(value: Any, place: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _bad(place, f"should be a list, not {_kind(value)}")
        return tuple(read(item, f"{place}[{index}]") for index, item in enumerate(value))

    return read_list


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _bad(place, f"should be text, not {_kind(value)}")
    return value


def _one_of(*known: str) -> Reader:
    def read_word(value: Any, place: str) -> Any:
        if value not in known:
            raise _bad(place, f"is {value!r}", nearest(_text(value, place), known))
        return value

    return read_word


_direction = _one_of("minimize", "maximize")


def _scalar(value: Any, place: str) -> Scalar:
    if value is not None and not isinstance(value, str | int | float | bool):
        raise _bad(place, f"should be a plain value, not {_kind(value)}")
    return value


def _choice(value: Any, place: str) -> Scalar:
    """One value of a parameter; of a list its JSON text, as a parameters file is read."""
    return json.dumps(value) if isinstance(value, list) else _scalar(value, place)


def _flag(value: Any, place: str) -> bool:
    if not isinstance(value, bool):
        raise _bad(place, f"should be true or false, not {_kind(value)}")
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


def _not_negative(value: Any, place: str) -> float:
    number = _number(value, place)
    if number < 0:
        raise _bad(place, f"should not be below 0, but is {number:g}")
    return number


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


def _amount(text: str, place: str, units: Mapping[str, int], what: str) -> float:
    match = _AMOUNT.fullmatch(text)
    if match is None or match[2] not in units:
        raise _bad(place, f"should be {what}, not {text!r}")
    return _number(float(match[1]) * units[match[2]], place)


def size(value: Any, place: str) -> int:
    """A size: a number of bytes, or text such as `500MB`, `24GB`, `1.5TB` (powers of ten)."""
    if isinstance(value, str):
        return int(_amount(value, place, _BYTES, "a size such as 500MB or 24GB"))
    return _whole(value, place)


def seconds(value: Any, place: str) -> float:
    """A duration: a number of seconds, or text such as `90s`, `15m`, `2h`, `1d`."""
    if isinstance(value, str):
        return _amount(value, place, _SECONDS, "a duration such as 90s, 15m or 2h")
    return _positive(value, place)


def _path(value: Any, place: str) -> str:
    path = _text(value, place)
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path or "\n" in path:
        raise _bad(place, f"should be a path inside the project, not {path!r}")
    return path


def _param_key(value: Any, place: str) -> ParamKey:
    key = ParamKey.parse(_text(value, place))
    _path(key.file, place)
    if not key.key:
        raise _bad(place, f"names no key: {value!r}")
    return key


def _params_of(read: Reader) -> Reader:
    """A mapping of keys of parameters to what `read` makes of each value."""
    return lambda value, place: {
        _param_key(key, place): read(item, f"{place}.{key}") for key, item in _mapping(value, place).items()
    }


def _metric(value: Any, place: str) -> Metric:
    section = {"metric": value} if isinstance(value, str) else value
    found = _keys(section, place, "metric", metric=_text, direction=_direction)
    name = found.pop("metric")
    file, _, key = name.rpartition(":")
    if not file or not key:
        raise _bad(place, f"should name file and key, not {name!r}", 'for example "metrics.json:val_loss"')
    if file == OURS:
        raise _bad(place, f"is {name}, which is measured for guards only")
    return Metric(_path(file, place), key, **found)


def _guard(value: Any, place: str) -> Metric:
    """A metric, or what `ar` measures itself."""
    section = {"metric": value} if isinstance(value, str) else _mapping(value, place)
    file, _, key = str(section.get("metric")).rpartition(":")
    if file != OURS:
        return _metric(value, place)
    if f"{OURS}:{key}" not in (CPU_SECONDS, PEAK_MEMORY):
        raise _bad(place, f"is {OURS}:{key}", nearest(f"{OURS}:{key}", (CPU_SECONDS, PEAK_MEMORY)))
    if section.keys() > {"metric"} and section.get("direction") != "minimize":
        raise _bad(place, "is a cost", "it can only be minimized")
    return Metric(OURS, key)


def _early_stop(value: Any, place: str) -> EarlyStop:
    found = _keys(value, place, "curve", "x", curve=_text, direction=_direction, x=_text)
    curve = _metric({"metric": found["curve"], "direction": found.get("direction")}, place)
    if PurePosixPath(curve.file).suffix not in (".csv", ".tsv"):
        what = f"is in {curve.file}, not in a .csv or .tsv file"
        raise _bad(f"{place}.curve", what, "name one that grows as it runs")
    return EarlyStop(curve, found["x"])


_scope = partial(_record, Scope, files=_list_of(_path), params=_list_of(_param_key))


def _range(value: Any, place: str) -> Range:
    value = {"choices": value} if isinstance(value, list) else value
    steps = {"low": _number, "high": _number, "step": _positive}
    span = _record(Range, value, place, **steps, log=_flag, choices=_list_of(_choice))
    if span.choices:
        if span.low is not None or span.high is not None:
            raise _bad(place, "has both choices and an interval", "keep one of them")
        if len(span.choices) < 2:
            raise _bad(place, "offers one choice only")
        return span
    if span.low is None or span.high is None:
        raise _bad(place, "needs low and high, or choices")
    if span.low >= span.high:
        raise _bad(place, f"has low {span.low:g} not below high {span.high:g}")
    if span.log and span.low <= 0:
        raise _bad(place, f"is logarithmic, so low must be above 0, not {span.low:g}")
    if span.log and span.step is not None:
        raise _bad(place, "has both log and step", "keep one of them")
    return span


_search = _params_of(_range)


def _agents(value: Any, place: str) -> tuple[AgentSpec, ...]:
    specs: tuple[AgentSpec, ...] = _list_of(_agent)(value, place)
    names = [spec.name for spec in specs]
    for name in names:
        if names.count(name) > 1:
            raise _bad(
                "agents", f"names '{name}' more than once", "give each of them a role or a lane of its own"
            )
    return specs


def _agent(value: Any, place: str) -> AgentSpec:
    value = _mapping({"kind": value} if isinstance(value, str) else value, place)
    kind = AgentSpec.kind if value.get("kind") is None else _text(value["kind"], f"{place}.kind")
    if kind not in AGENTS and kind not in agent_plugins():
        raise _bad(f"{place}.kind", f"is {kind!r}", nearest(kind, [*AGENTS, *agent_plugins()]))
    own = _AGENT_KEYS.get(kind, {**_ASKED, "options": _mapping})
    spec = _record(AgentSpec, value, place, kind=_text, lane=_lane, weight=_weight, **own)
    if kind == "command" and not spec.command:
        raise _bad(f"{place}.command", "is missing")
    return spec


def _weight(value: Any, place: str) -> float | None:
    return None if value == LEARNED else _positive(value, place)


def _lane(value: Any, place: str) -> str:
    text = _text(value, place)
    if len(text) > 40 or not text.isprintable():
        raise _bad(place, f"should be a few words, not {text[:50]!r}")
    return " ".join(text.split())


def _role(value: Any, place: str) -> AgentRole:
    return AgentRole(_one_of(*AgentRole)(value, place))


def _thinking(value: Any, place: str) -> str | int:
    if value in ("adaptive", "off", False):  # YAML 1.1 reads a bare off as false
        return "adaptive" if value == "adaptive" else "off"
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not is_whole or not _LEAST_THINKING <= value <= _MOST_THINKING:
        what = f"adaptive, off, or tokens from {_LEAST_THINKING:,} to {_MOST_THINKING:,}"
        raise _bad(place, f"is {value!r}", f"give one of: {what}")
    return int(value)


def _fallback(value: Any, place: str) -> str:
    if value not in EMBEDDED:
        raise _bad(
            place, f"is {value!r}", f"only {' and '.join(EMBEDDED)} need nobody else: fallback: search"
        )
    return str(value)


def _argv(value: Any, place: str) -> tuple[str, ...]:
    """A command and its arguments: a list, or text that is split as a shell would, but run by none."""
    if isinstance(value, str):
        try:
            words = tuple(shlex.split(value))
        except ValueError as error:
            raise _bad(place, f"cannot be split into words: {error}") from None
        if signs := [word for word in words if word in _SHELL]:
            raise _bad(place, f"has {signs[0]}, but no shell runs it", 'write [sh, -c, "…"] if you want one')
    else:
        words = _list_of(_text)(value, place)
    if not words:
        raise _bad(place, "names no command", 'for example command: "claude -p"')
    return words


def _url(value: Any, place: str) -> str:
    """Whoever listens there is sent the key: so only encrypted, or to this machine."""
    text = _text(value, place)
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise _bad(place, f"is no address: {error}") from None
    local = parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.scheme != "https" and not local:
        raise _bad(place, f"should begin with https://, not {text!r}", "or set ANTHROPIC_BASE_URL instead")
    if parts.username or parts.password:
        raise _bad(place, "holds a password", "set ANTHROPIC_AUTH_TOKEN instead")
    return text


_prices = partial(_record, Prices, input=_not_negative, cached=_not_negative, output=_not_negative)
_ASKED: dict[str, Reader] = {"timeout": seconds, "fallback": _fallback, "role": _role}
_AGENT_KEYS: dict[str, dict[str, Reader]] = {
    "search": {},
    "optuna": {},
    "claude": {
        **_ASKED,
        "prices": _prices,
        "model": _text,
        "base_url": _url,
        "thinking": _thinking,
        "reflect": _flag,
        "effort": _one_of("low", "medium", "high", "xhigh", "max"),
    },
    "command": {**_ASKED, "prices": _prices, "command": _argv, "env": _list_of(_text)},
}

_LIMITS: dict[str, Reader] = {"runs": _whole, "timeout": seconds}  # at any scale
_budget = partial(
    _record, Budget, **_LIMITS, hours=_positive, gpu_hours=_positive, tokens=_whole, usd=_positive
)


_ALLOWED: dict[str, Reader] = {"network": _flag, "env": _list_of(_text), "read": _list_of(_text)}


def _sandbox(value: Any, place: str) -> Sandbox:
    value = {"kind": value} if isinstance(value, str | bool) else value
    limits = {"memory": size, "processes": _whole, "disk": size}
    return _record(Sandbox, value, place, kind=_sandbox_kind, stages=_allowances, **_ALLOWED, **limits)


def _allowances(value: Any, place: str) -> dict[str, Allowance]:
    return {
        _text(name, place): _record(Allowance, own, f"{place}.{name}", **_ALLOWED)
        for name, own in _mapping(value, place).items()
    }


def _sandbox_kind(value: Any, place: str) -> Any:
    # YAML 1.1 reads a bare off as false.
    return _one_of("auto", "bwrap", "off")("off" if value is False else value, place)


def _ladder(value: Any, place: str) -> tuple[Rung, ...]:
    rungs: tuple[Rung, ...] = _list_of(_rung)(value, place)
    names = [rung.name for rung in rungs]
    for index, rung in enumerate(rungs):
        if rung.name in names[:index]:
            raise _bad(f"{place}[{index}].name", f"is used twice: {rung.name}")
        if index and not rung.params:
            raise _bad(f"{place}[{index}].params", "is missing", "say what is larger there")
    if rungs and rungs[0] != Rung(rungs[0].name, scale=rungs[0].scale):
        words = "is the project as it is, and has a name only"
        raise _bad(f"{place}[0]", words, f"set its values in {PARAMS_FILE}, and its limits under budget:")
    return rungs


def _rung(value: Any, place: str) -> Rung:
    limits = partial(_keys, **_LIMITS)
    readers: dict[str, Reader] = {"params": _params_of(_scalar), "scale": _scale, "budget": limits}
    found = _keys(value, place, "name", name=_scalar, **readers)
    name = str(found["name"])
    if not _RUNG.fullmatch(name) or ".." in name:
        raise _bad(f"{place}.name", f"is {name!r}", "at most 12 lower-case letters, digits, dots and dashes")
    return Rung(name, found.get("params", {}), found.get("scale", {}), **found.get("budget", {}))


def _scale(value: Any, place: str) -> dict[str, float]:
    found = {
        _text(name, place): _number(size, f"{place}.{name}") for name, size in _mapping(value, place).items()
    }
    for name, size in found.items():
        if size <= 0:
            raise _bad(f"{place}.{name}", "should be above 0")
    return found


def _rule(value: Any, place: str) -> Rule:
    try:
        return Rule.parse(_text(value, place))
    except ValueError:
        raise _bad(place, f"is no rule: {value!r}", "a name and a power of it, such as width^-2") from None


_transfer = _params_of(_rule)


def _curve(value: Any, place: str) -> CurveFile:
    columns = {"value": _text, "against": _list_of(_text)}
    curve = _record(CurveFile, value, place, file=_path, direction=_direction, **columns)
    if not curve.against:
        raise _bad(f"{place}.against", "is empty", "name the column of the time")
    return curve

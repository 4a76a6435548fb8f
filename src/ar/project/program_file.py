"""`program.md`, read: YAML front matter holds the settings, the prose after it is the agent's brief.

Reading is strict: an unknown key is refused and the nearest known one named, so that a typo never silently
switches a guard off.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import urlsplit

import yaml

from ar.errors import BadProgram, nearest
from ar.project.params import PARAMS_FILE, ParamKey
from ar.project.program import (
    AGENTS,
    FILE,
    AgentSpec,
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
from ar.project.scope import Scope
from ar.project.values import Scalar

Reader = Callable[[Any, str], Any]  # from a value and its place in the file to what it means
T = TypeVar("T")

_FRONT = re.compile(r"\A---[ \t]*\n(?P<yaml>.*?)^---[ \t]*$\n?(?P<prose>.*)\Z", re.DOTALL | re.MULTILINE)
_RUNG = re.compile(r"[a-z0-9][a-z0-9.-]{0,11}")
_BYTES = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SHELL = ("|", "||", "&", "&&", ";", "<", ">", ">>", "2>&1")


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
        self.asked: list[str] = []

    def get(self, key: str, read: Reader, default: Any) -> Any:
        self.asked.append(key)
        value = self.data.get(key)
        return default if value is None else read(value, f"{self.place}.{key}".lstrip("."))

    def need(self, key: str, read: Reader) -> Any:
        if self.data.get(key) is None:
            raise _bad(f"{self.place}.{key}".lstrip("."), "is missing")
        return self.get(key, read, None)

    def finish(self) -> None:
        for key in self.data:
            if key not in self.asked:
                place = f"{self.place}.{key}".lstrip(".")
                raise BadProgram(f"{FILE}: unknown key '{place}'", nearest(str(key), self.asked))


def _record(kind: type[T], value: Any, place: str, /, **readers: Reader) -> T:
    """A record from a mapping: each key by its reader, what is missing by the record's own default."""
    section = _Section(value, place)
    needed = {spec.name for spec in fields(kind) if spec.default is spec.default_factory is MISSING}  # type: ignore[arg-type]
    read = {
        key: section.need(key, reader) if key in needed else section.get(key, reader, None)
        for key, reader in readers.items()
    }
    section.finish()
    return kind(**{key: item for key, item in read.items() if item is not None})


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


def _list_of(read: Reader) -> Callable[[Any, str], tuple[Any, ...]]:
    def read_list(value: Any, place: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _bad(place, f"should be a list, not {_kind(value)}")
        return tuple(read(item, f"{place}[{index}]") for index, item in enumerate(value))

    return read_list


def _path(value: Any, place: str) -> str:
    path = _text(value, place)
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path or "\n" in path:
        raise _bad(place, f"should be a path inside the project, not {path!r}")
    return path


def _direction(value: Any, place: str) -> str:
    if value not in (directions := ("minimize", "maximize")):
        raise _bad(place, f"is {value!r}", nearest(_text(value, place), directions))
    return str(value)


def _metric(value: Any, place: str) -> Metric:
    section = _Section({"metric": value} if isinstance(value, str) else value, place)
    name, direction = section.need("metric", _text), section.get("direction", _direction, "minimize")
    section.finish()
    file, _, key = name.rpartition(":")
    if not file or not key:
        raise _bad(place, f"should name file and key, not {name!r}", 'for example "metrics.json:val_loss"')
    return Metric(_path(file, place), key, direction)


def _early_stop(value: Any, place: str) -> EarlyStop:
    section = _Section(value, place)
    name = section.need("curve", _text)
    curve = _metric({"metric": name, "direction": section.get("direction", _direction, "minimize")}, place)
    early_stop = EarlyStop(curve=curve, x=section.need("x", _text))
    section.finish()
    if PurePosixPath(curve.file).suffix not in (".csv", ".tsv"):
        what = f"is in {curve.file}, not in a .csv or .tsv file"
        raise _bad(f"{place}.curve", what, "name one that grows as it runs")
    return early_stop


def _param_key(value: Any, place: str) -> ParamKey:
    key = ParamKey.parse(_text(value, place))
    _path(key.file, place)
    if not key.key:
        raise _bad(place, f"names no key: {value!r}")
    return key


def _scope(value: Any, place: str) -> Scope:
    return _record(Scope, value, place, files=_list_of(_path), params=_list_of(_param_key))


def _search(value: Any, place: str) -> dict[ParamKey, Range]:
    section = _Section(value, place)
    return {_param_key(key, place): _range(item, f"{place}.{key}") for key, item in section.data.items()}


def _range(value: Any, place: str) -> Range:
    span = _record(
        Range,
        {"choices": value} if isinstance(value, list) else value,
        place,
        low=_number,
        high=_number,
        log=_flag,
        step=_positive,
        choices=_list_of(_scalar),
    )
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


def _scalar(value: Any, place: str) -> Scalar:
    if value is not None and not isinstance(value, str | int | float | bool):
        raise _bad(place, f"should be a plain value, not {_kind(value)}")
    return value


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
    value = {"kind": value} if isinstance(value, str) else value
    kind = _Section(value, place).get("kind", _text, AgentSpec.kind)
    if kind not in AGENTS and kind not in agent_plugins():
        raise _bad(f"{place}.kind", f"is {kind!r}", nearest(kind, [*AGENTS, *agent_plugins()]))
    readers: dict[str, Reader] = {"kind": _text, "lane": _lane, "weight": _positive}
    if kind != "optuna":
        readers |= {"timeout": seconds, "fallback": _fallback}
    if kind in ("claude", "command"):
        readers |= {"prices": _prices}
    if kind == "claude":
        readers |= {"model": _text, "base_url": _url}
    if kind == "command":
        readers |= {"command": _argv, "env": _list_of(_text)}
    if kind not in AGENTS:
        readers |= {"options": _mapping}
    spec = _record(AgentSpec, value, place, **readers)
    if kind == "command" and not spec.command:
        raise _bad(f"{place}.command", "is missing")
    return spec


def _mapping(value: Any, place: str) -> dict[str, Any]:
    return dict(_Section(value, place).data)


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


def _prices(value: Any, place: str) -> Prices:
    return _record(Prices, value, place, input=_not_negative, cached=_not_negative, output=_not_negative)


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
    return _record(
        Budget,
        value,
        place,
        runs=_whole,
        hours=_positive,
        gpu_hours=_positive,
        tokens=_whole,
        usd=_positive,
        timeout=seconds,
    )


def _sandbox(value: Any, place: str) -> Sandbox:
    return _record(
        Sandbox,
        {"kind": value} if isinstance(value, str | bool) else value,
        place,
        kind=_sandbox_kind,
        env=_list_of(_text),
        read=_list_of(_text),
        memory=size,
        processes=_whole,
        disk=size,
    )


def _sandbox_kind(value: Any, place: str) -> str:
    kind = "off" if value is False else _text(value, place)  # YAML 1.1 reads a bare off as false
    if kind not in (kinds := ("auto", "bwrap", "off")):
        raise _bad(place, f"is {kind!r}", nearest(kind, kinds))
    return kind


def size(value: Any, place: str) -> int:
    """A size: a number of bytes, or text such as `500MB`, `24GB`, `1.5TB` (powers of ten)."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kMGT])B\s*", value)
        if match:
            return int(float(match[1]) * _BYTES[match[2]])
        raise _bad(place, f"should be a size such as 500MB or 24GB, not {value!r}")
    return _whole(value, place)


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
    limits = section.get("budget", _rung_budget, {})
    section.finish()
    return Rung(name, values, **limits)


def _rung_params(value: Any, place: str) -> dict[ParamKey, Scalar]:
    section = _Section(value, place)
    return {_param_key(key, place): _scalar(item, f"{place}.{key}") for key, item in section.data.items()}


def _rung_budget(value: Any, place: str) -> dict[str, Any]:
    section = _Section(value, place)
    limits = {"runs": section.get("runs", _whole, None), "timeout": section.get("timeout", seconds, None)}
    section.finish()
    return limits


def _curve(value: Any, place: str) -> CurveFile:
    curve = _record(
        CurveFile, value, place, file=_path, value=_text, against=_list_of(_text), direction=_direction
    )
    if not curve.against:
        raise _bad(f"{place}.against", "is empty", "name the column of the time")
    return curve


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

"""params.yaml as frozen records. Unknown keys are refused, with the nearest known one named."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from data.errors import LabError

PARAMS = Path("params.yaml")
GROUPS = ("data", "model", "optim", "schedule", "train")

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """The corpus and its tokenizer; params.yaml says what each key means."""

    source: str
    files: list[str]
    parquet: list[Any]
    text_column: str
    vocab_size: int
    tokenizer_bytes: int
    val_fraction: float
    test_fraction: float


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """The budget and the machine; params.yaml says what each key means."""

    tokens: int
    max_seconds: float | None
    sequence_len: int
    micro_tokens: int
    eval_tokens: int
    loss_limit: float
    device: str
    threads: int
    compile: bool
    save_checkpoint: bool


def load(path: Path = PARAMS) -> dict[str, Any]:
    """The whole of params.yaml. Raises LabError when it is missing, broken or lacks a group."""
    import yaml

    try:
        params = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LabError(f"{path}: {error.strerror}; run this from the root of the repository") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise LabError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(params, dict):
        raise LabError(f"{path}: must be a mapping with the groups {', '.join(GROUPS)}")
    _known(path, "", params, ("seed", *GROUPS))
    for name in GROUPS:
        if not isinstance(params.get(name), dict):
            raise LabError(f"{path}: group `{name}` is missing; restore it with `git checkout -- {path}`")
    if not _fits(params.get("seed"), int) or params["seed"] < 0:
        raise LabError(f"{path}: seed must be a whole number from 0, not {params.get('seed')!r}")
    return params


def group(cls: type[T], params: Mapping[str, Any], name: str) -> T:
    """`params[name]` as the dataclass `cls`: every key present, known and of its type.

    A whole number is accepted where a float is asked for. Raises LabError naming the key.
    """
    values: Mapping[str, Any] = params[name]
    hints = get_type_hints(cls)
    _known(PARAMS, f"{name}.", values, tuple(hints))
    for key, kind in hints.items():
        if key not in values:
            raise LabError(f"{PARAMS}: {name}.{key} is missing")
        if not _fits(values[key], kind):
            expected = getattr(kind, "__name__", str(kind))
            raise LabError(f"{PARAMS}: {name}.{key} must be {expected}, not {values[key]!r}")
    return cls(**{key: _coerced(values[key], kind) for key, kind in hints.items()})


def data_settings(params: Mapping[str, Any]) -> DataSettings:
    """The group `data`, checked."""
    settings = group(DataSettings, params, "data")
    if settings.source not in ("stdlib", "files", "parquet"):
        raise LabError(f"{PARAMS}: data.source must be stdlib, files or parquet, not {settings.source!r}")
    if settings.vocab_size < 257:
        raise LabError(f"{PARAMS}: data.vocab_size must be at least 257 (256 bytes and the separator)")
    for key in ("val_fraction", "test_fraction"):
        if not 0 < getattr(settings, key) < 0.5:
            raise LabError(f"{PARAMS}: data.{key} must lie between 0 and 0.5")
    return settings


def train_settings(params: Mapping[str, Any]) -> TrainSettings:
    """The group `train`, checked."""
    settings = group(TrainSettings, params, "train")
    for key in ("tokens", "sequence_len", "micro_tokens", "eval_tokens", "threads", "loss_limit"):
        if getattr(settings, key) <= 0:
            raise LabError(f"{PARAMS}: train.{key} must be positive")
    if settings.max_seconds is not None and settings.max_seconds <= 0:
        raise LabError(f"{PARAMS}: train.max_seconds must be positive, or null for no limit")
    if settings.device not in ("cpu", "cuda", "mps"):
        raise LabError(f"{PARAMS}: train.device must be cpu, cuda or mps, not {settings.device!r}")
    return settings


def _known(path: Path, prefix: str, values: Mapping[str, Any], names: tuple[str, ...]) -> None:
    for key in values:
        if key not in names:
            near = difflib.get_close_matches(str(key), names, n=1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known: {', '.join(names)}"
            raise LabError(f"{path}: unknown key {prefix}{key}; {hint}")


def _fits(value: object, kind: Any) -> bool:
    if kind == float | None:
        return value is None or _fits(value, float)
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    origin = getattr(kind, "__origin__", kind)
    return isinstance(value, origin)


def _coerced(value: Any, kind: Any) -> Any:
    return float(value) if kind is float else value

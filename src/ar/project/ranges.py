"""A sensible range to search around a value, guessed from its type, its size and its name."""

from __future__ import annotations

import math
import re
import sys
from typing import Any

from ar.project.values import Scalar

# Words in names of what is the task, the machine, the cost of a run or the way it is measured: runs that
# differ there cannot be compared.
_NOT_SEARCHED = """
    seed seeds tokens bytes vocab epoch epochs step steps iter iters iterations budget limit second seconds
    minutes hours time timeout device devices cuda gpu gpus cpu cpus thread threads worker workers job jobs
    process processes world port host path paths file files dir folder root url version debug verbose quiet
    log logging every interval save checkpoint cache compile eval val validation valid dev test split fold
    folds samples examples rows
"""
_MAGNITUDES = "lr rate eps epsilon decay std sigma temperature lambda l1 l2"  # whatever their size
_SMALL = 0.05  # up to here a number is a magnitude, such as a learning rate; from there to 1 a share
_DECADE = 10.0
_HUGE = 10**12  # a whole number from here on is an identifier or a bound
_SPAN = 4.0  # a number above 1 is searched from a fourth of it to four times as much


def words(name: str) -> set[str]:
    """The words of a key, without the groups that it lies in: of `optim.matrixLR_max`, matrix, lr and max."""
    last = name.rpartition(":")[2].rpartition(".")[2]
    return set(re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", last).lower()))


def around(name: str, value: Scalar) -> dict[str, Any] | list[Any] | None:
    """What `search:` in program.md would say of a parameter.

    None where its scale cannot be told, or its name says that it is not to be searched.
    """
    found = words(name)
    if found & {"min", "max"}:
        found -= {"split", "samples"}  # of a tree or a forest
    if not found.isdisjoint(_NOT_SEARCHED.split()):
        return None
    if isinstance(value, bool):
        return [False, True]
    if isinstance(value, int):
        return _whole(value)
    if not isinstance(value, float) or not math.isfinite(value) or value == 0:
        return None
    if value < 0:
        return {"low": _short(value * 2), "high": _short(value / 2)}
    if value >= 1:
        return _log(value, _SPAN)
    if value <= _SMALL or words(name).intersection(_MAGNITUDES.split()):
        return _log(value, _DECADE)
    return _share(value)


def _whole(value: int) -> dict[str, Any] | list[Any] | None:
    """A factor of two around; sizes that are powers of two stay such."""
    if not 0 < value < _HUGE:
        return None
    if value >= 8 and value.bit_count() == 1:
        return [value // 2, value, value * 2]
    return {"low": max(1, value // 2), "high": value * 2}


def _log(value: float, factor: float) -> dict[str, Any]:
    low = _short(value / factor) or value  # 0 has no logarithm
    return {"low": low, "high": _short(value * factor), "log": True}


def _share(value: float) -> dict[str, Any]:
    """Around a number between 0 and 1, the closer the nearer an end is: 0.95 wants finer steps than 0.5.

    It stays short of 1, which a momentum or a dropout must not be.
    """
    room = min(value, 1 - value)
    digits = 1 - math.floor(math.log10(room))
    low, high = max(0.0, value - 2 * room), min(value + 2 * room, 1 - (1 - value) / 5)
    return {"low": round(low, digits), "high": round(high, digits)}


def _short(value: float) -> float:
    """To two digits, and finite."""
    most = sys.float_info.max
    return max(-most, min(float(f"{value:.2g}"), most))

"""Weights on disk in the safetensors format: a JSON header and raw bytes, nothing to execute.

https://huggingface.co/docs/safetensors: 8 bytes little-endian header length, the header, the data.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

MOST_HEADER = 1 << 24  # bytes
MOST_BYTES = 1 << 37

Source = Path | int  # a path, or the descriptor of an open file


def save(target: Source, tensors: Mapping[str, Tensor]) -> None:
    """Writes `tensors` as fp32, in order of their names."""
    header: dict[str, Any] = {}
    offset = 0
    arrays = {name: tensors[name].detach().float().cpu().contiguous().numpy() for name in sorted(tensors)}
    for name, array in arrays.items():
        end = offset + array.nbytes
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(target, "wb", closefd=not isinstance(target, int)) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in arrays.values():
            file.write(array.tobytes())


def read_header(source: Source) -> dict[str, list[int]]:
    """Shapes by name. Raises RunError when the file is not what `save` writes."""
    try:
        with open(source, "rb", closefd=not isinstance(source, int)) as file:
            file.seek(0)
            size = int.from_bytes(file.read(8), "little")
            if size > MOST_HEADER:
                raise ValueError("header too long")
            header = json.loads(file.read(size))
        shapes = {str(name): [int(n) for n in entry["shape"]] for name, entry in header.items()}
        expected = 8 + size + 4 * sum(math.prod(shape) for shape in shapes.values())
        if any(n < 0 for shape in shapes.values() for n in shape) or os.stat(source).st_size != expected:  # noqa: PTH116 (of a descriptor, too)
            raise ValueError("wrong size")
        if expected > MOST_BYTES:
            raise ValueError("too many")
    except (
        OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError
    ) as error:  # fmt: skip
        raise RunError(f"training left no readable weights: {error}") from error
    return shapes


def count(source: Source) -> int:
    """Number of weights in the file."""
    return sum(math.prod(shape) for shape in read_header(source).values())


def load(source: Source) -> dict[str, Tensor]:
    """Reads what `save` wrote."""
    import torch

    tensors: dict[str, Tensor] = {}
    shapes = read_header(source)
    with open(source, "rb", closefd=not isinstance(source, int)) as file:
        file.seek(0)
        raw = bytearray(file.read())
    offset = 8 + int.from_bytes(raw[:8], "little")
    for name, shape in shapes.items():
        number = math.prod(shape)
        tensors[name] = torch.frombuffer(raw, dtype=torch.float32, count=number, offset=offset).view(shape)
        offset += 4 * number
    return tensors

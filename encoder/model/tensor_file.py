"""The header of a safetensors file, read without torch: 8 bytes of length, JSON, then the tensors one after another."""

import json
import math
import os
from pathlib import Path
from typing import Final, NamedTuple

from encoder.runtime.files import open_regular

METADATA_KEY: Final = "hashgrain"
"""Of the metadata of a model file: its own header."""
MAX_HEADER: Final = 4 << 20
"""Bytes of a file's header: a ResNet-152 has 100 kB, a long training's record as many again."""
DTYPES: Final = {"F32": 4, "F16": 2}
"""Bytes of a value, by safetensors' name of its type; a model has no others."""
UNREADABLE: Final = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
"""What reading a header raises that somebody else wrote."""


class TensorHeader(NamedTuple):
    """What a file says before its tensors."""

    metadata: dict[str, str]
    shapes: dict[str, tuple[int, ...]]
    """By tensor; together they take exactly the bytes that follow."""


def read_tensor_header(path: Path) -> TensorHeader:
    """Return the header of a file; nothing is allocated by what it says.

    Raises:
        OSError, or one of `UNREADABLE`: it is not a safetensors file of the types that a model has.
    """
    with open_regular(path) as file:
        length = int.from_bytes(file.read(8), "little")
        if length > MAX_HEADER:
            raise ValueError(f"not a safetensors file, or a header of {length:,} bytes, the most are {MAX_HEADER:,}")
        content = json.loads(file.read(length))
        there = os.fstat(file.fileno()).st_size - 8 - length
    metadata = content.pop("__metadata__", {})
    shapes = {name: tuple(count(size) for size in tensor["shape"]) for name, tensor in content.items()}
    wanted = sum(math.prod(shapes[name]) * DTYPES[tensor["dtype"]] for name, tensor in content.items())
    if wanted != there:
        raise ValueError(f"its tensors take {wanted:,} bytes, there are {there:,}")
    return TensorHeader(metadata, shapes)


def count(value: object) -> int:
    """Return a whole number that is not negative.

    Raises:
        ValueError: it is anything else.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is not a count")
    return value

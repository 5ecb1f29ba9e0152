"""Columns of an index as .npy files: appended in blocks, mapped when read. Anyone can open them with numpy alone."""

import math
import os
import re
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, BinaryIO, Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from encoder.codes.strings import TextColumn
from encoder.errors import HashgrainError, Reason, unreadable, why
from encoder.runtime.durable import create
from encoder.runtime.files import open_regular

_NPY_START: Final = 8
"""Bytes of the magic string and the version."""
_NPY_LONGEST: Final = 1 << 16
"""Bytes of a header, at most: numpy's own has 118 or a few more."""
_NPY_HEADER: Final = re.compile(
    r"\{\s*+'descr'\s*+:\s*+'(?P<type>[<|](?:b1|[iu][1248]|f[248]))'\s*+,\s*+'fortran_order'\s*+:\s*+False\s*+,\s*+"
    r"'shape'\s*+:\s*+\((?P<shape>(?:\d{1,19}+\s*+,?+\s*+){0,32}+)\)\s*+,?+\s*+\}\s*+"
)
"""A header as numpy writes it, keys sorted; one-dimensional shapes have a comma, those without dimensions nothing."""


class ColumnWriter:
    """Appends blocks of rows to an .npy file without holding them.

    The header is written again at the end with the final count; numpy pads headers so that a growing first axis fits
    (numpy.lib.format, version 1.0).
    """

    def __init__(self, path: Path, dtype: npt.DTypeLike, row_shape: tuple[int, ...] = ()) -> None:
        self._open, self._dtype, self._row_shape = ExitStack(), np.dtype(dtype), row_shape
        self._file = self._open.enter_context(create(path))
        self.rows = 0
        self._write_header()

    def append(self, block: npt.NDArray[Any]) -> None:
        """Append rows."""
        self._file.write(np.ascontiguousarray(block, dtype=self._dtype).data)
        self.rows += len(block)

    def _write_header(self) -> None:
        self._file.seek(0)
        _write_header(self._file, self._dtype, (self.rows, *self._row_shape))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._write_header()
        self._open.__exit__(kind, err, trace)


class MatrixWriter:
    """Fills an .npy file of known shape in any order; what is not written is 0."""

    def __init__(self, path: Path, dtype: npt.DTypeLike, shape: tuple[int, int]) -> None:
        self._open, self._dtype, self._width = ExitStack(), np.dtype(dtype), shape[1]
        self._file = self._open.enter_context(create(path))
        _write_header(self._file, self._dtype, shape)
        self._start = self._file.tell()
        self._file.truncate(self._start + shape[0] * shape[1] * self._dtype.itemsize)

    def put(self, row: int, column: int, values: npt.NDArray[Any]) -> None:
        """Write values of a row from a column on."""
        self._file.seek(self._start + (row * self._width + column) * self._dtype.itemsize)
        self._file.write(np.ascontiguousarray(values, dtype=self._dtype).data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, err, trace)


def _write_header(file: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    descr = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})


def write_column(path: Path, values: npt.NDArray[Any]) -> None:
    """Write a whole array."""
    with ColumnWriter(path, values.dtype, values.shape[1:]) as column:
        column.append(values)


def write_text(folder: Path, name: str, columns: Iterable[TextColumn]) -> None:
    """Write columns of strings one below the other, as NAME.text.npy and NAME.offsets.npy."""
    with (
        ColumnWriter(folder / f"{name}.text.npy", np.uint8) as text,
        ColumnWriter(folder / f"{name}.offsets.npy", np.uint64) as offsets,
    ):
        offsets.append(np.zeros(1, dtype=np.uint64))
        for column in columns:
            offsets.append(column.offsets[1:] + np.uint64(text.rows))
            text.append(column.text)


def map_column(path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Map an array, read only.

    Raises:
        HashgrainError: `index-damaged` when it is missing, cut, or of another type or shape than expected.
    """
    try:
        with open_regular(path, links=False) as file:
            found = read_npy_header(file)
            if (found.dtype, found.shape) != (np.dtype(dtype), shape):
                raise ValueError(f"it is {found.dtype}{found.shape}, expected {np.dtype(dtype)}{shape}")  # noqa: TRY301
            if not math.prod(shape):  # no bytes cannot be mapped
                return np.empty(shape, dtype)
            return np.memmap(file, found.dtype, "r", found.data_at, shape).view(np.ndarray)
    except (OSError, ValueError) as err:
        fault = why(err) if isinstance(err, OSError) else err
        damaged = HashgrainError(Reason.INDEX_DAMAGED, f"{path} cannot be read ({fault}); build the index again")
        raise (unreadable(path, err, damaged) if isinstance(err, OSError) else damaged) from err


class NpyHeader(NamedTuple):
    """What an .npy file says of its array."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    data_at: int
    """Where the array begins, in bytes; it ends where the file does."""


def read_npy_header(file: BinaryIO) -> NpyHeader:
    """Read the header of an .npy file, which anybody may have written: numpy's own parser evaluates it as Python.

    Raises:
        ValueError: no array of numbers in rows, lowest byte first, that ends where its file does.

    Source: numpy.lib.format, versions 1.0 to 3.0.
    """
    start = file.read(_NPY_START)
    if start[:6] != b"\x93NUMPY" or len(start) < _NPY_START:
        raise ValueError("it is not an .npy file")
    wide = {1: 2, 2: 4, 3: 4}.get(start[6])
    if wide is None:
        raise ValueError(f"version {start[6]} of .npy is not known")
    length = int.from_bytes(file.read(wide), "little")
    text = file.read(min(length, _NPY_LONGEST)).decode("latin-1")
    said = _NPY_HEADER.fullmatch(text)
    if said is None or len(text) < length:
        raise ValueError("its header does not describe an array of numbers in rows, lowest byte first")
    header = NpyHeader(
        np.dtype(said["type"]),
        tuple(int(size) for size in re.findall(r"\d+", said["shape"])),
        _NPY_START + wide + length,
    )
    there = os.fstat(file.fileno()).st_size - header.data_at
    if math.prod(header.shape) * header.dtype.itemsize != there:
        raise ValueError(f"{header.dtype}{header.shape} in {there:,} bytes")
    return header


def map_text(folder: Path, name: str, rows: int) -> TextColumn:
    """Map a column of strings."""
    offsets = map_column(folder / f"{name}.offsets.npy", np.uint64, (rows + 1,))
    path = folder / f"{name}.text.npy"
    return TextColumn(map_column(path, np.uint8, (int(offsets[-1]),)), offsets, str(path))

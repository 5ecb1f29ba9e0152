"""Columns of an index as .npy files: appended in blocks, mapped when read. Anyone can open them with numpy alone."""

from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt

from encoder.codes.strings import TextColumn
from encoder.errors import HashgrainError, Reason


class ColumnWriter:
    """Appends blocks of rows to an .npy file without holding them.

    The header is written again at the end with the final count; numpy pads headers so that a growing first axis fits
    (numpy.lib.format, version 1.0).
    """

    def __init__(self, path: Path, dtype: npt.DTypeLike, row_shape: tuple[int, ...] = ()) -> None:
        self._file, self._dtype, self._row_shape = path.open("wb"), np.dtype(dtype), row_shape
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

    def __exit__(self, *_: object) -> None:
        with self._file:
            self._write_header()


class MatrixWriter:
    """Fills an .npy file of known shape in any order; what is not written is 0."""

    def __init__(self, path: Path, dtype: npt.DTypeLike, shape: tuple[int, int]) -> None:
        self._file, self._dtype, self._width = path.open("wb"), np.dtype(dtype), shape[1]
        _write_header(self._file, self._dtype, shape)
        self._start = self._file.tell()
        self._file.truncate(self._start + shape[0] * shape[1] * self._dtype.itemsize)

    def put(self, row: int, column: int, values: npt.NDArray[Any]) -> None:
        """Write values of a row from a column on."""
        self._file.seek(self._start + (row * self._width + column) * self._dtype.itemsize)
        self._file.write(np.ascontiguousarray(values, dtype=self._dtype).data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


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
    mode: Any = "r" if np.prod(shape) else None  # no bytes cannot be mapped
    try:
        values: npt.NDArray[Any] = np.load(path, mmap_mode=mode, allow_pickle=False)
    except (OSError, ValueError, EOFError) as err:
        raise HashgrainError(Reason.INDEX_DAMAGED, f"{path} cannot be read ({err}); build the index again") from err
    if values.dtype != np.dtype(dtype) or values.shape != shape:
        raise HashgrainError(
            Reason.INDEX_DAMAGED,
            f"{path} is {values.dtype}{values.shape}, expected {np.dtype(dtype)}{shape}; build the index again",
        )
    return values.view(np.ndarray)


def map_text(folder: Path, name: str, rows: int) -> TextColumn:
    """Map a column of strings."""
    offsets = map_column(folder / f"{name}.offsets.npy", np.uint64, (rows + 1,))
    return TextColumn(map_column(folder / f"{name}.text.npy", np.uint8, (int(offsets[-1]),)), offsets)

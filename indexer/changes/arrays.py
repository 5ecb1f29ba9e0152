"""Codes made elsewhere, in the files people have: .npy, .npz, Parquet, and FAISS's plain binary index, told by their first bytes.

Arrays are mapped where they lie in a file as they are; else they are written once to a file without a name, and that is mapped.
"""

import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, BinaryIO, Final, cast

import numpy as np
import numpy.typing as npt

from encoder.bits import Codes, reversed_bits
from encoder.errors import HashgrainError, Reason, shown, unless_short, why
from encoder.levels import MAX_BITS, Level
from encoder.runtime.files import open_regular
from encoder.runtime.publish import BLOCK, write_failed
from indexer.engines.faiss_file import FLAT, flat_layout
from indexer.settings import BitOrder
from indexer.storage.columns import read_npy_header

LOOKED_AT: Final = 1000
"""Rows of an array that are looked at for bits that were not packed."""
SHOWN: Final = 10
"""Names that an error lists."""
_ROWS: Final = 1 << 16
"""Rows whose bits are turned round at once."""
_NPY, _ZIP, _PARQUET = b"\x93NUMPY", (b"PK\3\4", b"PK\5\6"), b"PAR1"
_OF_FAISS: Final = {
    b"IBwF": "inverted lists; give its codes by row as an IndexBinaryFlat",
    b"IBMp": "ids; give its `index`, and its ids as keys",
    b"IBM2": "ids; give its `index`, and its ids as keys",
    b"IBHf": "an HNSW graph; give its `storage`",
}
"""Other binary indexes: what they have. Source: faiss/impl/index_write.cpp, release 1.15, `write_index_binary`."""


def open_codes_of(source: "Path | Codes", level: Level, order: BitOrder | None, folder: Path) -> Codes:
    """Return the codes of a level, lowest bit first.

    Args:
        source: a file, or the array itself. `PATH#NAME` is the array NAME of an .npz, or the column NAME of a Parquet file;
            without, the one that is called as the level, or the only one that there is.
        level: whose codes they are.
        order: in which the bits were packed; None: FAISS's, of its own file alone.
        folder: on whose disk there is room for what cannot be mapped.

    Returns:
        uint8[rows, nbits / 8].

    Raises:
        HashgrainError: `bad-value` for anything that is not codes, `write-failed`.
    """
    if isinstance(source, np.ndarray):
        codes, name, own = _codes(source, "the array"), "the array", None
    else:
        codes, own = _read(source, level, folder)
        name = str(source)
    if (order or own) is None:
        raise _bad(
            f"{name} does not say in which order its bits were packed; say little (lowest bit first, FAISS's), or big (what "
            "numpy.packbits does when it is not told)"
        )
    sample = codes[:LOOKED_AT]
    if sample.size >= 256 and codes.shape[1] >= 8 and sample.max() == 1:
        raise _bad(f"{name} holds a bit per byte; pack them: numpy.packbits(bits, axis=1, bitorder='little')")
    return _turned(codes, folder) if order is BitOrder.BIG else codes


def _read(source: Path, level: Level, folder: Path) -> tuple[Codes, BitOrder | None]:
    """Return the codes in a file, and the order of their bits where its format says it."""
    path, name = _parted(source)
    try:
        with open_regular(path) as file:
            start = file.read(6)
            file.seek(0)
            if start == _NPY:
                return _codes(_map_npy(file), str(path)), None
            if start[:4] in _ZIP:
                return _codes(_from_npz(file, path, level, name, folder), str(path)), None
            if start[:4] == _PARQUET:
                from indexer.changes.parquet_codes import parquet_codes  # loads pyarrow

                with _spooled(folder) as spool:
                    return _mapped(spool, parquet_codes(path, level, name, partial(_write, spool))), None
    except (OSError, ValueError) as err:
        bad = _bad(f"codes {path} could not be read: {why(err) if isinstance(err, OSError) else err}")
        raise unless_short(f"codes {path}", err, bad) from err
    if start[:4] == FLAT:
        return _from_faiss(path), BitOrder.LITTLE
    if start[:2] == b"IB" or start[:2] == b"Ix":
        what = _OF_FAISS.get(start[:4], f"what is not codes by row ({start[:4].decode('latin-1')})")
        raise _bad(f"{path} is an index of FAISS with {what}; only faiss.IndexBinaryFlat is read")
    raise _bad(f"{path} is neither .npy, .npz, Parquet nor a FAISS IndexBinaryFlat; give codes in one of these")


def _parted(source: Path) -> tuple[Path, str | None]:
    """Part `PATH#NAME`, unless there is a file of the whole name."""
    path, mark, name = str(source).rpartition("#")
    return (Path(path), name) if mark and not source.exists() else (source, None)


def _codes(array: "npt.NDArray[Any]", name: str) -> Codes:
    """Return an array that is packed codes, or say what it is."""
    if array.dtype == np.bool_:
        raise _bad(f"{name} is {shown(array)}; pack its bits: numpy.packbits(bits, axis=1, bitorder='little')")
    if array.dtype != np.uint8 or array.ndim != 2:
        raise _bad(f"{name} is {shown(array)}; expected packed codes, uint8[rows, nbits / 8]")
    if not 0 < array.shape[1] <= MAX_BITS // 8:
        raise _bad(f"{name} is {shown(array)}; a code has 8 to {MAX_BITS:,} bits, so 1 to {MAX_BITS // 8} bytes")
    return array


def _map_npy(file: BinaryIO) -> "npt.NDArray[Any]":
    header = read_npy_header(file)
    if 0 in header.shape:  # no bytes cannot be mapped
        return np.empty(header.shape, header.dtype)
    return np.memmap(file, header.dtype, "r", header.data_at, header.shape).view(np.ndarray)


def _from_npz(file: BinaryIO, path: Path, level: Level, name: str | None, folder: Path) -> "npt.NDArray[Any]":
    """Unpack one array of an .npz, whose size its directory says; no more is taken of it."""
    try:
        with zipfile.ZipFile(file) as archive:
            there = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            chosen = name or (level if level in there else next(iter(there), "") if len(there) == 1 else level)
            if chosen not in there:
                has = ", ".join(list(there)[:SHOWN]) or "nothing"
                raise _bad(f"{path} has no array {str(chosen)!r} (has: {has}); name one of them: {path}#NAME")
            _check_room(there[chosen].file_size, path, folder)
            with _spooled(folder) as spool, archive.open(there[chosen]) as member:
                while block := member.read(BLOCK):
                    _write(spool, block)
                spool.seek(0)
                return _map_npy(cast("BinaryIO", spool))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as err:
        raise ValueError(f"it is not a whole .npz ({err})") from err


def _from_faiss(path: Path) -> Codes:
    try:
        layout = flat_layout(path)
    except HashgrainError as err:
        cause, _, _ = str(err).partition("; ")
        raise _bad(f"{cause}; write it again with faiss.write_index_binary") from err
    shape = (layout.ntotal, layout.nbits // 8)
    if not layout.ntotal:
        return np.empty(shape, np.uint8)
    return _codes(np.memmap(path, np.uint8, "r", layout.codes_at, shape).view(np.ndarray), str(path))


def _turned(codes: Codes, folder: Path) -> Codes:
    with _spooled(folder) as spool:
        for start in range(0, len(codes), _ROWS):
            _write(spool, reversed_bits(codes[start : start + _ROWS]).tobytes())
        return _mapped(spool, codes.shape[1])


def _mapped(spool: IO[bytes], width: int) -> Codes:
    spool.flush()
    if not (size := spool.seek(0, 2)):
        return np.empty((0, width), np.uint8)
    return np.memmap(cast("BinaryIO", spool), np.uint8, "r", 0, (size // width, width)).view(np.ndarray)


def _check_room(size: int, path: Path, folder: Path) -> None:
    """Refuse what would not fit on the disk before any of it is written: a few bytes may say that they become many."""
    if size > (free := shutil.disk_usage(_room(folder)).free):
        raise HashgrainError(
            Reason.WRITE_FAILED,
            f"{path} has {size:,} bytes unpacked, and the disk of {folder} has room for {free:,}; free space",
        )


def _room(folder: Path) -> Path:
    return folder if folder.is_dir() else Path(tempfile.gettempdir())


@contextmanager
def _spooled(folder: Path) -> Iterator[IO[bytes]]:
    """Yield a file without a name: it is gone when nobody maps it any more, also after a kill."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context(tempfile.TemporaryFile(dir=_room(folder)))
        except OSError as err:
            raise write_failed(f"a copy of the codes in {folder}", err) from err
        yield file


def _write(spool: IO[bytes], data: bytes) -> None:
    try:
        spool.write(data)
    except OSError as err:
        raise write_failed("a copy of the codes", err) from err


def _bad(message: str) -> HashgrainError:
    return HashgrainError(Reason.BAD_VALUE, message)

"""The code file: one HDF5 file per shard, specified in docs/FORMAT.md. The only owner of h5py.

The first 512 bytes (HDF5's user block) hold magic, version, size and a SHA-256 of all the rest, so that a file is
proven whole before libhdf5 parses a byte of it. Datasets are contiguous and uncompressed: hash bits do not compress,
and numpy can map them.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
import numpy.typing as npt

from encoder.bits import Codes
from encoder.codes.header import CodeHeader, read_header
from encoder.codes.label_columns import LabelColumn
from encoder.codes.labels import LabelGroup, LabelReader, LabelSpool, write_bad_labels, write_labels
from encoder.codes.spool import PatientFile, Spool, TextSpool
from encoder.codes.strings import TextColumn
from encoder.errors import NO_MORE, HashgrainError, Reason, Reject, no_more, why
from encoder.images.duplicates import DIGEST_BYTES
from encoder.images.labels.values import MAX_FIELDS, BadLabel, BadLabels, LabelKind, Labels
from encoder.levels import Level
from encoder.runtime.files import exists, open_regular
from encoder.runtime.publish import publish, sha256_of

SUFFIX = ".h5"
MAGIC = "hashgrain-codes"
VERSION = 2
USER_BLOCK = 512
MAX_HEADER = 1 << 20
"""Characters of an attribute, at most; a header has a thousand."""


@dataclass(frozen=True, slots=True)
class RejectRow:
    """One image that was seen and has no code."""

    key: str
    reject: Reject
    detail: str


class CodeFileWriter:
    """Collects the rows and rejects of one shard in bounded memory; `finish` makes the file appear, whole."""

    def __init__(self, folder: Path, bits: Mapping[Level, int]) -> None:
        self.rows = self.rejects = 0
        self.reasons: Counter[Reject] = Counter()
        self.bad_labels = BadLabels()
        self._folder, self._bits = folder, dict(bits)
        self._codes = {level: Spool(folder) for level in bits}
        self._keys, self._places, self._labels = TextSpool(folder), Spool(folder), LabelSpool(folder)
        self._digests = Spool(folder)
        self._rejected = {name: TextSpool(folder) for name in ("key", "reason", "detail")}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        columns: list[Spool | TextSpool | LabelSpool] = [self._keys, self._places, self._digests, self._labels]
        for column in (*columns, *self._codes.values(), *self._rejected.values()):
            column.close()

    def add_rows(
        self, keys: Sequence[str], places: npt.NDArray[np.uint64], digests: bytes, codes: Mapping[Level, Codes]
    ) -> int:
        """Append n images, whose labels `label` brings.

        Args:
            keys: of each.
            places: uint64[n, 2], offset and size in bytes of each image in its shard.
            digests: `digest_of` each, one behind the other.
            codes: uint8[n, nbits / 8] per level of the file.

        Returns:
            The row of the first one.
        """
        row = self.rows
        self._keys.extend(keys)
        self._places.append(places.astype("<u8", copy=False).tobytes())
        self._digests.append(digests)
        for level, of_level in codes.items():
            self._codes[level].append(of_level.tobytes())
        self.rows += len(keys)
        return row

    def label(self, row: int, labels: Labels, key: str) -> None:
        """Give a row labels; later ones win. What cannot be kept of them is counted."""
        for reason in self._labels.add(row, key, labels):
            self.bad_labels.add(key, reason)

    def reject(self, key: str, reject: Reject, detail: str) -> None:
        """Record an image that has no code, and why."""
        for name, value in (("key", key), ("reason", reject), ("detail", detail[:1000])):
            self._rejected[name].extend([value])
        self.rejects += 1
        self.reasons[reject] += 1

    def finish(self, path: Path, header: CodeHeader) -> CodeHeader:
        """Write the file durably under `path` and return its header with the counts filled in.

        Raises:
            HashgrainError: `write-failed`.
        """
        header = replace(
            header,
            seen=self.rows + self.rejects,
            rows=self.rows,
            rejects=self.rejects,
            bits=self._bits,
            bad_labels=header.bad_labels + self.bad_labels.count,
        )
        with publish(path) as partial:
            with PatientFile(partial, "w+") as disk:
                with h5py.File(disk, "w", userblock_size=USER_BLOCK) as file:
                    self._write_datasets(file)
                    file.attrs["header"] = json.dumps(asdict(header), sort_keys=True)
                    file.attrs["bit_order"] = "lowest bit first"
                if disk.failure is not None:
                    raise disk.failure
            _seal(partial)
        return header

    def _write_datasets(self, file: h5py.File) -> None:
        for level, nbits in self._bits.items():
            _write(file, f"codes/{level}", self._codes[level], np.uint8, (self.rows, nbits // 8))
        _write_text(file, "keys", self._keys)
        _write(file, "places", self._places, np.uint64, (self.rows, 2))
        _write(file, "digests", self._digests, np.uint8, (self.rows, DIGEST_BYTES))
        for name, column in self._rejected.items():
            _write_text(file, f"rejects/{name}", column)
        write_labels(file, self._labels, self.rows)
        write_bad_labels(file, self.bad_labels)


def _write_text(file: h5py.File, name: str, spool: TextSpool) -> None:
    _write(file, f"{name}/text", spool.text, np.uint8, (spool.text.size,))
    _write(file, f"{name}/offsets", spool.offsets, np.uint64, (spool.offsets.size // 8,))


def _write(file: h5py.File, name: str, spool: Spool, dtype: type, shape: tuple[int, ...]) -> None:
    """Copy a spool into a contiguous dataset, a block of whole rows at a time."""
    dataset = file.create_dataset(name, shape=shape, dtype=dtype)
    row_bytes = dataset.dtype.itemsize * int(np.prod(shape[1:]))
    start, left = 0, b""
    for block in spool.blocks():
        whole = (len(left) + len(block)) // row_bytes
        data, left = (left + block)[: whole * row_bytes], (left + block)[whole * row_bytes :]
        dataset[start : start + whole] = np.frombuffer(data, dtype=dtype).reshape(whole, *shape[1:])
        start += whole


def _seal(path: Path) -> None:
    """Fill in the user block: magic and version, size, digest of everything after it."""
    block = _user_block(path)
    with path.open("r+b") as file:
        file.write(block)


def _user_block(path: Path, version: int = VERSION) -> bytes:
    text = f"{MAGIC} {version}\nbytes {path.stat().st_size}\nsha256 {sha256_of(path, USER_BLOCK)}\n"
    return text.encode().ljust(USER_BLOCK, b"\0")


def _check_seal(path: Path) -> None:
    """Prove that a file is whole and ours before anything parses it."""
    try:
        fault = _fault_of_seal(path)
    except (OSError, ValueError) as err:
        if isinstance(err, OSError) and err.errno in NO_MORE:
            raise HashgrainError(Reason.NO_RESOURCES, no_more(f"code file {path} could not be read", err)) from err
        raise HashgrainError(
            Reason.CODES_MISSING, f"code file {path} could not be read ({why(err)}); give one that can be read"
        ) from err
    if fault is not None:
        raise fault


def _fault_of_seal(path: Path) -> HashgrainError | None:
    with open_regular(path) as file:
        block = file.read(USER_BLOCK)
    magic, _, version = block.partition(b"\n")[0].decode("ascii", errors="replace").partition(" ")
    if magic != MAGIC:
        return HashgrainError(
            Reason.CODES_MISSING,
            f"{path} is not a code file (it does not begin with {MAGIC!r}); give files or folders that encoding has written",
        )
    if version.isdecimal() and int(version) > VERSION:
        return HashgrainError(
            Reason.TOO_NEW,
            f"code file {path} has format version {version}, this program reads {VERSION}; upgrade hashgrain",
        )
    if version.isdecimal() and block == _user_block(path, int(version)):
        return None
    return _damaged(
        path, f"its {path.stat().st_size:,} bytes are not the ones that were written (size or SHA-256 differ)"
    )


def _damaged(path: Path, fault: str) -> HashgrainError:
    return HashgrainError(
        Reason.CODES_DAMAGED, f"code file {path} is damaged: {fault}; delete it and encode its shard again"
    )


class CodeFile:
    """Reads one code file; use `open_codes`."""

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path, self._file, self._size = path, file, path.stat().st_size
        with self._guarded("its header is not what the format says"):
            self.header = read_header(json.loads(self._attribute(file, "header")))
            rows = self.header.rows
            for level, nbits in self.header.bits.items():
                self._dataset(f"codes/{level}", np.uint8, (rows, nbits // 8))
            self._dataset("places", np.uint64, (rows, 2))
            self._labels = LabelReader(rows, self._dataset, self._label_groups)
            if self.header.seen != rows + self.header.rejects:
                raise _damaged(
                    path, f"{self.header.seen} images seen are not {rows} rows + {self.header.rejects} rejects"
                )

    def codes(self, level: Level, start: int = 0, stop: int | None = None) -> Codes:
        """Return uint8[stop - start, nbits / 8], lowest bit first."""
        with self._guarded("its codes cannot be read"):
            codes: Codes = self._file[f"codes/{level}"][start:stop]
            return codes

    def keys(self) -> TextColumn:
        """Return the key of each row."""
        with self._guarded("its keys cannot be read"):
            return self._text("keys", self.header.rows)

    def places(self) -> npt.NDArray[np.uint64]:
        """Return uint64[rows, 2]: offset and size in bytes of each image in its shard."""
        with self._guarded("its places cannot be read"):
            places: npt.NDArray[np.uint64] = self._file["places"][:]
            return places

    def digests(self) -> npt.NDArray[np.uint8] | None:
        """Return uint8[rows, DIGEST_BYTES], `digest_of` each image; None for a file of version 1."""
        with self._guarded("its digests cannot be read"):
            if self._file.get("digests", getlink=True) is None:
                return None
            digests: npt.NDArray[np.uint8] = self._dataset("digests", np.uint8, (self.header.rows, DIGEST_BYTES))[:]
            return digests

    def label_fields(self) -> dict[str, LabelKind]:
        """Return each label field's name and kind, in the order of the names."""
        with self._guarded("labels"):
            return self._labels.kinds

    def label(self, name: str) -> LabelColumn:
        """Return one label field over the rows; absent everywhere if the shard does not have it."""
        with self._guarded("labels"):
            return self._labels.column(name)

    def bad_labels(self) -> list[BadLabel]:
        """Return the first labels that could not be kept as they are; the header counts all."""
        with self._guarded("its bad labels cannot be read"):
            if self._file.get("bad_labels", getlink=True) is None:
                return []
            named = self._found("bad_labels/name/offsets", h5py.Dataset).size - 1
            columns = (self._text(f"bad_labels/{part}", named) for part in ("name", "why"))
            return [BadLabel(name, why) for name, why in zip(*columns, strict=True)]

    def rejects(self) -> list[RejectRow]:
        """Return the images without a code."""
        if not self.header.rejects:
            return []
        with self._guarded("its rejects cannot be read"):
            columns = (self._text(f"rejects/{name}", self.header.rejects) for name in ("key", "reason", "detail"))
            return [RejectRow(key, Reject(reason), detail) for key, reason, detail in zip(*columns, strict=True)]

    @contextmanager
    def _guarded(self, what: str) -> Iterator[None]:
        """Make whatever HDF5 raises one line, as its bindings raise nearly everything: a seal proves a file whole, not honest."""
        try:
            yield
        except (HashgrainError, MemoryError):
            raise
        except Exception as err:
            raise _damaged(self.path, f"{what} ({err})") from err

    def _text(self, name: str, rows: int) -> TextColumn:
        offsets = self._dataset(f"{name}/offsets", np.uint64, (rows + 1,))[:]
        column = TextColumn(self._dataset(f"{name}/text", np.uint8, (int(offsets[-1]),))[:], offsets, str(self.path))
        if fault := column.fault():
            raise _damaged(self.path, f"{name}: {fault}")
        return column

    def _label_groups(self) -> list[LabelGroup]:
        """Return the label fields; format version 1 had whole numbers and text, and did not say which."""
        if self._file.get("labels", getlink=True) is None:
            return []
        numbers = list(islice(self._found("labels", h5py.Group), MAX_FIELDS + 1))
        if len(numbers) > MAX_FIELDS:
            raise _damaged(self.path, f"it has over {MAX_FIELDS:,} label fields")
        fields = []
        for path in (f"labels/{number}" for number in numbers):
            group = self._found(path, h5py.Group)
            assumed = LabelKind.INT if "values" in group else LabelKind.TEXT
            kind = self._attribute(group, "kind") if "kind" in group.attrs else assumed
            fields.append(LabelGroup(path, self._attribute(group, "name"), kind))
        return fields

    def _attribute(self, home: h5py.Group, name: str) -> str:
        """Return an attribute of text."""
        found = home.attrs.get_id(name)
        if found.shape != () or h5py.check_string_dtype(found.dtype) is None or found.get_storage_size() > MAX_HEADER:
            raise _damaged(self.path, f"its attribute {name} is not text")
        text = home.attrs[name]
        if len(text) > MAX_HEADER:
            raise _damaged(self.path, f"its attribute {name} has {len(text):,} characters, the most is {MAX_HEADER:,}")
        return text if isinstance(text, str) else bytes(text).decode()

    def _found(self, name: str, kind: type) -> Any:
        """Return what stands in this file itself under a name: no part of the name is a link to elsewhere."""
        links, path = self._file.id.links, ""
        for part in name.split("/"):
            path = f"{path}/{part}"
            if not links.exists(path.encode()) or links.get_info(path.encode()).type != h5py.h5l.TYPE_HARD:
                raise _damaged(self.path, f"it has no {path[1:]} of its own")
        found = self._file[path]
        if not isinstance(found, kind):
            raise _damaged(self.path, f"{name} is a {type(found).__name__}, expected a {kind.__name__}")
        return found

    def _dataset(self, name: str, dtype: type, shape: tuple[int, ...]) -> h5py.Dataset:
        """Return a dataset that is what the format says: in this file, plain, of this type and shape, all its bytes there."""
        dataset = self._found(name, h5py.Dataset)
        plan = dataset.id.get_create_plist()
        if plan.get_external_count() or plan.get_layout() != h5py.h5d.CONTIGUOUS:
            raise _damaged(self.path, f"{name} is not a contiguous dataset of this file")
        if dataset.dtype != dtype or dataset.shape != shape:
            raise _damaged(
                self.path, f"{name} is {dataset.dtype}{dataset.shape}, its header says {np.dtype(dtype)}{shape}"
            )
        size, at = math.prod(shape) * dataset.dtype.itemsize, dataset.id.get_offset()
        if size and (at is None or at + size > self._size):  # memory is asked for what the file says: it must have it
            raise _damaged(self.path, f"{name} of {size:,} bytes is not in its {self._size:,}")
        return dataset


@contextmanager
def open_codes(path: Path, *, proven: bool = False) -> Iterator[CodeFile]:
    """Open a code file after proving it whole.

    Args:
        path: the file.
        proven: this process has proven it before: do not read it all again.

    Raises:
        HashgrainError: `codes-missing`, or `codes-damaged` with what is wrong and what to do.
    """
    if not proven:
        _check_seal(path)
    try:
        file = h5py.File(path, "r", locking=False)
    except (OSError, ValueError, RuntimeError) as err:
        raise _damaged(path, str(err)) from err
    try:
        yield CodeFile(path, file)
    finally:
        with suppress(OSError, RuntimeError):  # nothing is written, and what was read is proven
            file.close()


def list_code_files(paths: Sequence[Path]) -> list[Path]:
    """Return the code files among files and folders, each folder sorted by name.

    Raises:
        HashgrainError: `codes-missing` when a path does not exist or there is no code file in it.
    """
    listed: dict[Path, None] = {}
    for path in paths:
        files = [path] if exists(path) else []
        if files and path.is_dir():
            files = sorted(path.glob(f"*{SUFFIX}"))
        if not files:
            raise HashgrainError(
                Reason.CODES_MISSING,
                f"no code file (*{SUFFIX}) at {path}; encode some shards",
            )
        listed |= dict.fromkeys(files)
    return list(listed)

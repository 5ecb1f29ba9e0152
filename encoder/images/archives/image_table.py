"""A Parquet file with a column of images: which column that is, what names its rows, and their values, some rows at a time.

What the file is to pyarrow is another process's (`parquet_file.py`). Importing this loads it, which no other shard needs.
"""

import itertools
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from encoder.images.labels.table import plain
from encoder.images.labels.table_files import BYTES, coarse, why_not
from encoder.images.names import key_of
from encoder.images.signature import HEAD_BYTES, image_format
from encoder.runtime.files import AHEAD, is_url, open_file, status_of
from encoder.runtime.parquet_file import BUFFER, ParquetFile, open_parquet

BATCH_BYTES: Final = 16 << 20
"""Bytes of images read at once, by their mean size. A page is read whole: Arrow's writer makes some of 1,024 rows."""
BATCH_ROWS: Final = 256
PROBED_ROWS: Final = 64
"""Rows in which a column shows whether it holds images."""
BROKEN: Final = (pa.ArrowException, OSError, ValueError, OverflowError)
"""What pyarrow raises for a file that is not whole."""
IMAGE_NAMES: Final = (
    "image",
    "img",
    "jpg",
    "jpeg",
    "png",
    "webp",
    "image_bytes",
    "bytes",
    "content",
    "data",
    "picture",
    "photo",
)
"""What a column of images is called, the likeliest first; where several hold images, the first of these is taken."""
KEY_NAMES: Final = ("__key__", "key", "id", "image_id", "filename", "file_name", "path")
"""What a column is called that names rows, the likeliest first; its values must be there and different."""


class TableError(Exception):
    """The file is not a Parquet file that can be read."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row."""

    number: int
    """In the file, from 0."""
    key: str
    """As the column of keys has it, see `names.key_of`; empty if there is none."""
    image: bytes | None
    """Of the file of its image, None where there is none or they were not asked for."""
    fields: dict[str, object] = field(default_factory=dict)
    """Of the other columns, in values as JSON has them."""


@contextmanager
def open_table(path: str) -> Iterator["ImageTable"]:
    """Open a file for as long as it is read.

    Args:
        path: of the file, or its URL.

    Raises:
        HashgrainError: `shard-missing` if it cannot be opened, or at a URL not be read.
        TableError: it is not Parquet, or its footer is broken.
    """
    size = status_of(path).size
    with ExitStack() as stack:
        file = stack.enter_context(open_file(path))
        try:
            parquet = stack.enter_context(open_parquet(file, size, AHEAD if is_url(path) else BUFFER))
            table = ImageTable(parquet)
        except BROKEN as err:
            raise TableError(f"its footer is broken: {err}") from err
        if (rows := max(parquet.rows, sum(rows for rows, _ in parquet.groups))) > size:
            raise TableError(f"it claims {rows:,} rows in {size:,} bytes")
        yield table


class ImageTable:
    """Reads a file's rows, a row group at a time.

    Args:
        parquet: the file.
    """

    def __init__(self, parquet: ParquetFile) -> None:
        self._parquet = parquet
        self._schema = parquet.schema
        self._features = _features(self._schema.metadata)
        self.image = self._image_column()
        """The column of images as a path in the schema; None if there is none."""
        self.columns: list[str] = self._schema.names
        starts = [0, *itertools.accumulate(rows for rows, _ in parquet.groups)]
        self.groups = [range(*ends) for ends in itertools.pairwise(starts)]
        """Row numbers of each row group."""

    def key_column(self) -> str | None:
        """Return the column whose values name rows: all there, and different from one another; None if there is none."""
        in_image = [] if self.image is None else [self.image.removesuffix(".bytes") + ".path"]
        top = [name for name in KEY_NAMES if name in self.columns]
        return next((name for name in [*in_image, *top] if self._leaf(name) and self._names_rows(name)), None)

    def labels(self) -> tuple[list[str], dict[str, str]]:
        """Return the columns whose values can be labels, and why others cannot; bytes are left out without a word."""
        others = [column for column in self._schema if not _is_image_struct(column.type)]
        why = {column.name: why_not(column.type) for column in others}
        fitting = [name for name, fault in why.items() if fault is None]
        return fitting, {name: fault for name, fault in why.items() if fault not in {None, BYTES}}

    def rows(self, group: int, key: str | None, *, images: bool = True) -> Iterator[Row]:
        """Yield the rows of a row group.

        Args:
            group: its number.
            key: the column of keys.
            images: whether their bytes are wanted.

        Raises:
            TableError: the row group is broken; rows before the break have come. Or there is no column of images.
        """
        if self.image is None:
            raise TableError(f"none of its columns holds images ({', '.join(self.columns)[:200]})")
        labels, _ = self.labels()
        columns = [name for name in (self.image if images else None, key, *labels) if name]
        number = self.groups[group].start
        with _told(group):
            for batch in self._batches(group, columns, self._batch_rows(group) if images else 1 << 12):
                if number + len(batch) > self.groups[group].stop:
                    raise ValueError("it has more rows than its footer says")
                data = _values(batch, self.image) if images else [None] * len(batch)
                keys = _values(batch, key) if key else [None] * len(batch)
                fields = {name: _labels(batch.column(name)) for name in labels}
                for at in range(len(batch)):
                    own = {name: values[at] for name, values in fields.items()}
                    yield Row(number, _key(keys[at]), data[at], own | self._class_names(own))
                    number += 1
            if number < self.groups[group].stop:
                raise ValueError(f"it ends at row {number:,}, before the end that its footer says")

    def image_at(self, number: int) -> bytes | None:
        """Return the image of a row, for which its row group is read up to it.

        Raises:
            TableError: there is no such row, or it cannot be read.
        """
        group = next((at for at, rows in enumerate(self.groups) if number in rows), None)
        if group is None or self.image is None:
            raise TableError(f"it has no row {number:,} with an image")
        first = self.groups[group].start
        with _told(group):
            for batch in self._batches(group, [self.image], self._batch_rows(group)):
                if number < first + len(batch):
                    found: bytes | None = _values(batch.slice(number - first, 1), self.image)[0]
                    return found
                first += len(batch)
        raise TableError(f"row {number:,} is missing")

    def _batches(self, group: int, columns: list[str], count: int) -> Iterator[Any]:
        columns = columns or self._schema.names[:1]  # without a column pyarrow counts no rows
        yield from self._parquet.batches(count, columns, [group])

    def _batch_rows(self, group: int) -> int:
        """Return how many rows have about `BATCH_BYTES`."""
        rows, nbytes = self._parquet.groups[group]
        return min(BATCH_ROWS, max(1, BATCH_BYTES * rows // max(1, nbytes)))

    def _image_column(self) -> str | None:
        """Return the column of images by its type, by its name, and by what its first rows hold."""
        candidates = []
        for column in self._schema:
            if _is_image_struct(column.type):
                candidates.append((f"{column.name}.bytes", column.name))
            elif _is_binary(column.type):
                candidates.append((column.name, column.name))

        def rank(candidate: tuple[str, str]) -> tuple[bool, int]:
            name = candidate[1]
            told = self._features.get(name, {}).get("_type") == "Image"
            return not told, IMAGE_NAMES.index(name.lower()) if name.lower() in IMAGE_NAMES else len(IMAGE_NAMES)

        found = [column for column, _ in sorted(candidates, key=rank)]
        holding = next(filter(self._holds_images, found), None)
        return holding or next((column for column in found if column.endswith(".bytes")), None)

    def _holds_images(self, column: str) -> bool:
        """Whether the first rows that can be read and have something in the column have images there."""
        for group in range(len(self._parquet.groups)):
            try:
                first = next(self._batches(group, [column], PROBED_ROWS), None)
                values = [] if first is None else [value for value in _values(first, column) if value]
            except BROKEN:
                if self._parquet.lost:
                    raise
                continue
            if values:
                return any(image_format(value[:HEAD_BYTES]) for value in values)
        return False

    def _leaf(self, column: str) -> Any:
        """Return the type of a column of keys, None where it is not one."""
        top, _, child = column.partition(".")
        if top not in self._schema.names:
            return None
        kind = self._schema.field(top).type
        if child:
            index = kind.get_field_index(child) if pa.types.is_struct(kind) else -1
            kind = kind.field(index).type if index >= 0 else None
        return kind if kind is not None and (_is_text(kind) or pa.types.is_integer(kind)) else None

    def _names_rows(self, column: str) -> bool:
        seen: set[int] = set()
        for group, rows in enumerate(self.groups):
            try:
                for batch in self._batches(group, [column], 1 << 14):
                    keys = [_key(value) for value in _values(batch, column)]
                    seen.update(map(hash, keys))
                    if not all(keys):
                        return False
            except BROKEN:
                return False
            if len(seen) != rows.stop:
                return False
        return bool(seen)

    def _class_names(self, fields: dict[str, object]) -> dict[str, object]:
        """Return the names of classes that Hugging Face's part of the footer has for numbers: label=3 gets label_name=cat."""
        named: dict[str, object] = {}
        for column, value in fields.items():
            feature = self._features.get(column, {})
            inner = feature.get("feature")
            names = (inner if isinstance(inner, dict) else feature).get("names")
            if not isinstance(names, list) or f"{column}_name" in fields:
                continue
            if isinstance(value, int) and 0 <= value < len(names):
                named[f"{column}_name"] = names[value]
            elif isinstance(value, list):
                named[f"{column}_name"] = [names[at] for at in value if isinstance(at, int) and 0 <= at < len(names)]
        return named


@contextmanager
def _told(group: int) -> Iterator[None]:
    try:
        yield
    except BROKEN as err:
        raise TableError(f"row group {group} is broken: {err}") from err


def _features(metadata: dict[bytes, bytes] | None) -> dict[str, dict[str, Any]]:
    """Return what Hugging Face's datasets say of the columns."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    if not isinstance(features, dict):
        return {}
    return {name: feature for name, feature in features.items() if isinstance(feature, dict)}


def _is_binary(kind: Any) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_image_struct(kind: Any) -> bool:
    """Whether a column is Hugging Face's image: {bytes, path}."""
    index = kind.get_field_index("bytes") if pa.types.is_struct(kind) else -1
    return index >= 0 and _is_binary(kind.field(index).type)


def _values(batch: Any, column: str | None) -> list[Any]:
    """Return the values of a column that may lie in a record."""
    if column in batch.schema.names:
        array = batch.column(column)
    else:
        top, _, child = str(column).rpartition(".")
        record = batch.column(top)
        array = record.flatten()[record.type.get_field_index(child)]  # where the record is missing, its fields are
    if _is_text(array.type):
        array = array.cast(pa.large_binary())
    return list(array.to_pylist())


def _labels(array: Any) -> list[Any]:
    """Return values as JSON has them; text that is not UTF-8 with marks in it."""
    array = coarse(array)
    try:
        return [plain(value) for value in array.to_pylist()]
    except UnicodeDecodeError:
        if not _is_text(array.type):
            return [None] * len(array)
        found = array.cast(pa.large_binary()).to_pylist()
        return [None if value is None else value.decode(errors="replace") for value in found]


def _key(value: Any) -> str:
    if value is None:
        return ""
    return key_of(value.decode(errors="surrogateescape") if isinstance(value, bytes) else str(value))

"""Parquet files with a column of images, as Hugging Face's datasets are: a row is an image, and its other columns are labels."""

import glob
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from encoder.errors import HashgrainError, Reason, Reject
from encoder.images.archives.source import CHUNK
from encoder.images.labels.values import flatten
from encoder.images.samples import Sample, ShardReader
from encoder.images.shards import ShardKind
from encoder.runtime.files import AHEAD, FileStatus, open_file, status_of

if TYPE_CHECKING:
    from encoder.images.archives.image_table import ImageTable, Row


class ParquetReader(ShardReader):
    """Reads a Parquet file, some rows at a time. Its bytes are read twice, the second time for their digest."""

    kind = ShardKind.PARQUET
    suffixes = (".parquet",)
    sequential = True

    def __iter__(self) -> Iterator[Sample]:
        """Yield every row; the digest is that of the file.

        Raises:
            HashgrainError: `shard-missing`.
        """
        from encoder.images.archives.image_table import TableError, open_table

        try:
            with open_table(self.shard.path) as table:
                key = table.key_column()
                for column, why in table.labels()[1].items():
                    self.bad_labels.add(column, f"column left out, {why}")
                for group in range(len(table.groups)):
                    yield from self._group(table, group, key)
        except TableError as err:
            self.damage = self.damage or str(err)
        self.size = self.nbytes()
        self.sha256 = "" if self.wanted is not None else self._digest()

    def stamp(self) -> str:
        """Return the stamp of the file."""
        return self._status().stamp

    def nbytes(self) -> int:
        """Return the bytes of the file."""
        return self._status().size

    @staticmethod
    def read_image(path: str, _member: str, offset: int, size: int, /) -> bytes:
        """Read the row whose number is the offset; its row group is read up to it."""
        from encoder.images.archives.image_table import TableError, open_table

        try:
            with open_table(path) as table:
                data = table.image_at(offset) or b""
        except TableError as err:
            raise _lost(path, offset, size, str(err)) from err
        if len(data) != size:
            raise _lost(path, offset, size, f"there are {len(data)}")
        return data

    def _status(self) -> FileStatus:
        return self.shard.status or status_of(self.shard.path)

    def _group(self, table: "ImageTable", group: int, key: str | None) -> Iterator[Sample]:
        from encoder.images.archives.image_table import TableError

        first = self.seen - table.groups[group].start  # not 0 behind a broken row group
        wanted = self.wanted
        images = wanted is None or any(wanted(first + number) for number in table.groups[group])
        try:
            for row in table.rows(group, key, images=images):
                yield self._sample(row)
        except TableError as err:
            self.damage = self.damage or str(err)

    def _sample(self, row: "Row") -> Sample:
        data = row.image or b""
        sample = Sample(self.seen, row.key or f"{self.shard.name}-{row.number}", row.number, len(data))
        self.seen += 1
        sample.labels, faults = flatten(row.fields)
        for why in faults:
            self.bad_labels.add(sample.key, why)
        if self.wanted is not None and not self.wanted(sample.ordinal):
            return sample
        if row.image is None:
            return sample.rejected(Reject.EMPTY, "its row has no image")
        if len(data) > self.limits.max_bytes:
            return sample.rejected(Reject.TOO_LARGE, f"{len(data):,} bytes, limit {self.limits.max_bytes:,}")
        sample.data = data
        return sample

    def _digest(self) -> str:
        digest = self.hasher()
        with open_file(self.shard.path, ahead=AHEAD) as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
        return digest.hexdigest()


def has_images(path: str) -> bool:
    """Whether a Parquet file has a column of images, or is so broken that nobody knows: its damage is told when it is read.

    A broken one beside a tar of its name was that tar's table.

    Args:
        path: of the file, or its URL.

    Raises:
        HashgrainError: `shard-missing` if it cannot be opened, or at a URL not be read.
    """
    from encoder.images.archives.image_table import TableError, open_table

    try:
        with open_table(path) as table:
            return table.image is not None
    except TableError:
        return not any(Path(path).parent.glob(f"{glob.escape(Path(path).stem)}.tar*"))


def _lost(path: str, row: int, size: int, why: str) -> HashgrainError:
    return HashgrainError(
        Reason.SHARD_DAMAGED,
        f"{path} does not hold the {size} bytes expected in row {row} ({why}); restore the file that was encoded, or encode "
        "this one",
    )

"""Zips of photos: keys are whole names, as those of a folder are."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from encoder.images.archives.zip_walk import ZipWalk, open_zip, read_zipped
from encoder.images.readers.members import MembersReader
from encoder.images.shards import ShardKind

if TYPE_CHECKING:
    from hashlib import _Hash


class ZipReader(MembersReader):
    """Reads a zip."""

    kind = ShardKind.ZIP
    suffixes = (".zip",)
    suffix_in_key = True

    def walk(self, hasher: "_Hash | None", /) -> AbstractContextManager[ZipWalk]:
        """See `MembersReader.walk`."""
        return open_zip(self.shard.path, hasher=hasher)

    @staticmethod
    def read_image(path: str, _member: str, offset: int, size: int, /) -> bytes:
        """Read the member whose header is at the offset."""
        return read_zipped(path, offset, size)

"""Zips of photos: keys are whole names, as those of a folder are."""

from contextlib import AbstractContextManager

from encoder.images.archives.hash_thread import Hasher
from encoder.images.archives.zip_walk import ZipWalk, open_zip, read_zipped
from encoder.images.readers.members import MembersReader
from encoder.images.shards import ShardKind


class ZipReader(MembersReader):
    """Reads a zip."""

    kind = ShardKind.ZIP
    suffixes = (".zip",)
    suffix_in_key = True

    def walk(self, hasher: Hasher | None, /) -> AbstractContextManager[ZipWalk]:
        """See `MembersReader.walk`."""
        return open_zip(self.shard.path, hasher=hasher)

    @staticmethod
    def read_image(path: str, _member: str, offset: int, size: int, /) -> bytes:
        """Read the member whose header is at the offset."""
        return read_zipped(path, offset, size)

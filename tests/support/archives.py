"""Archives as others write them, and ways to pack their bytes."""

import bz2
import gzip
import io
import lzma
import sys
import warnings
import zipfile
from collections.abc import Sequence
from typing import Any

from encoder.images.archives.compression import Compression

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PACK = {
    None: bytes,
    Compression.GZIP: lambda data: gzip.compress(data, mtime=0),
    Compression.BZIP2: bz2.compress,
    Compression.XZ: lzma.compress,
    # with a checksum, as the command `zstd` writes it
    Compression.ZSTD: lambda data: zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1}),
}
"""By compression, what packs bytes so; None leaves them as they are."""

Files = Sequence[tuple[str, bytes]]


def zipped(files: Files, method: int = zipfile.ZIP_STORED, comment: bytes = b"") -> bytes:
    """A zip of files (name, data) in order."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of names that stand twice
        archive.comment = comment
        for name, data in files:
            archive.writestr(name, data)
    return buffer.getvalue()


def streamed(files: Files) -> bytes:
    """A zip as a writer that cannot seek makes it: sizes and checksums stand behind the data."""

    class OneWay(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: Any) -> int:
            raise OSError

    buffer = OneWay()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return buffer.getvalue()

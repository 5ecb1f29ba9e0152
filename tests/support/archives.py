"""Ways to pack the bytes of an archive."""

import bz2
import gzip
import lzma
import sys

from encoder.images.compression import Compression

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

"""Pictures that are made to harm whoever decodes them: small files that claim, or unpack to, what no memory holds."""

import struct
import zlib
from collections.abc import Iterator
from functools import cache

from PIL import Image

from tests.support.odd_images import chunk, jpeg_of_size, noise, plain, png, saved, scan_bomb, tiff
from tests.support.phone_images import HEIF_RED, jxl_header

GIB = 1 << 30
HUGE = 60_000
"""A side of which two make a picture of 3.6 billion pixels."""


@cache
def zeros(size: int) -> bytes:
    """Return so many zeros, deflated."""
    packer, block = zlib.compressobj(9), bytes(1 << 20)
    return b"".join([packer.compress(block) for _ in range(size >> 20)]) + packer.flush()


def png_of_zeros(side: int, depth: int, colour: int, *extra: bytes) -> bytes:
    """Return a PNG whose pixels are all there, deflated."""
    channels = {0: 1, 2: 3, 3: 1, 6: 4}[colour]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0))
    rows = side * (1 + side * depth * channels // 8)
    packer, block = zlib.compressobj(9), bytes(1 << 20)
    data = b"".join([packer.compress(block) for _ in range(rows >> 20)])
    data += packer.compress(bytes(rows % (1 << 20))) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def gif(width: int, height: int, frames: int) -> bytes:
    """Return a GIF whose frames are one pixel each, on a canvas of any size."""
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return head + frame * frames + b"\x3b"


def with_size(container: bytes, width: int, height: int) -> bytes:
    """Return a HEIF or AVIF that states another size."""
    data = bytearray(container)
    at = data.index(b"ispe") + 8
    data[at : at + 8] = struct.pack(">II", width, height)
    return bytes(data)


def webp(chunk_name: bytes, content: bytes) -> bytes:
    """Return a WebP of one chunk."""
    body = b"WEBP" + chunk_name + struct.pack("<I", len(content)) + content
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bombs() -> Iterator[tuple[str, bytes]]:
    """Yield each by its name; none is larger than 2 MB."""
    yield "png: 1.6 billion pixels of one bit", png_of_zeros(40_000, 1, 0)
    yield "png: 3.6 billion pixels claimed", png(HUGE, HUGE, 8, 2, bytes(100))
    yield "png: 16 bits, rgba", png(20_000, 20_000, 16, 6, bytes(100))
    small = b"\0" + bytes(3)
    for name in (b"zTXt", b"iTXt", b"iCCP"):
        head = {b"zTXt": b"a\0\0", b"iTXt": b"a\0\1\0\0\0", b"iCCP": b"a\0\0"}[name]
        yield f"png: {name.decode()} of 1 GiB", png(1, 1, 8, 2, small, chunk(name, head + zeros(GIB)))
    yield "png: more rows than it says", png(64, 64, 8, 2, bytes(64 << 20))
    animated = chunk(b"acTL", struct.pack(">II", 1 << 30, 0))
    yield "png: animated, 1.6 billion pixels", png_of_zeros(40_000, 1, 0, animated)
    yield "jpeg: 4.2 billion pixels claimed", jpeg_of_size(65_500, 65_500)
    yield "jpeg: 150 scans", scan_bomb()
    yield "gif: 4.3 billion pixels, animated", gif(65_535, 65_535, 10_000)
    yield "webp: 268 million pixels", webp(b"VP8L", b"\x2f" + struct.pack("<I", 0x3FFF | 0x3FFF << 14) + bytes(64))
    canvas = struct.pack("<I", 0x02) + b"\xff\xff\xff" * 2
    yield "webp: animated, 281 trillion pixels", webp(b"VP8X", canvas)
    yield "tiff: 3.6 billion pixels claimed", tiff((HUGE, HUGE), (8, 8, 8), 2, bytes(300))
    bmp = bytearray(saved(plain(), "BMP"))
    bmp[18:26] = struct.pack("<ii", HUGE, HUGE)
    yield "bmp: 3.6 billion pixels claimed", bytes(bmp)
    yield "heic: 900 million pixels claimed", with_size(HEIF_RED, 30_000, 30_000)
    yield "heic: cut", HEIF_RED[:-10]
    yield "avif: 900 million pixels claimed", with_size(saved(noise(), "AVIF"), 30_000, 30_000)
    yield "jxl: a trillion pixels claimed", jxl_header(1 << 20)
    yield "not a picture", b"\xff\xd8\xff" + bytes(1 << 20)


def largest() -> Iterator[tuple[str, bytes]]:
    """Yield pictures that the service has to decode: just within its limit of pixels."""
    yield "png: 49 million pixels", png_of_zeros(7000, 8, 2)
    yield "jpeg: 49 million pixels", saved(Image.new("RGB", (7000, 7000)), "JPEG")
    yield "gif: 49 million pixels, animated", gif(7000, 7000, 1000)

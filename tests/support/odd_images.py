"""Bad and odd images, each with the reject it must end in, or the colour it must decode to."""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from encoder.errors import Reject

RED, GREY, WHITE = (200, 30, 40), (128, 128, 128), (255, 255, 255)


@dataclass(frozen=True)
class OddImage:
    name: str
    """File name; unique."""
    data: bytes
    expected: Reject | tuple[int, int, int]
    """Why it is refused, or its mean colour within a few steps."""


def saved(image: Image.Image, format_: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def plain(mode: str = "RGB", colour: Any = RED, size: tuple[int, int] = (40, 30)) -> Image.Image:
    return Image.new(mode, size, colour)


def noise(size: tuple[int, int] = (64, 48)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    """A PNG written by hand, for what Pillow does not write."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(
    size, bits: tuple[int, ...], photometric: int, pixels: bytes, tags: dict[int, int] | None = None, order="<"
) -> bytes:
    """An uncompressed TIFF of one strip, for what Pillow does not write."""
    fields = {256: size[0], 257: size[1], 258: 0, 259: 1, 262: photometric, 273: 0, 277: len(bits), 279: len(pixels)}
    fields |= tags or {}
    behind = 8 + 2 + 12 * len(fields) + 4
    depths = struct.pack(f"{order}{len(bits)}H", *bits)
    fields[273] = behind + len(depths)
    entries = {tag: struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in fields.items()}
    inline = depths.ljust(4, b"\0") if len(bits) <= 2 else struct.pack(order + "I", behind)
    entries[258] = struct.pack(order + "HHI", 258, 3, len(bits)) + inline
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(entries))
    return start + b"".join(entries[tag] for tag in sorted(entries)) + bytes(4) + depths + pixels


def with_orientation(turn: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = turn
    return saved(plain(), "JPEG", quality=95, exif=exif)


def scan_bomb() -> bytes:
    """A small progressive JPEG whose last scan is repeated: a moment to write, minutes to decode if it were large."""
    data = saved(plain(), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * 150 + b"\xff\xd9"


def jpeg_of_size(width: int, height: int) -> bytes:
    data = bytearray(saved(plain(), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def frames(format_: str) -> bytes:
    first, second = plain(colour=RED), plain(colour=(0, 0, 255))
    return saved(first, format_, save_all=True, append_images=[second])


def grey16(value: int) -> bytes:
    return saved(Image.fromarray(np.full((30, 40), value, dtype=np.uint16)), "PNG")


def cmyk(quality: int = 95) -> bytes:
    return saved(plain().convert("CMYK"), "JPEG", quality=quality)


def broken_exif() -> bytes:
    data = saved(plain(), "JPEG", quality=95)
    segment = b"Exif\0\0II*\0\xff\xff\xff\x7fgarbage"
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]


def crc_flipped() -> bytes:
    data = bytearray(saved(noise(), "PNG"))
    data[data.index(b"IDAT") + 40] ^= 1
    return bytes(data)


def odd_images() -> Iterator[OddImage]:
    """Every kind once."""
    jpeg, noisy = saved(plain(), "JPEG", quality=95), saved(noise((256, 256)), "JPEG", quality=90)
    files = {format_: saved(noise(), format_) for format_ in ("PNG", "WEBP", "GIF", "TIFF", "BMP")}
    clear = plain("RGBA", (*RED, 0))
    half = plain("RGBA", (0, 0, 0, 128))
    palette = plain().convert("P", palette=Image.Palette.ADAPTIVE)
    see_through = plain("P", 0)
    see_through.putpalette([*RED, 0, 0, 0])

    # accepted
    yield OddImage("plain.jpg", jpeg, RED)
    for turn in range(1, 9):
        yield OddImage(f"orientation-{turn}.jpg", with_orientation(turn), RED)
    yield OddImage("orientation-99.jpg", with_orientation(99), RED)
    yield OddImage("broken-exif.jpg", broken_exif(), RED)
    yield OddImage("cmyk.jpg", cmyk(), RED)
    yield OddImage("grey.jpg", saved(plain("L", 128), "JPEG"), GREY)
    yield OddImage("progressive.jpg", saved(plain(), "JPEG", progressive=True, quality=95), RED)
    yield OddImage("trailing-garbage.jpg", jpeg + b"garbage" * 100, RED)
    yield OddImage(
        "two-pictures.jpg", saved(plain(), "MPO", save_all=True, append_images=[plain(colour=(0, 0, 255))]), RED
    )
    yield OddImage("really-png.jpg", saved(plain(), "PNG"), RED)
    yield OddImage("palette.png", saved(palette, "PNG"), RED)
    yield OddImage("palette-transparent.png", saved(see_through, "PNG", transparency=0), WHITE)
    yield OddImage("alpha-clear.png", saved(clear, "PNG"), WHITE)
    yield OddImage("alpha-half.png", saved(half, "PNG"), (127, 127, 127))
    yield OddImage("alpha.webp", saved(clear, "WEBP", lossless=True, exact=True), WHITE)
    yield OddImage("grey-alpha.png", saved(plain("LA", (0, 0)), "PNG"), WHITE)
    yield OddImage(
        "rgb-transparent-colour.png",
        png(2, 1, 8, 2, b"\0" + bytes(RED) * 2, chunk(b"tRNS", struct.pack(">HHH", *RED))),
        WHITE,
    )
    yield OddImage("one-bit.png", saved(plain("1", 1), "PNG"), WHITE)
    yield OddImage("grey-16-bit.png", grey16(0x8042), GREY)
    yield OddImage("grey-16-bit-bright.png", grey16(0xFFFF), WHITE)
    yield OddImage("grey-16-bit.tif", saved(Image.fromarray(np.full((30, 40), 0x8042, dtype=np.uint16)), "TIFF"), GREY)
    yield OddImage(
        "rgb-16-bit.png", png(2, 1, 16, 2, b"\0" + struct.pack(">6H", *(value * 257 for value in RED * 2))), RED
    )
    yield OddImage("animated.gif", frames("GIF"), RED)
    yield OddImage(
        "animated.webp",
        saved(plain(), "WEBP", save_all=True, append_images=[plain(colour=(0, 0, 255))], lossless=True),
        RED,
    )
    yield OddImage("animated.png", frames("PNG"), RED)
    yield OddImage("pages.tif", frames("TIFF"), RED)
    yield OddImage("cmyk.tif", saved(plain().convert("CMYK"), "TIFF"), RED)
    yield OddImage("lzw.tif", saved(plain(), "TIFF", compression="tiff_lzw"), RED)
    yield OddImage("plain.bmp", saved(plain(), "BMP"), RED)
    yield OddImage("one-bit.bmp", saved(plain("1", 1), "BMP"), WHITE)
    yield OddImage("one-pixel.png", saved(plain(size=(1, 1)), "PNG"), RED)
    yield OddImage("one-row.png", saved(plain(size=(10_000, 1)), "PNG"), RED)
    yield OddImage("one-column.png", saved(plain(size=(1, 10_000)), "PNG"), RED)

    # refused
    yield OddImage("empty.jpg", b"", Reject.EMPTY)
    yield OddImage("one-byte.jpg", b"\xff", Reject.UNKNOWN_FORMAT)
    yield OddImage("text.jpg", b"this is no picture", Reject.UNKNOWN_FORMAT)
    yield OddImage("page.png", b"<!doctype html><html></html>", Reject.UNKNOWN_FORMAT)
    yield OddImage("vector.png", b'<svg xmlns="http://www.w3.org/2000/svg"/>', Reject.UNKNOWN_FORMAT)
    yield OddImage("postscript.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", Reject.UNKNOWN_FORMAT)
    yield OddImage("portable.jpg", saved(plain(), "PPM"), Reject.UNKNOWN_FORMAT)
    yield OddImage("icon.png", saved(plain(size=(16, 16)), "ICO"), Reject.UNKNOWN_FORMAT)
    yield OddImage("photoshop.jpg", b"8BPS\0\1" + bytes(60), Reject.UNKNOWN_FORMAT)
    yield OddImage("zeros.jpg", bytes(1000), Reject.UNKNOWN_FORMAT)
    yield OddImage("cut-in-header.jpg", jpeg[:20], Reject.TRUNCATED)
    yield OddImage("cut-before-scan.jpg", noisy[: noisy.index(b"\xff\xda")], Reject.TRUNCATED)
    yield OddImage("cut-in-scan.jpg", noisy[: len(noisy) // 2], Reject.TRUNCATED)
    yield OddImage("cut.png", files["PNG"][: len(files["PNG"]) // 2], Reject.TRUNCATED)
    yield OddImage("cut-in-header.png", files["PNG"][:20], Reject.TRUNCATED)
    yield OddImage("cut.webp", files["WEBP"][: len(files["WEBP"]) // 2], Reject.TRUNCATED)
    yield OddImage("cut.gif", files["GIF"][: len(files["GIF"]) // 2], Reject.TRUNCATED)
    yield OddImage("cut.tif", files["TIFF"][:3000], Reject.TRUNCATED)
    yield OddImage("cut.bmp", files["BMP"][: len(files["BMP"]) // 2], Reject.TRUNCATED)
    yield OddImage("wrong-crc.png", crc_flipped(), Reject.CORRUPT)
    yield OddImage("no-width.png", png(0, 1, 8, 2, b"\0"), Reject.CORRUPT)
    yield OddImage("float.tif", saved(Image.fromarray(np.ones((30, 40), dtype=np.float32)), "TIFF"), Reject.UNSUPPORTED)
    yield OddImage("lab.tif", saved(plain("LAB", (120, 128, 128)), "TIFF"), Reject.UNSUPPORTED)
    yield OddImage("bomb.png", png(30_000, 30_000, 8, 2, b"\0" * 1000), Reject.TOO_MANY_PIXELS)
    yield OddImage("bomb-just-over.png", png(9_460, 9_460, 8, 2, b"\0" * 1000), Reject.TOO_MANY_PIXELS)
    yield OddImage(
        "bomb.gif",
        b"GIF89a"
        + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0)
        + b","
        + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0)
        + b"\x02\0;",
        Reject.TOO_MANY_PIXELS,
    )
    yield OddImage("bomb.jpg", jpeg_of_size(65_500, 65_500), Reject.TOO_MANY_PIXELS)
    yield OddImage(
        "bomb.bmp",
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 40_000, 40_000, 1, 24, 0, 0, 0, 0, 0, 0),
        Reject.TOO_MANY_PIXELS,
    )
    yield OddImage("many-scans.jpg", scan_bomb(), Reject.TOO_MANY_SCANS)
    yield OddImage("too-large.jpg", jpeg + bytes(70_000), Reject.TOO_LARGE)

"""What the header of a JPEG says, and by that which way its pixels go; from the file's own bytes, without a decoder.

Only what is certain goes to nvJPEG: a baseline JPEG of one scan that Pillow opens, too, and renders without a colour profile.
Sources: ITU-T T.81, annex B; `JpegImagePlugin.py`, `Image.getexif` and `TiffImagePlugin.py` of Pillow; default_decompress_parms of
libjpeg (jdapimin.c).
"""

import re
from collections.abc import Callable
from enum import StrEnum
from struct import Struct, error
from typing import Final, NamedTuple

import numpy as np

from encoder.images.decoding.colour import is_kept
from encoder.images.limits import Limits


class Way(StrEnum):
    """How an image file went to its pixels. All ways but the first are the one decode, on the CPU; the name is the reason."""

    NVJPEG = "nvjpeg"
    NOT_JPEG = "not-jpeg"
    PROGRESSIVE = "progressive"
    COLOUR = "colour"
    """Another colour space than sRGB, four components, or colours that are not YCbCr."""
    ODD = "odd"
    """A JPEG that nothing certain can be said of: cut, damaged, beyond the limits, or rare."""
    REFUSED = "refused"
    """nvJPEG failed on it."""
    NO_DECODER = "no-decoder"
    """Without a hardware decoder, or after it failed on whatever it was given."""


class JpegHeader(NamedTuple):
    """What is known of a JPEG that may go to nvJPEG: baseline, one scan, eight bits, grey or YCbCr, in sRGB."""

    width: int
    height: int
    """Both as stored, before the orientation is applied."""
    orientation: int
    """1 to 8. Source: EXIF 2.32, tag 0x0112."""
    end: int
    """Bytes of the picture, up to and with its end-of-image marker; nothing behind it counts."""


def read_header(data: bytes | memoryview, limits: Limits) -> JpegHeader | Way:
    """Return what the header says of a JPEG that may go to nvJPEG, or why another file may not.

    Whatever is wrong with a file, the one decode says it.

    Args:
        data: an image file of any format.
        limits: what an image may be.
    """
    if data[:3] != b"\xff\xd8\xff":
        return Way.NOT_JPEG
    if len(data) > limits.max_bytes:
        return Way.ODD
    segments = _Segments()
    try:
        end = _scan_end(data, segments.read(data))
        width, height, profile = segments.width, segments.height, segments.joined_profile()
        if not 0 < width * height <= limits.max_pixels:
            return Way.ODD
        if not is_kept(profile, segments.mode):
            return Way.COLOUR
        return JpegHeader(width, height, segments.orientation(), end)
    except _OtherWay as err:
        return err.way
    except (error, IndexError):  # a segment or the file ends too early
        return Way.ODD


class _OtherWay(Exception):
    """A file is not for nvJPEG."""

    def __init__(self, way: Way) -> None:
        self.way = way


def _expect(fine: bool) -> None:
    if not fine:
        raise _OtherWay(Way.ODD)


class _Segments:
    """What the segments before the scan say; each is read by the method of its marker in `_READS`."""

    def __init__(self) -> None:
        self.width = self.height = 0
        self.components = self.exif = self.xmp = b""
        self.transform = 1
        self.profile: list[bytes] = []

    def read(self, data: bytes | memoryview) -> int:
        """Read all up to the scan, and return where that begins."""
        at, marker, size = 2, 0, len(data)
        while marker != _SOS:
            marker, length = _HEAD.unpack_from(data, at)
            start, at = at + 4, at + 2 + length
            if not start <= at <= size:
                raise _OtherWay(Way.ODD)
            if marker not in _UNREAD:
                _READS.get(marker, _Segments._odd)(self, bytes(data[start:at]))
        return at

    @property
    def mode(self) -> str:
        """Pillow's name of the colours."""
        return "L" if len(self.components) == 3 else "RGB"

    def joined_profile(self) -> bytes | None:
        """Return the ICC profile as Pillow joins it: one that lacks parts is none."""
        parts = sorted(self.profile)
        return b"".join(part[14:] for part in parts) if parts and parts[0][13] == len(parts) else None

    def orientation(self) -> int:
        """Return 1 to 8 as Pillow has it: EXIF's, or XMP's where EXIF has none; what neither of them knows is upright."""
        found = _exif_orientation(self.exif[6:]) if self.exif else None
        if found is None and self.xmp and (written := _XMP_ORIENTATION.search(self.xmp)):
            found = int(written[1])
        return found if found and found <= 8 else 1

    def _frame(self, content: bytes) -> None:
        precision, self.height, self.width, count = _FRAME.unpack_from(content)
        _expect(precision == 8 and not self.components and len(content) == 6 + 3 * count)
        if count == 4:
            raise _OtherWay(Way.COLOUR)
        self.components = content[6:]
        _expect(self.components[1::3] in _SAMPLINGS and len(set(self.components[::3])) == count)

    def _scan(self, content: bytes) -> None:
        names = self.components[::3]
        if len(names) == 3 and (self.transform == 0 or names == b"RGB"):
            raise _OtherWay(Way.COLOUR)
        _expect(self.transform <= 1 and names != b"")
        _expect(content[0] == len(names) and content[1:-3:2] == names and content[-3:] == b"\0\x3f\0")

    def _tables(self, content: bytes) -> None:
        """Of quantization: of 8 bits, 4 at most, all of which Pillow looks at."""
        _expect(len(content) % 65 == 0 and max(content[::65], default=0) < 4)

    def _interval(self, content: bytes) -> None:
        _expect(len(content) == 2)

    def _jfif(self, content: bytes) -> None:
        _expect(not content.startswith(b"JFIF") or (len(content) >= 14 and content[4] == 0))

    def _app1(self, content: bytes) -> None:
        if content.startswith(b"Exif\0\0"):
            _expect(not self.exif)
            self.exif = content
        elif content.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            self.xmp = content

    def _app2(self, content: bytes) -> None:
        if content.startswith(b"ICC_PROFILE\0"):
            _expect(not self.components)  # behind the frame, where Pillow does not see it
            self.profile.append(content)

    def _photoshop(self, content: bytes) -> None:
        """Walk its resources as Pillow does, to fail where it fails."""
        at = 14 if content.startswith(b"Photoshop 3.0\0") else len(content)
        while content[at : at + 4] == b"8BIM":
            at += 7 + content[at + 6]
            at += at & 1
            at += 4 + int.from_bytes(content[at : at + 4])
            at += at & 1

    def _adobe(self, content: bytes) -> None:
        if content.startswith(b"Adobe"):
            self.transform = content[11]

    def _progressive(self, _content: bytes) -> None:
        raise _OtherWay(Way.PROGRESSIVE)

    def _odd(self, _content: bytes) -> None:
        raise _OtherWay(Way.ODD)


def _exif_orientation(tiff: bytes) -> int | None:
    """Return the orientation in the first directory of an EXIF block, or None; what Pillow might read otherwise is odd.

    An entry whose value lies outside ends the directory for Pillow. A resolution that is not a rational number can fail its
    opening of the file.
    """
    order = _ORDERS.get(tiff[:4], "")
    _expect(order != "")
    (at,) = Struct(order + "I").unpack_from(tiff, 4)
    (count,) = Struct(order + "H").unpack_from(tiff, at)
    entries = tiff[at + 2 : at + 2 + 12 * count]
    _expect(len(entries) == 12 * count)
    found = None
    for tag, kind, values, value in Struct(order + "HHII").iter_unpack(entries):
        size = values * _TIFF_SIZES.get(kind, 0)
        _expect(size <= 4 or value + size <= len(tiff))
        if tag == _ORIENTATION:
            _expect(found is None and kind == 3 and values == 1)
            found = value & 0xFFFF if order == "<" else value >> 16
        elif tag == _X_RESOLUTION:
            _expect(kind == 5 and values == 1)
    return found


def _scan_end(data: bytes | memoryview, at: int) -> int:
    """Return where the picture ends, if nothing but its one scan lies before: neither a second one nor what damage looks like."""
    for start in range(at, len(data) - 1, _SCAN_BLOCK):
        block = np.frombuffer(data, np.uint8, min(_SCAN_BLOCK + 1, len(data) - start), start)
        found = (block[:-1] == 0xFF).view(np.uint8)
        np.minimum(found, block[1:], out=found)  # a zero behind it makes it a sample
        first = int(found.view(np.bool_).argmax())
        if found[first] and data[start + first + 1] == 0xD9:  # as in most photos, for which nothing is copied
            return start + first + 2
        markers: bytes = found.tobytes()
        place = markers.find(1, first)
        while place >= 0:
            marker = data[start + place + 1]
            if marker == 0xD9:
                return start + place + 2
            _expect(0xD0 <= marker <= 0xD7 or marker == 0xFF)  # restarts, fill
            place = markers.find(1, place + 1)
    raise _OtherWay(Way.ODD)


_SCAN_BLOCK: Final = 1 << 18
"""Bytes that are searched at a time: most photos at once, and few enough for a core's own cache."""
_HEAD: Final = Struct(">HH")
_FRAME: Final = Struct(">BHHB")
_SOS: Final = 0xFFDA
_UNREAD: Final = frozenset({0xFFC4, 0xFFFE, *range(0xFFE3, 0xFFED), 0xFFEF})
"""Huffman tables, comments, and segments of applications that neither Pillow nor libjpeg looks into."""
_READS: Final[dict[int, Callable[[_Segments, bytes], None]]] = {
    0xFFC0: _Segments._frame,
    0xFFC2: _Segments._progressive,
    _SOS: _Segments._scan,
    0xFFDB: _Segments._tables,
    0xFFDD: _Segments._interval,
    0xFFE0: _Segments._jfif,
    0xFFE1: _Segments._app1,
    0xFFE2: _Segments._app2,
    0xFFED: _Segments._photoshop,
    0xFFEE: _Segments._adobe,
}
_SAMPLINGS: Final = frozenset({b"\x11", b"\x11\x11\x11", b"\x21\x11\x11", b"\x22\x11\x11"})
"""Grey, 4:4:4, 4:2:2 and 4:2:0: what the hardware decoder takes."""
_ORDERS: Final = {b"II*\0": "<", b"MM\0*": ">"}
_TIFF_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
_ORIENTATION: Final = 0x0112
_X_RESOLUTION: Final = 0x011A
_XMP_ORIENTATION: Final = re.compile(rb"tiff:Orientation(?:=\"|>)([0-9])")

"""ICC profiles of colour spaces that are known by name or by number: three primaries, a white and one curve."""

import struct
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Chromaticity: TypeAlias = tuple[float, float]
"""x and y of CIE 1931."""

D50: Final = (0.9642, 1.0, 0.8249)
"""XYZ of the white that profiles relate to. Source: ICC.1:2022, 7.2.16."""
D65: Final[Chromaticity] = (0.3127, 0.3290)


@dataclass(frozen=True)
class ColourSpace:
    """RGB by its primaries."""

    red: Chromaticity
    green: Chromaticity
    blue: Chromaticity
    white: Chromaticity = D65
    gamma: float | None = None
    """Of the curve from a sample to light; None: the curve of sRGB."""


SRGB: Final = ColourSpace((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
DISPLAY_P3: Final = ColourSpace((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE_RGB: Final = ColourSpace((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), gamma=563 / 256)
PROPHOTO: Final = ColourSpace((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001), (0.3457, 0.3585), 1.8)
"""Sources: IEC 61966-2-1, SMPTE EG 432-1, Adobe RGB (1998) 4.3, ROMM RGB (ISO 22028-2, without its linear foot)."""
_PRIMARIES: Final = {
    1: SRGB,
    9: ColourSpace((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    11: ColourSpace(DISPLAY_P3.red, DISPLAY_P3.green, DISPLAY_P3.blue, (0.314, 0.351)),
    12: DISPLAY_P3,
}
_GAMMAS: Final = {1: None, 2: None, 4: 2.2, 5: 2.8, 6: None, 8: 1.0, 13: None, 14: None, 15: None}
"""The camera curves of television (1, 6, 14, 15) count as that of sRGB, as browsers take them. Source: ITU-T H.273, table 3."""


def numbered_profile(primaries: int, transfer: int) -> bytes | None:
    """Return the ICC profile of coding-independent code points, or None of sRGB, of high dynamic range and of others.

    PQ and HLG (16, 18) have no one rendering on 8 bits; such pictures are left as they are.

    Source: ITU-T H.273, tables 2 and 3.
    """
    space = _PRIMARIES.get(primaries)
    if space is None or transfer not in _GAMMAS or (space is SRGB and _GAMMAS[transfer] is None):
        return None
    return rgb_profile(ColourSpace(space.red, space.green, space.blue, space.white, _GAMMAS[transfer]))


def rgb_profile(space: ColourSpace) -> bytes:
    """Return the ICC profile (version 4, display, matrix and curve) of a colour space.

    Source: ICC.1:2022, 7 to 10; the matrix by Bradford's adaptation, annex E.
    """
    adapted = _adaptation(space.white)
    columns = (adapted @ _to_xyz(space)).T
    tags = {
        b"wtpt": _xyz(D50),
        b"chad": b"sf32\0\0\0\0" + _fixed(adapted.ravel()),
        **{name: _xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve(space.gamma)),
    }
    return profile(b"RGB ", b"XYZ ", tags)


def profile(space: bytes, connection: bytes, tags: dict[bytes, bytes], device: bytes = b"mntr") -> bytes:
    """Return an ICC profile of tags as they are.

    Args:
        space: of the samples, four letters.
        connection: `XYZ ` or `Lab `.
        tags: by name; each is padded to 4 bytes.
        device: its class.
    """
    start, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, tag in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(tag))
        body += tag + bytes(-len(tag) % 4)
    head = struct.pack(">4xI4s4s4s6H4s28x", 0x04400000, device, space, connection, 2026, 1, 1, 0, 0, 0, b"acsp")
    head += _fixed(D50) + bytes(48)
    return struct.pack(">I", start + len(body)) + head + struct.pack(">I", len(tags)) + table + body


def _to_xyz(space: ColourSpace) -> npt.NDArray[np.float64]:
    """Return float64[3, 3]: XYZ, its own white at Y = 1, of linear red, green and blue."""
    primaries = np.stack([_of_xy(each) for each in (space.red, space.green, space.blue)], axis=1)
    return np.asarray(primaries * np.linalg.solve(primaries, _of_xy(space.white)))


def _of_xy(colour: Chromaticity) -> npt.NDArray[np.float64]:
    x, y = colour
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _adaptation(white: Chromaticity) -> npt.NDArray[np.float64]:
    """Return float64[3, 3], from XYZ under a white to XYZ under D50."""
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    scale = (bradford @ D50) / (bradford @ _of_xy(white))
    return np.asarray(np.linalg.solve(bradford, scale[:, None] * bradford))


def _curve(gamma: float | None) -> bytes:
    """Return a parametric curve: a power, or that of sRGB, ((x + 0.055) / 1.055) ** 2.4 above a line."""
    if gamma is not None:
        return b"para\0\0\0\0" + struct.pack(">HH", 0, 0) + _fixed([gamma])
    return b"para\0\0\0\0" + struct.pack(">HH", 3, 0) + _fixed([2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045])


def _xyz(colour: npt.ArrayLike) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(colour)


def _fixed(numbers: npt.ArrayLike) -> bytes:
    """Return signed numbers with 16 bits behind the point."""
    return np.round(np.asarray(numbers) * 65536).astype(">i4").tobytes()

"""ICC profiles that nobody's system need have: of ink and of grey, and broken ones."""

import struct
from itertools import product

from encoder.images.decoding.profiles import profile


def grey_profile(gamma: float) -> bytes:
    """Grey whose light is a power of the sample."""
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
    return profile(
        b"GRAY", b"XYZ ", {b"wtpt": b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061), b"kTRC": curve}
    )


def ink_profile() -> bytes:
    """CMYK through a table of its 16 corners, in Lab: black ink is grey, yellow is orange."""
    identity = bytes(range(256))
    corners = bytearray()
    for cyan, magenta, yellow, black in product((0, 1), repeat=4):
        lightness = 255 * (1 - 0.3 * cyan) * (1 - 0.4 * magenta) * (1 - 0.1 * yellow) * (1 - 0.9 * black)
        corners += bytes(
            [round(lightness), 128 - 40 * cyan + 60 * magenta + 30 * yellow, 128 - 40 * cyan + 70 * yellow]
        )
    matrix = struct.pack(">9i", *(65536 if at % 4 == 0 else 0 for at in range(9)))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + matrix + identity * 4 + bytes(corners) + identity * 3
    tags = {b"wtpt": b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061), b"A2B0": table, b"A2B1": table}
    return profile(b"CMYK", b"Lab ", tags, device=b"prtr")

"""What kind of image a file is, told from its first bytes, whatever it is called. Loads nothing."""

import re
from typing import Final

HEAD_BYTES: Final = 256
"""So many first bytes of a file tell all kinds; the first 32 tell those that are decoded."""
DECODED: Final = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "HEIF", "AVIF", "JXL")
"""Kinds that the one decode reads, by Pillow's names. Allowed by content: Pillow also opens EPS, which runs Ghostscript."""


def image_format(head: bytes) -> str | None:
    """Return the kind of image that a file is, or None of what nobody calls an image: text, sound, video, documents.

    A kind of `DECODED` can be decoded; any other is known by name alone, so that its files are seen and rejected with it.
    A camera's raw file that is a TIFF in form (NEF, ARW, DNG) is a TIFF here. Kinds without a signature (TGA, PCX) are
    not told.

    Args:
        head: the first `HEAD_BYTES` bytes, all there are if there are fewer; more are not looked at.
    """
    if head[4:8] == b"ftyp":
        return _of_brands(head)
    found = _ANY.match(head, 0, HEAD_BYTES)
    return _NAMES[found.lastindex - 1] if found and found.lastindex else None


def _of_brands(head: bytes) -> str | None:
    """Return the kind of a file of the ISO base media format, as pictures and videos are, by the brands it states.

    Source: ISO/IEC 23008-12, annex B (HEIF), the AVIF specification, section 6, and the registry at mp4ra.org.
    """
    end = min(int.from_bytes(head[:4]), HEAD_BYTES)
    brands = [head[at : at + 4] for at in (8, *range(16, end - 3, 4))]
    if brands[0] not in _ANY_CODEC:
        return _BRANDS.get(brands[0])
    return next((_BRANDS[brand] for brand in brands if brand in _BRANDS), "HEIF")


_ANY_CODEC: Final = frozenset({b"mif1", b"mif2", b"mif3", b"msf1", b"miaf"})
"""Brands of pictures and sequences that do not say by which codec; a brand behind them may."""
_BRANDS: Final = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "HEIF"),
    b"crx ": "CR3",
    b"jxl ": "JXL",
    b"jp2 ": "JPEG 2000",
}
_XML: Final = rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml.*)?(?:<!--.*)?"
_SIGNATURES: Final = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "WEBP": rb"RIFF....WEBP",
    # with the size of a known header: words begin with BM, too
    "BMP": rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0",
    "CR2": rb"II\*\0.{4}CR[\x01-\x0f]\0",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "GIF": rb"GIF8[79]a",
    "JXL": rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n",
    "JPEG 2000": rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51\0",
    "JPEG XR": rb"II\xbc[\0\1]",
    "PSD": rb"8BPS\0[\1\2]",
    "XCF": rb"gimp xcf ",
    "SVG": _XML + rb"(?:<!DOCTYPE svg|<svg[\s>])",
    "EPS": rb"%!PS-Adobe-[\d.]+ EPSF|\xc5\xd0\xd3\xc6",
    # one entry at least, whose reserved byte is zero and whose planes and bits are those there are
    "ICO": rb"\0\0\x01\0[\x01-\xff]\0...\0[\0\1]\0[\x00\x01\x04\x08\x10\x18\x20]\0",
    "PNM": rb"P[1-6]\s+(?:\d|#)|P7\nWIDTH|P[Ff]\n\d",
    "OpenEXR": rb"\x76\x2f\x31\x01",
    "Radiance HDR": rb"#\?(?:RADIANCE|RGBE)\n",
    "DDS": rb"DDS \x7c\0\0\0",
    "QOI": rb"qoif",
    "DICOM": rb".{128}DICM",
    "FITS": rb"SIMPLE  =\s+T",
    "MNG": rb"\x8aMNG\r\n\x1a\n",
    "JNG": rb"\x8bJNG\r\n\x1a\n",
    "ORF": rb"IIR[OS]|MMOR",
    "RW2": rb"IIU\0",
    "RAF": rb"FUJIFILMCCD-RAW",
    "X3F": rb"FOVb",
    "MRW": rb"\0MRM",
}
"""Sources: the formats' own specifications, and libraw for the raw kinds. No signature has a group that counts."""
_NAMES: Final = tuple(_SIGNATURES)
_ANY: Final = re.compile(b"|".join(b"(%b)" % signature for signature in _SIGNATURES.values()), re.DOTALL)

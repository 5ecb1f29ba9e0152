"""What a name says of a file: an image, labels, or something to leave out. Where it says nothing, the first bytes decide."""

import os
import re
from collections.abc import Mapping
from enum import Enum, auto
from pathlib import PurePosixPath

IMAGE_SUFFIXES = frozenset(
    """.jpg .jpeg .jpe .jfif .jif .jpg_large .jpg_orig .png .apng .webp .bmp .dib .tif .tiff .gif .heic .heif .hif .avif .jxl
    .jp2 .j2k .jpx .jpf .psd .svg .ico .tga .pcx .ppm .pgm .pbm .pnm .exr .hdr .eps
    .dng .cr2 .cr3 .nef .arw .raf .orf .rw2 .pef .srw""".split()  # noqa: SIM905  a line per name says no more
)
"""Endings of what a person calls an image. Those that no decoder here reads become rejects: nothing is left out in silence."""
LABEL_SUFFIXES = frozenset({".json", ".cls", ".txt"})
_OTHER_SUFFIXES = frozenset(
    """.csv .tsv .jsonl .xml .html .htm .md .rst .log .yaml .yml .toml .ini .cfg .pdf .doc .docx .xls .xlsx .ppt .pptx .odt .rtf
    .mp4 .mov .avi .mkv .webm .m4v .mpg .mpeg .wmv .3gp .mp3 .wav .flac .m4a .ogg .aac
    .py .ipynb .js .css .c .h .cpp .sh .bat .exe .dll .so .jar .class
    .npy .npz .h5 .hdf5 .pt .pth .ckpt .safetensors .onnx .pickle .pkl .pck .mat .tfrecord .tfrecords .lmdb .mdb .rec .idx .lst
    .tar .gz .tgz .bz2 .tbz2 .xz .txz .zst .tzst .zip .rar .7z .parquet .arrow .feather .db .sqlite .sqlite3
    .aae .xmp .lnk .url .part .tmp .bak .lock .sha256 .md5 .torrent""".split()  # noqa: SIM905
)
"""Endings of what is not an image, so that a million such files are not opened to see it."""
_SYSTEM_NAMES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
_HIDDEN = re.compile(r"(?:^|/)(?:__MACOSX(?:/|\Z)|\.(?!\.?(?:/|\Z)))")
_LEADING = re.compile(r"^(?:/|\./|\.\./)+")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")


class NameKind(Enum):
    """What a name says."""

    IMAGE = auto()
    LABELS = auto()
    """Of the image with the same name, or nobody's."""
    SYSTEM = auto()
    """What an operating system leaves beside files: AppleDouble (`._a.jpg`), `__MACOSX`, `.DS_Store`, `Thumbs.db`, dot files."""
    OTHER = auto()
    UNKNOWN = auto()
    """No ending, or one that anything may have: its first bytes tell."""


_KINDS = dict.fromkeys(IMAGE_SUFFIXES, NameKind.IMAGE) | dict.fromkeys(LABEL_SUFFIXES, NameKind.LABELS)


def kind_of_name(name: str) -> NameKind:
    """Return what a file is by its name.

    Args:
        name: relative to its shard or folder, POSIX style.
    """
    dot = name.rfind(".")  # a million times: what nearly all names are is told first, and `pathlib` takes too long
    if dot > 0 and (kind := _KINDS.get(name[dot:].lower())) and not _is_hidden(name):
        return kind
    base = name.rstrip("/").rpartition("/")[2].lower()
    if _is_hidden(name) or base in _SYSTEM_NAMES:
        return NameKind.SYSTEM
    dot = base.rfind(".")
    suffix = base[dot:] if 0 < dot < len(base) - 1 else ""
    return _KINDS.get(suffix) or (NameKind.OTHER if suffix in _OTHER_SUFFIXES else NameKind.UNKNOWN)


def _is_hidden(name: str) -> bool:
    may_be = name.startswith((".", "_")) or "/." in name or "/_" in name
    return may_be and _HIDDEN.search(name) is not None


def skipped_as(name: str) -> str:
    """Return what a file that is left out is counted as: its ending in lower case, or what it is for a system."""
    if kind_of_name(name) is NameKind.SYSTEM:
        return "system file"
    return escaped(PurePosixPath(name).suffix.lower()[:16]) or "no ending"


def counted(skipped: Mapping[str, int]) -> str:
    """Return files that were left out in words: `skipped 3 files: 2 .txt, 1 .zst`."""
    total = sum(skipped.values())
    kinds = sorted(skipped.items(), key=lambda item: (-item[1], item[0]))
    parts = ", ".join(f"{count:,} {kind}" for kind, count in kinds)
    return f"skipped {total:,} {'file' if total == 1 else 'files'}: {parts}"


def key_of(name: str) -> str:
    r"""Return the name of an image as a key, which never leads out of its shard and can always be printed and stored.

    A leading `/`, `./` or `../` is cut off. A control character becomes `\x0a`, and so does a byte that is not UTF-8, which
    Python's file names hold as a surrogate escape.
    """
    if name.isprintable() and not name.startswith(("/", ".")):  # as nearly all are: there is nothing to mend
        return name
    return escaped(_LEADING.sub("", name))


def folders_of(name: str) -> dict[str, str]:
    """Return the folders that an image lies in, as labels.

    `animals/cats/1.jpg` has folder=cats, folder_1=animals and folder_2=cats: the nearest by a name that needs no counting, and each
    level of the tree where there are several. Of a name that leads out of its shard only the nearest counts.
    """
    folders = [part for part in key_of(name).split("/") if part not in {"", "."}][:-1]  # as `pathlib` has it
    if not folders:
        return {}
    nearest = {"folder": folders[-1]}
    if len(folders) == 1 or _LEADING.match(name):
        return nearest
    return nearest | {f"folder_{depth}": folder for depth, folder in enumerate(folders, 1)}


def escaped(name: str) -> str:
    r"""Return a file name as text that can be printed and stored; see `key_of`."""
    return _UNPRINTABLE.sub(lambda found: f"\\x{ord(found[0]) & 0xFF:02x}", name)


def from_escaped(key: str) -> str:
    """Return the file name that `escaped` made a key of."""
    return _ESCAPE.sub(lambda found: os.fsdecode(bytes([int(found[1], 16)])), key)

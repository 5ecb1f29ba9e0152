"""What stands beside photos, and photos that are odd."""

import io
import os
import tarfile
from pathlib import Path

from PIL import Image

from encoder.errors import Reject
from tests.support.archives import zipped
from tests.support.inputs.case import Group, Steps, put
from tests.support.odd_images import odd_images, saved
from tests.support.pictures import encoded, write_tar

ODD = Group("Odd files and names")
REFUSED = Group("Collections in other forms")
PHOTO, SECOND = encoded(0), encoded(1)
APPLE_DOUBLE = b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(60)


def has_odd_names(folder: Path) -> str | None:
    """Return why a folder cannot hold names that are not text."""
    try:
        Path(os.fsdecode(bytes(folder) + b"/\xff\xfe")).touch()
    except OSError as err:
        return f"names here are text ({err.strerror})"
    return None


ODD.photos(
    "What a Mac and Windows leave: `._a.jpg`, `__MACOSX`, `.DS_Store`, `Thumbs.db`",
    {
        "a.jpg": PHOTO, "._a.jpg": APPLE_DOUBLE, ".DS_Store": b"x", "Thumbs.db": b"x", "desktop.ini": b"x",
        "__MACOSX/._b.jpg": APPLE_DOUBLE,
    },
    "encode photos --max-bad 0",
    keys=["a.jpg"],
    skipped={"system file": 4, "system folder": 1},
)  # fmt: skip


@ODD.case("The same in a zip, as a Mac makes it")
def mac_zip(here: Path) -> Steps:
    put(here, {"photos.zip": zipped([("a.jpg", PHOTO), ("__MACOSX/._a.jpg", APPLE_DOUBLE), ("._b.jpg", APPLE_DOUBLE)])})
    outcome = yield "encode photos.zip --max-bad 0"
    outcome.check(keys=["a.jpg"], skipped={"system file": 2})


ODD.photos(
    "Dot files and dot folders",
    {"a.jpg": PHOTO, ".hidden.jpg": PHOTO, ".git/b.jpg": PHOTO},
    keys=["a.jpg"],
    skipped={"system file": 1, "system folder": 1},
)
ODD.photos("An empty file", {"a.jpg": PHOTO, "b.jpg": b""}, keys=["a.jpg"], rejects={"b.jpg": Reject.EMPTY})
ODD.photos(
    "A JPEG and a PNG that were cut",
    {"a.jpg": PHOTO, "b.jpg": SECOND[:-200], "c.png": encoded(2, "PNG")[:-200]},
    keys=["a.jpg"],
    rejects={"b.jpg": Reject.TRUNCATED, "c.png": Reject.TRUNCATED},
)
ODD.photos(
    "A text and a web page called `.jpg`",
    {"a.jpg": PHOTO, "b.jpg": b"404 not found", "c.jpg": b"<!doctype html><html></html>"},
    keys=["a.jpg"],
    rejects=dict.fromkeys(("b.jpg", "c.jpg"), Reject.UNKNOWN_FORMAT),
)
ODD.photos(
    "The same, where no reject is allowed (`--max-bad 0`)",
    {"a.jpg": PHOTO, "b.jpg": b"404 not found"},
    "encode photos --max-bad 0",
    code=1,
    rows=0,
    says="1 of 2 images were rejected",
)
ODD.photos(
    "Nothing but texts called `.jpg`",
    {"a.jpg": b"404", "b.jpg": b"404"},
    code=1,
    rows=0,
    rejects=dict.fromkeys(("a.jpg", "b.jpg"), Reject.UNKNOWN_FORMAT),
    says="no image has a code",
)
ODD.photos(
    "Files that are not images, with and without an ending",
    {"a.jpg": PHOTO, "film.mp4": b"x", "README": b"hello", "notes.docx": b"x", "a.part": b"x"},
    keys=["a.jpg"],
    skipped={".mp4": 1, "no ending": 1, ".docx": 1, ".part": 1},
)


@ODD.case("A FIFO and a broken link, called `.jpg`", lambda _: None if hasattr(os, "mkfifo") else "no FIFOs")
def fifo(here: Path) -> Steps:
    put(here / "photos", {"a.jpg": PHOTO})
    os.mkfifo(here / "photos/b.jpg")
    (here / "photos/c.jpg").symlink_to(here / "gone.jpg")
    outcome = yield "encode photos"
    outcome.check(keys=["a.jpg"], rejects={"b.jpg": Reject.NOT_A_FILE, "c.jpg": Reject.UNREADABLE})


@ODD.case("A name that is not UTF-8, and names with a newline and a quote", has_odd_names)
def odd_names(here: Path) -> Steps:
    put(here / "photos", {"line\nbreak.jpg": PHOTO, 'it\'s "a" | b.jpg': SECOND})
    Path(os.fsdecode(bytes(here / "photos") + b"/caf\xe9.jpg")).write_bytes(encoded(2))
    outcome = yield "encode photos"
    outcome.check(keys=["caf\\xe9.jpg", "line\\x0abreak.jpg", 'it\'s "a" | b.jpg'])
    outcome.notes.append(", ".join(f"key `{key}`".replace("|", "\\|") for key in sorted(outcome.rows)))
    outcome = yield "build"
    outcome.check()
    assert None not in outcome.pictures.values()


@ODD.case("A tar with names that are not UTF-8, and with `/` and `../` in front")
def odd_members(here: Path) -> Steps:
    with tarfile.open(here / "shard.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        for name in ("/root/a.jpg", "../../b.jpg", "./c.jpg", "caf\udce9.jpg"):
            info = tarfile.TarInfo(name)
            info.size = len(PHOTO)
            tar.addfile(info, io.BytesIO(PHOTO))
    outcome = yield "encode shard.tar"
    outcome.check(keys=["root/a", "b", "c", "caf\\xe9"])
    outcome.notes.append("keys " + ", ".join(f"`{key}`" for key in sorted(outcome.rows)))


@ODD.case("A tar whose own name is not UTF-8, with `--prefix-keys`", has_odd_names)
def odd_shard_name(here: Path) -> Steps:
    write_tar(here / "plain.tar", [("a.jpg", PHOTO)])
    (here / "plain.tar").rename(Path(os.fsdecode(bytes(here) + b"/caf\xe9.tar")))
    outcome = yield "encode 'caf*.tar' --prefix-keys"
    outcome.check(keys=["caf\\xe9/a"])
    outcome.notes.append("key " + ", ".join(f"`{key}`" for key in outcome.rows))
    outcome = yield "build"
    outcome.check()
    assert outcome.pictures == {"caf\\xe9/a": PHOTO}


@ODD.case("Two members of a tar with one name, and one name with two endings")
def twin_members(here: Path) -> Steps:
    write_tar(here / "shard.tar", [("a.jpg", PHOTO), ("a.jpg", SECOND), ("b.jpg", PHOTO), ("b.png", encoded(2, "PNG"))])
    outcome = yield "encode shard.tar"
    assert sorted(outcome.rows) == ["a", "b"]
    assert [reject for reject, _ in outcome.rejects.values()] == [Reject.DUPLICATE_KEY] * 2


@ODD.case("Links and a FIFO in a tar")
def tar_links(here: Path) -> Steps:
    with tarfile.open(here / "shard.tar", "w") as tar:
        for name, kind in (
            ("a.jpg", None),
            ("b.jpg", tarfile.SYMTYPE),
            ("c.jpg", tarfile.LNKTYPE),
            ("d.jpg", tarfile.FIFOTYPE),
        ):
            info = tarfile.TarInfo(name)
            if kind:
                info.type, info.linkname = kind, "a.jpg"
            else:
                info.size = len(PHOTO)
            tar.addfile(info, io.BytesIO(b"" if kind else PHOTO))
    outcome = yield "encode shard.tar"
    outcome.check(keys=["a"], rejects={"b": Reject.LINK, "c": Reject.LINK, "d": Reject.NOT_A_FILE})


LARGE = saved(Image.new("RGB", (400, 300), (200, 30, 40)), "PNG")


@ODD.case("A photo of 120,000 pixels, with `--max-pixels 100000`")
def too_large(here: Path) -> Steps:
    put(here / "photos", {"a.jpg": PHOTO, "large.png": LARGE})
    outcome = yield "encode photos --max-pixels 100000"
    outcome.check(keys=["a.jpg"], rejects={"large.png": Reject.TOO_MANY_PIXELS})


BOMBS = {
    odd.name: odd
    for odd in odd_images()
    if isinstance(odd.expected, Reject) and odd.name in {"bomb.png", "many-scans.jpg"}
}
ODD.photos(
    "Bombs: 30,000 x 30,000 pixels in a PNG of a few kB, a JPEG of 150 scans",
    {"a.jpg": PHOTO, **{name: odd.data for name, odd in BOMBS.items()}},
    keys=["a.jpg"],
    rejects={name: odd.expected for name, odd in BOMBS.items()},
)


def refused(title: str, name: str, data: bytes, *says: str, spec: str | None = None) -> None:
    """Add a file that holds images in a form that is not read, or no images: refused with a way out."""

    def steps(here: Path) -> Steps:
        put(here, {name: data})
        outcome = yield f"encode {spec or name}"
        outcome.check(code=1)
        for word in says:
            assert word in outcome.err, outcome.err

    REFUSED.case(title)(steps)


URLS = b"url,caption\nhttps://example.org/a.jpg,a cat\n"
refused("A CSV of URLs", "urls.csv", URLS, "urls.csv", "img2dataset")
refused("The same as a list, `@urls.csv`", "urls.csv", URLS, "urls.csv", "img2dataset", spec="@urls.csv")
refused("A text of URLs", "urls.txt", b"https://example.org/a.jpg\n", "urls.txt", "img2dataset")
refused(
    "A list of URLs of images, `@urls.txt`", "urls.txt", b"https://example.org/a.jpg\n", "img2dataset", spec="@urls.txt"
)
refused("CIFAR as it is given out: a pickle without an ending", "data_batch_1", b"\x80\2}q\0(U\4data", "pickle", "save")
refused("A pickle", "train.pkl", b"\x80\4\x95", "pickle", "save")
refused("Arrays of numpy", "images.npy", b"\x93NUMPY\1\0", "numpy.load")
refused("TFRecord", "train-00000.tfrecord", b"\0" * 16, "TFRecord", "save")
refused("RAR", "photos.rar", b"Rar!\x1a\7\1\0", "unpack")
refused("7z", "photos.7z", b"7z\xbc\xaf\x27\x1c", "unpack")
refused("A video", "film.mp4", b"\0\0\0\x18ftypisom", "frames")


@REFUSED.case("A folder that holds only such files")
def folder_of_such(here: Path) -> Steps:
    put(here / "cifar", {"data_batch_1": b"\x80\2}q\0(U\4data", "batches.meta": b"\x80\2}", "readme.html": b"<html>"})
    outcome = yield "encode cifar"
    outcome.check(code=1, skipped={".html": 1, ".meta": 1, "no ending": 1}, says="pickle")

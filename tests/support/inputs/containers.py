"""Folders, lists, patterns and archives."""

import gzip
import os
import zipfile
from pathlib import Path

from encoder.errors import Reject
from encoder.images.archives.compression import Compression
from tests.support.archives import PACK, streamed, zipped
from tests.support.inputs.case import Group, Steps, put
from tests.support.pictures import encoded, labelled_members, write_tar

FOLDERS = Group("Folders, lists and patterns")
ARCHIVES = Group("Archives")


def jpegs(*names: str) -> dict[str, bytes]:
    return {name: encoded(number) for number, name in enumerate(names)}


def tar(path: Path, *names: str) -> bytes:
    """Write a tar of photos and return its bytes."""
    return write_tar(path, list(jpegs(*names).items())).read_bytes()


FOLDERS.photos("A folder of photos", jpegs("a.jpg", "b.JPG", "c.jpeg"), rows=3)
FOLDERS.photos(
    "A folder of folders",
    jpegs("2024/june/a.jpg", "2024/july/a.jpg", "b.jpg"),
    keys=["2024/june/a.jpg", "2024/july/a.jpg", "b.jpg"],
    labels={
        "2024/june/a.jpg": {"folder": "june", "folder_1": "2024", "folder_2": "june"},
        "2024/july/a.jpg": {"folder": "july", "folder_1": "2024", "folder_2": "july"},
        "b.jpg": {},
    },
)
FOLDERS.photos(
    "A folder without an image",
    {"notes.md": b"hello", "film.mp4": b"\0\0\0\x18ftypisom"},
    code=1,
    skipped={".md": 1, ".mp4": 1},
    says="holds no image and no archive",
)


@FOLDERS.case("A folder that is not there")
def no_folder(_: Path) -> Steps:
    outcome = yield "encode photos"
    outcome.check(code=1, says="photos cannot be read")


@FOLDERS.case("Single images, with their labels beside them")
def images(here: Path) -> Steps:
    put(here, {**jpegs("a.jpg", "sub/b.jpg"), "a.json": b'{"price": 3}'})
    outcome = yield "encode a.jpg sub/b.jpg"
    outcome.check(keys=["a.jpg", "sub/b.jpg"], labels={"a.jpg": {"price": 3}})


@FOLDERS.case("The same folder and one of its images, both named")
def twice(here: Path) -> Steps:
    put(here / "photos", jpegs("a.jpg", "b.jpg"))
    outcome = yield "encode photos/a.jpg photos"
    outcome.check(rows=2)


@FOLDERS.case("Two folders that hold the same names, with `--prefix-keys`")
def same_names(here: Path) -> Steps:
    put(here, jpegs("june/a.jpg", "july/a.jpg"))
    outcome = yield "encode june july --prefix-keys"
    outcome.check(keys=["june/a.jpg", "july/a.jpg"])
    outcome = yield "build"
    assert outcome.pictures == {"june/a.jpg": encoded(0), "july/a.jpg": encoded(1)}


@FOLDERS.case("The same two folders without it, and an index over them")
def same_keys(here: Path) -> Steps:
    put(here, jpegs("june/a.jpg", "july/a.jpg"))
    yield "encode june july"
    outcome = yield "build"
    outcome.check(code=1, says="--prefix-keys")


@FOLDERS.case("A folder of archives (`.tar`, `.tgz`, `.tar.bz2`, `.tar.xz`, `.tar.zst`, `.zip`) and a photo")
def archives_in_a_folder(here: Path) -> Steps:
    for name, compression in {
        "a.tar": None, "b.tgz": Compression.GZIP, "c.tar.bz2": Compression.BZIP2, "d.tar.xz": Compression.XZ,
        "sub/e.tar.zst": Compression.ZSTD,
    }.items():  # fmt: skip
        plain = tar(here / "plain", f"{name}-1.jpg", f"{name}-2.jpg")
        put(here / "shards", {name: PACK[compression](plain)})
    put(here / "shards", {"f.zip": zipped(list(jpegs("f-1.jpg").items())), "g.jpg": encoded(7)})
    outcome = yield "encode shards"
    outcome.check(rows=12)


@FOLDERS.case("A brace range, `'a-{000..002}.tar'`")
def braces(here: Path) -> Steps:
    for number in range(3):
        tar(here / f"a-{number:03d}.tar", f"{number}.jpg")
    outcome = yield "encode 'a-{000..002}.tar'"
    outcome.check(keys=["0", "1", "2"])


@FOLDERS.case("A brace range one of whose shards is missing")
def gap(here: Path) -> Steps:
    for number in range(3):
        tar(here / f"a-{number:03d}.tar", f"{number}.jpg")
    outcome = yield "encode 'a-{000..003}.tar'"
    outcome.check(code=1, says="a-003.tar cannot be read")


@FOLDERS.case("A brace list whose names are too long for the system")
def long_braces(_: Path) -> Steps:
    outcome = yield f"encode '{{{'x' * 300},b}}.tar'"
    outcome.err = outcome.err.replace("x" * 300, "xxx...")
    outcome.check(code=1, says="cannot be read")


@FOLDERS.case("A glob, `'photos/*'`, that matches other files, too")
def glob(here: Path) -> Steps:
    put(here / "photos", {**jpegs("a.jpg", "b.png", "sub/c.jpg"), "notes.md": b"hello"})
    outcome = yield "encode 'photos/*'"
    outcome.check(rows=3, skipped={".md": 1})


@FOLDERS.case("`'photos/**/*.jpg'` where a folder holds a link to its parent")
def link_to_a_parent(here: Path) -> Steps:
    put(here / "photos", jpegs(*(f"{number}/{number}.jpg" for number in range(7))))
    (here / "photos/3/up").symlink_to(here / "photos")
    outcome = yield "encode 'photos/**/*.jpg'"
    outcome.check(rows=7, skipped={"link to a folder that is read already": 1})


@FOLDERS.case("A list, `@list.txt`, with a remark, a folder, a glob and an image")
def list_file(here: Path) -> Steps:
    put(here, jpegs("photos/a.jpg", "more/b.jpg", "c.jpg"))
    (here / "list.txt").write_text("# mine\nphotos\nmore/*.jpg\n\nc.jpg\n")
    outcome = yield "encode @list.txt"
    outcome.check(rows=3)


@FOLDERS.case("A list that names what is not there")
def bad_list(here: Path) -> Steps:
    put(here, {**jpegs("a.jpg"), "list.txt": b"a.jpg\ngone.jpg\n"})
    outcome = yield "encode @list.txt"
    outcome.check(code=1, says="gone.jpg cannot be read")


@FOLDERS.case("Links to a folder and to a file elsewhere")
def links(here: Path) -> Steps:
    put(here, jpegs("photos/a.jpg", "elsewhere/b.jpg", "elsewhere/c.jpg"))
    (here / "photos/linked").symlink_to(here / "elsewhere")
    (here / "photos/d.jpg").symlink_to(here / "elsewhere/c.jpg")
    outcome = yield "encode photos"
    outcome.check(keys=["a.jpg", "d.jpg", "linked/b.jpg", "linked/c.jpg"])


@FOLDERS.case("A folder in it that cannot be read: its path is longer than the system takes")
def unreadable(here: Path) -> Steps:
    put(here / "photos", jpegs("a.jpg"))
    folder = os.open(here / "photos", os.O_RDONLY)
    for _ in range(20):
        os.mkdir("deep", dir_fd=folder)
        os.rename("deep", "d" * 250, src_dir_fd=folder, dst_dir_fd=folder)
        folder, above = os.open("d" * 250, os.O_RDONLY, dir_fd=folder), folder
        os.close(above)
    os.close(folder)
    outcome = yield "encode photos"
    outcome.err = outcome.err.replace("d" * 250, "ddd")
    while "ddd/ddd" in outcome.err:
        outcome.err = outcome.err.replace("ddd/ddd", "ddd")
    outcome.check(code=1, rows=1, says="its images are missing")


for suffix, compression in {
    ".tar": None, ".tar.gz": Compression.GZIP, ".tar.bz2": Compression.BZIP2, ".tar.xz": Compression.XZ,
    ".tar.zst": Compression.ZSTD,
}.items():  # fmt: skip

    def packed(here: Path, suffix: str = suffix, compression: Compression | None = compression) -> Steps:
        put(
            here, {f"photos{suffix}": PACK[compression](write_tar(here / "plain", labelled_members(0, 3)).read_bytes())}
        )
        outcome = yield f"encode photos{suffix}"
        outcome.check(keys=["pic-000", "pic-001", "pic-002"])
        assert outcome.rows["pic-002"] == {"fine": 2, "coarse": 0, "name": "class 2"}
        outcome = yield "build"
        outcome.check()
        assert outcome.pictures == {f"pic-00{number}": encoded(number) for number in range(3)}

    ARCHIVES.case(f"`{suffix}`, as webdataset has it: images with a `.json` each")(packed)


@ARCHIVES.case("A tar that is compressed, though its name does not say so")
def misnamed(here: Path) -> Steps:
    put(here, {"photos.tar": gzip.compress(tar(here / "plain", "a.jpg"))})
    outcome = yield "encode photos.tar"
    outcome.check(keys=["a"])


@ARCHIVES.case("Tars one behind another (`cat a.tar b.tar`)")
def concatenated(here: Path) -> Steps:
    put(here, {"both.tar": tar(here / "a", "a.jpg") + tar(here / "b", "b.jpg")})
    outcome = yield "encode both.tar"
    outcome.check(keys=["a", "b"])


@ARCHIVES.case("A tar with folders, and photos in them")
def tar_with_folders(here: Path) -> Steps:
    tar(here / "photos.tar", "cats/a.jpg", "dogs/a.jpg")
    outcome = yield "encode photos.tar"
    outcome.check(labels={"cats/a": {"folder": "cats"}, "dogs/a": {"folder": "dogs"}})


@ARCHIVES.case("A tar with a tar in it, a text and a film")
def tar_in_tar(here: Path) -> Steps:
    inner = tar(here / "inner.tar", "b.jpg")
    members = [("a.jpg", encoded(0)), ("inner.tar", inner), ("film.mp4", b"x"), ("notes.md", b"hello")]
    write_tar(here / "photos.tar", members)
    outcome = yield "encode photos.tar"
    outcome.check(keys=["a"], skipped={".tar inside an archive: unpack it": 1, ".mp4": 1, ".md": 1})


@ARCHIVES.case("A tar that was cut")
def cut_tar(here: Path) -> Steps:
    data = tar(here / "photos.tar", "a.jpg", "b.jpg", "c.jpg")
    (here / "photos.tar").write_bytes(data[: data.index(b"c.jpg") + 600])
    outcome = yield "encode photos.tar"
    outcome.check(code=1, keys=["a", "b"], rejects={"c": Reject.TRUNCATED}, says="photos.tar is damaged")


@ARCHIVES.case("A `.tar.gz` that was cut")
def cut_gzip(here: Path) -> Steps:
    data = gzip.compress(tar(here / "plain", "a.jpg", "b.jpg", "c.jpg"), mtime=0)
    put(here, {"photos.tar.gz": data[:-150]})
    outcome = yield "encode photos.tar.gz"
    outcome.check(code=1, keys=["a", "b"], rejects={"c": Reject.TRUNCATED}, says="photos.tar.gz is damaged")


@ARCHIVES.case("What is called `.tar` and is not")
def no_tar(here: Path) -> Steps:
    put(here, {"photos.tar": b"not a tar " * 200})
    outcome = yield "encode photos.tar"
    outcome.check(code=1, says="is damaged")


def zip_case(title: str, data: bytes, **expected: object) -> None:
    """Add a zip of `a.jpg` and `cats/b.jpg`, whose pictures an index reads back."""

    def steps(here: Path) -> Steps:
        put(here, {"photos.zip": data})
        outcome = yield "encode photos.zip"
        outcome.check(**expected)  # type: ignore[arg-type]
        outcome = yield "build"
        outcome.check()
        assert all(picture is not None for picture in outcome.pictures.values())

    ARCHIVES.case(title)(steps)


TWO = list(jpegs("a.jpg", "cats/b.jpg").items())
BOTH = ["a.jpg", "cats/b.jpg"]
zip_case("A zip, stored", zipped(TWO), keys=BOTH, labels={"cats/b.jpg": {"folder": "cats"}})
zip_case("A zip, deflated", zipped(TWO, zipfile.ZIP_DEFLATED), keys=BOTH)
zip_case("A zip written to a pipe", streamed(TWO), keys=BOTH)


def encrypted() -> bytes:
    """A zip whose second member says that it is encrypted."""
    data = bytearray(zipped(TWO))
    for sign, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = data.rindex(sign)
        data[at + flags] |= 1
    return bytes(data)


zip_case("A zip with a password on one photo", encrypted(), keys=["a.jpg"], rejects={"cats/b.jpg": Reject.UNREADABLE})
zip_case(
    "A zip with a photo whose checksum is wrong",
    zipped(TWO).replace(TWO[1][1], TWO[1][1][:-9] + b"?" + TWO[1][1][-8:], 1),
    keys=["a.jpg"],
    rejects={"cats/b.jpg": Reject.CORRUPT},
)


@ARCHIVES.case("A zip that was cut")
def cut_zip(here: Path) -> Steps:
    put(here, {"photos.zip": zipped(TWO)[:-300]})
    outcome = yield "encode photos.zip"
    outcome.check(code=1, keys=["a.jpg"], rejects={"cats/b.jpg": Reject.TRUNCATED}, says="photos.zip is damaged")

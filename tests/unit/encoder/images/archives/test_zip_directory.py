import io
import random
import struct
import zipfile
import zlib

import pytest

from encoder.images.archives.archive import MemberKind
from encoder.images.archives.zip_directory import directory_of, kind_of, name_of
from tests.support.archives import streamed, zipped


def listed(data):
    directory = directory_of(io.BytesIO(data))
    return [(name_of(entry), entry.offset, entry.size) for entry in directory], directory.damage


FILES = [("a.jpg", b"A" * 100), ("ä/b.png", b"B" * 200), ("c", b""), ("a.jpg", b"again")]


@pytest.mark.parametrize(
    "comment",
    [b"", b"hello", b"PK\5\6" + bytes(18), b"x" * 65_535],
    ids=["none", "short", "looks like an end", "longest"],
)
@pytest.mark.parametrize("before", [b"", b"#!/bin/sh\n" * 9], ids=["plain", "behind a program"])
def test_the_list_is_that_of_the_standard_library(comment, before):
    data = before + zipped(FILES, comment=comment)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        expected = [(info.filename, info.header_offset, info.file_size) for info in archive.infolist()]
    assert listed(data) == (expected, None)


def test_an_empty_zip_lists_nothing():
    assert listed(zipped([])) == ([], None)


def test_over_65535_members_are_all_listed_with_and_without_zip64():
    files = [(f"{n}.jpg", b"") for n in range(65_600)]
    data = zipped(files)
    assert b"PK\6\6" in data[-200:]
    found, damage = listed(data)
    assert ([name for name, _, _ in found], damage) == ([name for name, _ in files], None)
    end = data.rindex(b"PK\6\6")
    nbytes, offset = struct.unpack_from("<2Q", data, end + 40)
    wrapped = data[:end] + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 64, 64, nbytes, offset, 0)
    assert listed(wrapped) == (found, None)


def test_sizes_and_places_beyond_4_gb_stand_in_an_extra_field():
    wide = struct.pack("<2H3Q", 1, 24, 5 << 32, 4 << 32, 6 << 32)
    fields = (b"PK\1\2", 0, 0, 0, 0, 0, 0, 0, 0xFFFFFFFF, 0xFFFFFFFF, 1, len(wide), 0, 0, 0, 0, 0xFFFFFFFF)
    entry = struct.pack("<4s6H3L5H2L", *fields) + b"a" + wide
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(entry), 0, 0)
    [found] = directory_of(io.BytesIO(entry + end))
    assert (found.size, found.packed, found.offset) == (5 << 32, 4 << 32, 6 << 32)


def of_name(raw, flags=0, host=3, extra=b"", mode=0):
    fields = (b"PK\1\2", host << 8, 0, flags, 0, 0, 0, 0, 0, 0, len(raw), len(extra), 0, 0, 0, mode << 16, 0)
    entry = struct.pack("<4s6H3L5H2L", *fields) + raw + extra
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(entry), 0, 0)
    [found] = directory_of(io.BytesIO(entry + end))
    return found


@pytest.mark.parametrize(
    ("raw", "options", "name"),
    [
        ("ü.jpg".encode(), {"flags": 1 << 11}, "ü.jpg"),
        ("ü.jpg".encode(), {}, "ü.jpg"),  # as Apple's and older Linux's write it
        (b"\x81.jpg", {}, "ü.jpg"),
        (b"\xff.jpg", {"flags": 1 << 11}, "\udcff.jpg"),
        (b"a\\b.jpg", {"host": 0}, "a/b.jpg"),
        (b"a\\b.jpg", {"host": 3}, "a\\b.jpg"),
        (b"?.jpg", {"extra": struct.pack("<2HBL", 0x7075, 11, 1, zlib.crc32(b"?.jpg")) + "ü.jpg".encode()}, "ü.jpg"),
        (b"?.jpg", {"extra": struct.pack("<2HBL", 0x7075, 11, 1, 7) + "ü.jpg".encode()}, "?.jpg"),
    ],
    ids=[
        "marked",
        "unmarked",
        "code page 437",
        "no UTF-8",
        "backslash",
        "backslash on Unix",
        "extra",
        "extra of another",
    ],
)
def test_names_of_all_writers_are_understood(raw, options, name):
    assert name_of(of_name(raw, **options)) == name


@pytest.mark.parametrize(
    ("raw", "options", "kind"),
    [
        (b"a.jpg", {"mode": 0o100644}, MemberKind.FILE),
        (b"a.jpg", {}, MemberKind.FILE),
        (b"a.jpg", {"mode": 0o120777}, MemberKind.LINK),
        (b"a.jpg", {"mode": 0o120777, "host": 0}, MemberKind.FILE),
        (b"a.jpg", {"mode": 0o010644}, MemberKind.OTHER),
        (b"a.jpg/", {}, MemberKind.FOLDER),
        (b"a.jpg\\", {"host": 0}, MemberKind.FOLDER),
        (b"a.jpg", {"mode": 0o040755}, MemberKind.FOLDER),
    ],
)
def test_what_is_not_a_file_is_told(raw, options, kind):
    assert kind_of(of_name(raw, **options)) is kind


WHOLE = zipped(FILES)
START = WHOLE.index(b"PK\1\2")
BROKEN = {
    "cut before the directory": (WHOLE[:START], "no directory"),
    "cut in the directory": (WHOLE[: START + 60], "no directory"),
    "cut in the end": (WHOLE[:-1], "no directory"),
    "garbage in the directory": (WHOLE[:START] + b"x" + WHOLE[START + 1 :], "is broken at its byte 0"),
    "fewer than said": (WHOLE[:-12] + b"\7" + WHOLE[-11:], "lists 4 members, not 7"),
    "directory outside": (WHOLE[:-10] + b"\xff\xff" + WHOLE[-8:], "outside the file"),
    "split": (WHOLE[:-18] + b"\1" + WHOLE[-17:], "split archive"),
    "too large": (WHOLE[:-10] + b"\xff\xff\xff\x7f" + WHOLE[-6:], "more than"),
}


@pytest.mark.parametrize(("data", "damage"), BROKEN.values(), ids=BROKEN)
def test_where_the_directory_is_broken_members_tell_of_themselves(data, damage):
    found, told = listed(data)
    assert damage in told
    assert found == listed(WHOLE)[0]


def test_members_whose_sizes_stand_behind_them_are_found_without_a_directory():
    data = streamed(
        [("a.jpg", b"A" * 100), ("b.jpg", b"PK\7\x08" * 99), ("c.jpg", random.Random(0).randbytes(3_000_000))]
    )
    expected = listed(data)
    assert expected[1] is None
    assert listed(data[: data.index(b"PK\1\2")])[0] == expected[0]
    assert [name for name, _, _ in listed(data[: len(data) // 2])[0]] == ["a.jpg", "b.jpg"]


def test_members_are_listed_in_the_order_of_their_bytes():
    first, second = zipped([("a.jpg", b"A")]), zipped([("b.jpg", b"B")])
    bodies = [data[: data.index(b"PK\1\2")] for data in (first, second)]
    entries = [data[data.index(b"PK\1\2") : data.index(b"PK\5\6")] for data in (first, second)]
    moved = entries[1][:42] + struct.pack("<L", len(bodies[0])) + entries[1][46:]
    nbytes = len(entries[0] + moved)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2, 2, nbytes, len(b"".join(bodies)), 0)
    data = b"".join(bodies) + moved + entries[0] + end
    assert listed(data) == ([("a.jpg", 0, 1), ("b.jpg", len(bodies[0]), 1)], None)


@pytest.mark.parametrize(
    ("flags", "extra"), [(1 << 13, b""), (0, bytes(0xFFFF))], ids=["masked", "longest extra field"]
)
def test_headers_of_any_content_make_a_list(flags, extra):
    header = struct.pack("<4s5H3L2H", b"PK\3\4", 20, flags, 0, 0, 0, 0, 4, 4, 1, len(extra)) + b"a" + extra + b"data"
    assert listed(header)[0] == [("a", 0, 4)]

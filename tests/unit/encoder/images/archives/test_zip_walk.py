import hashlib
import random
import struct
import zipfile
import zlib

import pytest

from encoder.errors import HashgrainError, Reason, Reject
from encoder.images.archives import zip_walk
from encoder.images.archives.archive import UnreadableMemberError
from encoder.images.archives.compression import Compression
from encoder.images.archives.zip_walk import open_zip, read_zipped
from tests.support.archives import PACK, streamed, zipped

FILES = [
    ("a.jpg", b"A" * 1000),
    ("b.jpg", random.Random(0).randbytes(200_000)),
    ("c.jpg", b""),
    ("d.jpg", bytes(900_000)),
]
METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


def by_hand(name, stored, data, method, flags=0, size=None, crc=None, header_name=None):
    """A zip with one member whose fields need not be true."""
    crc, size = zlib.crc32(data) if crc is None else crc, len(data) if size is None else size
    own = name if header_name is None else header_name
    member = (
        struct.pack("<4s5H3L2H", b"PK\3\4", 20, flags, method, 0, 0, crc, len(stored), size, len(own), 0) + own + stored
    )
    fields = (b"PK\1\2", 3 << 8, 20, flags, method, 0, 0, crc, len(stored), size, len(name), 0, 0, 0, 0, 0, 0)
    entry = struct.pack("<4s6H3L5H2L", *fields) + name
    return member + entry + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(entry), len(member), 0)


def read_all(path, hasher=None, step=None):
    """Each member's bytes, or why it cannot be read."""
    found = []
    with open_zip(str(path), hasher=hasher) as walk:
        for member in walk:
            try:
                data = walk.read(member, step) if step else walk.read(member)
                while step and (more := walk.read(member, step)):
                    data += more
                found.append((member.name, data if len(data) == member.size else Reject.TRUNCATED))
            except UnreadableMemberError as err:
                found.append((member.name, err.reject))
    return found, walk.damage


@pytest.fixture
def put(tmp_path):
    def put(data):
        path = tmp_path / "a.zip"
        path.write_bytes(data)
        return path

    return put


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("step", [None, 7000])
def test_every_method_is_read_at_once_and_in_pieces_and_hashed(put, method, step):
    path = put(zipped(FILES, method))
    hasher = hashlib.sha256()
    assert read_all(path, hasher, step) == (FILES, None)
    assert hasher.hexdigest() == hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_all(path) == (FILES, None)


@pytest.mark.parametrize(("method", "compression"), [(93, Compression.ZSTD), (95, Compression.XZ)])
def test_members_in_zstandard_and_xz_are_read(put, method, compression):
    data = bytes(range(256)) * 99
    path = put(by_hand(b"a.jpg", PACK[compression](data), data, method))
    assert read_all(path) == ([("a.jpg", data)], None)
    assert read_zipped(str(path), 0, len(data)) == data


@pytest.mark.parametrize("method", [*METHODS, None])
def test_every_member_is_read_back_by_its_place(put, method):
    path = put(b"program" + (streamed(FILES) if method is None else zipped(FILES, method)))
    with open_zip(str(path)) as walk:
        places = [(member.offset, member.size) for member in walk]
    for (offset, size), (_, data) in zip(reversed(places), reversed(FILES), strict=True):
        assert read_zipped(str(path), offset, size) == data


PACKED = zlib.compress(bytes(5000), wbits=-15)
BAD = {
    "encrypted": (by_hand(b"a", b"x" * 12, b"", 0, flags=1), Reject.UNREADABLE),
    "Deflate64": (by_hand(b"a", b"x", b"y", 9), Reject.UNREADABLE),
    "unknown method": (by_hand(b"a", b"x", b"y", 77), Reject.UNREADABLE),
    "wrong checksum": (by_hand(b"a", b"x", b"y", 0), Reject.CORRUPT),
    "wrong checksum, packed": (by_hand(b"a", PACKED, bytes(5000), 8, crc=1), Reject.CORRUPT),
    "longer than said": (by_hand(b"a", PACKED, bytes(4999), 8), Reject.CORRUPT),
    "shorter than said": (by_hand(b"a", PACKED, bytes(5001), 8), Reject.CORRUPT),
    "stored size": (by_hand(b"a", b"xyz", b"xy", 0), Reject.CORRUPT),
    "not deflate": (by_hand(b"a", b"\xff" * 9, bytes(9), 8), Reject.CORRUPT),
    "not bzip2": (by_hand(b"a", b"\xff" * 9, bytes(9), 12), Reject.CORRUPT),
    "not lzma": (by_hand(b"a", b"\0\0\5\0\xff" + b"\xff" * 9, bytes(9), 14), Reject.CORRUPT),
    "another name": (by_hand(b"a", b"x", b"x", 0, header_name=b"b"), Reject.CORRUPT),
    "a bomb": (by_hand(b"a", PACK[Compression.BZIP2](bytes(9 << 20)), bytes(9 << 20), 12), Reject.TOO_LARGE),
    "a bomb that lies": (by_hand(b"a", PACK[Compression.BZIP2](bytes(9 << 20)), b"", 12, size=1000), Reject.CORRUPT),
}  # fmt: skip


@pytest.mark.parametrize(("data", "reject"), BAD.values(), ids=BAD)
def test_what_cannot_be_read_has_a_reason_and_is_not_read_back(put, data, reject):
    path = put(data)
    assert read_all(path) == ([("a", reject)], None)
    with open_zip(str(path)) as walk:
        [member] = walk
    if reject is Reject.TOO_LARGE or BAD["another name"][0] == data:
        return  # it has these bytes, and whoever asks for them by their place gets them
    with pytest.raises(HashgrainError, match="does not hold") as caught:
        read_zipped(str(path), member.offset, member.size)
    assert caught.value.reason is Reason.SHARD_DAMAGED


def test_bytes_that_two_members_claim_are_read_once(put):
    one = zipped([("a.jpg", b"A" * 500)])
    at = one.index(b"PK\1\2")
    entry = one[at : at + 46 + 5]
    path = put(one[:at] + entry * 50 + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 50, 50, 50 * len(entry), at, 0))
    found, damage = read_all(path)
    assert found == [("a.jpg", b"A" * 500), *[("a.jpg", Reject.CORRUPT)] * 49]
    assert damage is None


def test_a_cut_zip_gives_what_came_before(put):
    whole = zipped(FILES)
    found, damage = read_all(put(whole[:150_000]), hashlib.sha256())
    assert found[0] == FILES[0]
    assert found[1:] == [("b.jpg", Reject.TRUNCATED)]
    assert damage.startswith("it has no directory at its end")


@pytest.mark.parametrize(
    ("offset", "size"), [(0, 999), (0, 1001), (1, 1000), (10**15, 10), (-1, 10), (0, -1), (0, 10**15)]
)
@pytest.mark.parametrize("make", [zipped, streamed])
def test_a_place_that_is_none_is_damage(put, offset, size, make):
    path = put(make(FILES))
    with pytest.raises(HashgrainError, match=r"a\.zip does not hold") as caught:
        read_zipped(str(path), offset, size)
    assert caught.value.reason is Reason.SHARD_DAMAGED


def test_no_flip_in_what_is_read_goes_unnoticed(put):
    files = [(f"{n}.jpg", random.Random(n).randbytes(40)) for n in range(3)]
    for whole in zipped(files), zipped(files, zipfile.ZIP_DEFLATED), streamed(files):
        for bit in range(8 * len(whole)):
            changed = bytearray(whole)
            changed[bit // 8] ^= 1 << bit % 8
            found, damage = read_all(put(bytes(changed)))
            if damage is None:
                named = {data: name for name, data in files}
                assert len(found) == 3
                assert all(isinstance(data, Reject) or data in named or data == b"" for _, data in found)


def test_a_member_is_read_only_in_its_turn(put):
    with open_zip(str(put(zipped(FILES)))) as walk:
        members = iter(walk)
        first = next(members)
        next(members)
        with pytest.raises(ValueError, match="not the member just yielded"):
            walk.read(first)


def test_a_file_that_is_not_there_is_told_as_such(tmp_path):
    for use in read_all, lambda path: read_zipped(str(path), 0, 1):
        with pytest.raises(HashgrainError, match="cannot open") as caught:
            use(tmp_path / "gone.zip")
        assert caught.value.reason is Reason.SHARD_MISSING


def test_no_place_makes_a_reader_hold_gigabytes(put, monkeypatch):
    monkeypatch.setattr(zip_walk, "MAX_MEMBER", 999)
    with pytest.raises(HashgrainError, match="does not hold"):
        read_zipped(str(put(zipped(FILES))), 0, 1000)


def test_a_disk_that_does_not_give_what_a_file_holds_is_told():
    """The memory of a process has no end to seek to."""
    with pytest.raises(HashgrainError, match="cannot read /proc/self/mem: Invalid argument; give a file") as caught:
        read_zipped("/proc/self/mem", 0, 10)
    assert caught.value.reason is Reason.SHARD_MISSING

import bz2
import gzip
import hashlib
import io
import random
import struct
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder.errors import HashgrainError, Reason
from encoder.images.archives import tar_walk as tar
from encoder.images.archives.archive import Member, MemberKind
from encoder.images.archives.compression import Compression
from encoder.images.archives.source import CHUNK, VIEWED, HashedFile, Source
from encoder.images.archives.tar_walk import BLOCK, TarWalk, is_header, open_tar, read_member
from tests.support.archives import PACK

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
LONG = "/".join(["a folder with a name"] * 10) + "/picture.jpg"  # 221 characters
FILES = {"a.jpg": b"A" * 1000, "b/ä.png": b"", "b/c.jpg": bytes(range(256)) * 5, "d.jpg": b"D" * 512}
MARKER = bytes(2 * BLOCK)


def info(name, kind=tarfile.REGTYPE, **fields):
    entry = tarfile.TarInfo(name)
    entry.type = kind
    for field, value in fields.items():
        setattr(entry, field, value)
    return entry


def bare(files=FILES, fmt="gnu", extra=()):
    """The members of a tar, without the end-of-archive marker and the padding."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=FORMATS[fmt]) as archive:
        for name, data in files.items():
            archive.addfile(info(name, size=len(data)), io.BytesIO(data))
        for entry in extra:
            archive.addfile(entry)
        return buffer.getvalue()


def complete(files=FILES, fmt="gnu", extra=()):
    return bare(files, fmt, extra) + MARKER


def header(name=b"x.jpg", flag=b"0", size=b"0", magic=b"ustar\x0000"):
    """A header block with a right checksum, whatever its fields hold."""
    fields = struct.pack("100s24s12s12s8xc100s8s247x", name, b"", size, b"", flag, b"", magic)
    return sealed(fields)


def sealed(block):
    """The block with its checksum made right."""
    checksum = sum(block[:148]) + 8 * 32 + sum(block[156:])
    return block[:148] + b"%06o\0 " % checksum + block[156:]


def padded(data):
    return data + bytes(-len(data) % BLOCK)


def extended(flag, data):
    return header(b"extended", flag, b"%o" % len(data)) + padded(data)


def pax(**records):
    return b"".join(record(key.replace("_", ".").encode(), value) for key, value in records.items())


def record(key, value):
    body = b" " + key + b"=" + value + b"\n"
    length = len(body) + len(str(len(body)))
    return b"%d" % (length + (len(str(length)) > len(str(len(body))))) + body


def walk(data, **options):
    steps = TarWalk(io.BytesIO(data), **options)
    return list(steps), steps.damage


def read_all(data, **options):
    steps = TarWalk(io.BytesIO(data), **options)
    return {member.name: steps.read(member) for member in steps}, steps.damage


def flipped(data, bit):
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


# --- what is read ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("compression", [None, *Compression])
def test_every_member_of_every_format_is_read_back(fmt, compression):
    files = FILES | {LONG: b"long", "ünïcode/" + "é" * 40 + ".jpg": b"unicode"}
    assert read_all(PACK[compression](complete(files, fmt)), compression=compression) == (files, None)


@pytest.mark.parametrize("fmt", FORMATS)
def test_members_equal_those_of_tarfile_on_an_intact_archive(fmt):
    kinds = [info("link", tarfile.SYMTYPE, linkname="a.jpg"), info("hard", tarfile.LNKTYPE, linkname="a.jpg")]
    kinds += [info("folder", tarfile.DIRTYPE), info("pipe", tarfile.FIFOTYPE), info("disk", tarfile.BLKTYPE)]
    kinds += [info(LONG, tarfile.SYMTYPE, linkname="y" * (90 if fmt == "ustar" else 300))]
    data = complete(FILES | {LONG[1:]: b"long"}, fmt, kinds)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        expected = [(m.name, m.offset_data, m.size) for m in archive]
    members, damage = walk(data)
    assert damage is None
    assert [(m.name.rstrip("/"), m.offset, m.size) for m in members] == expected
    assert [m.kind for m in members] == [*["file"] * 5, "link", "link", "folder", "other", "other", "link"]


def test_seeking_over_data_yields_what_reading_yields():
    data = complete()
    assert walk(data, whole=False) == walk(data, whole=True)
    assert read_all(data, whole=False) == (FILES, None)


PIECES = {
    "file": header(),
    "file with data": header(size=b"700") + b"y" * 1024,
    "runs on": header(size=b"3000"),
    "sparse": sealed(header(flag=b"S", size=b"10")[:482] + b"\1" + bytes(29)),
    "path": extended(b"x", pax(path=b"p/")),
    "size": extended(b"x", pax(size=b"900")),
    "long": extended(b"L", b"l" * 600),
    "global": extended(b"g", pax(path=b"g", GNU_sparse_size=b"1")),
    "folder": header(flag=b"5", size=b"1000"),
    "zeros": bytes(BLOCK),
    "marker": MARKER,
    "half": bytes(256),
    "text": b"12 path=abc\n" * 50,
}


@given(st.lists(st.sampled_from(sorted(PIECES)), max_size=12))
def test_seeking_equals_reading_on_whatever_is_put_together(names):
    data = b"".join(PIECES[name] for name in names)
    members, damage = walk(data, whole=True)
    assert walk(data, whole=False) == (members, damage)
    assert read_all(data)[1] == damage
    assert walk(gzip.compress(data, 1), compression=Compression.GZIP) == (members, damage)
    assert damage is not None or data.endswith(MARKER)
    assert all(member.offset + member.size <= len(data) for member in members[: None if damage is None else -1])


def test_a_member_can_be_read_only_once_and_only_in_its_turn():
    steps = TarWalk(io.BytesIO(complete()))
    members = iter(steps)
    first = next(members)
    assert steps.read(first) == FILES["a.jpg"]
    with pytest.raises(ValueError, match="read before"):
        steps.read(first)
    next(members)
    with pytest.raises(ValueError, match="not the member just yielded"):
        steps.read(first)


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (header(b"old.jpg", b"\0", magic=b""), ("old.jpg", "file", 0)),
        (header(b"old/", b"\0", magic=b""), ("old/", "folder", 0)),
        (header(b"x.jpg", b"7"), ("x.jpg", "file", 0)),
        (header(b"big", size=b"\x80" + bytes(10) + b"\x00"), ("big", "file", 0)),
        (header(b"\xff.jpg"), ("\udcff.jpg", "file", 0)),
        (header(b"folder", b"5", b"1000"), ("folder", "folder", 0)),
        (header(b"hard", b"1", b"1000"), ("hard", "link", 0)),
        (header(b"x", b"A", b"1") + bytes(BLOCK), ("x", "other", 1)),
        (header(b"../../etc/x"), ("../../etc/x", "file", 0)),
    ],
    ids=["v7", "v7 folder", "contiguous", "base 256", "no utf-8", "sized folder", "sized link", "unknown", "unsafe"],
)
def test_odd_headers_are_understood(block, expected):
    members, damage = walk(block + MARKER)
    assert [(m.name, m.kind, m.size) for m in members] == [expected]
    assert damage is None


def test_the_prefix_field_is_a_name_only_in_ustar():
    block = header(b"x.jpg")
    ustar = sealed(block[:345] + b"a/b".ljust(155, b"\0") + block[500:])
    gnu = sealed(ustar[:257] + b"ustar  \0" + ustar[265:])
    assert [m.name for m in walk(ustar + gnu + MARKER)[0]] == ["a/b/x.jpg", "x.jpg"]


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (pax(path=b"long name"), ("long name", "file", 600)),
        (pax(size=b"700"), ("x.jpg", "file", 700)),
        (pax(path=b"first", mtime=b"1.5") + pax(path=b"second"), ("second", "file", 600)),
        (pax(path=b""), ("x.jpg", "file", 600)),
        (pax(comment=b"a=b\nc"), ("x.jpg", "file", 600)),
        (pax(GNU_sparse_realsize=b"9000", GNU_sparse_name=b"hole.jpg"), ("hole.jpg", "other", 600)),
    ],
    ids=["path", "size", "last wins", "empty is none", "= and newline", "sparse"],
)
def test_pax_records_override_the_header_of_the_next_member_only(records, expected):
    data = extended(b"x", records) + header(size=b"1130") + bytes(1024) + header(b"next") + MARKER
    members, damage = walk(data)
    assert [(m.name, m.kind, m.size) for m in members] == [expected, ("next", "file", 0)]
    assert damage is None


def test_a_long_name_and_a_pax_header_hold_together():
    data = extended(b"L", b"long\0rest") + extended(b"K", b"target") + extended(b"x", pax(size=b"3")) + header()
    assert walk(data + bytes(BLOCK) + MARKER) == ([Member("long", MemberKind.FILE, 3584, 3)], None)


def test_a_global_pax_header_holds_for_all_that_have_no_own_value():
    shared = extended(b"g", pax(path=b"shared")) + header() + extended(b"X", pax(path=b"own")) + header() + header()
    assert [m.name for m in walk(shared + MARKER)[0]] == ["shared", "own", "shared"]


def test_a_sparse_member_is_passed_with_its_map():
    sparse = header(b"s.jpg", b"S", b"10", b"ustar  \0")
    sparse = sealed(sparse[:482] + b"\1" + sparse[483:])
    more, last = bytes(504) + b"\1" + bytes(7), header(b"not a member")[:504] + bytes(8)
    members, damage = walk(sparse + more + last + bytes(BLOCK) + header(b"next") + MARKER)
    assert members == [Member("s.jpg", MemberKind.OTHER, 1536, 8), Member("next", MemberKind.FILE, 2560, 0)]
    assert damage is None


def test_a_walk_holds_no_more_than_a_chunk_of_what_nobody_reads():
    class Counting(io.BytesIO):
        most = 0

        def read(self, size=-1):
            self.most = max(self.most, size if size >= 0 else 1 << 60)
            return super().read(size)

    file = Counting(header(size=b"77777777777") + bytes(BLOCK))
    steps = TarWalk(file)
    assert [len(steps.read(member)) for member in steps] == [BLOCK]
    assert file.most <= CHUNK


# --- what is damaged ------------------------------------------------------------------------------------------------

LAST = len(bare()) - 2 * BLOCK  # the header of d.jpg
GZIPPED = gzip.compress(bare({f"{i}.jpg": random.Random(i).randbytes(3000) for i in range(50)}) + MARKER, mtime=0)
DAMAGED = {
    "empty file": (b"", "no end-of-archive marker at byte 0"),
    "garbage": (random.Random(0).randbytes(2000), "bad header checksum at byte 0"),
    "short garbage": (b"<html>", "ends inside a header at byte 6"),
    "bzip2": (bz2.compress(random.Random(0).randbytes(2000)), "bad header checksum at byte 0"),
    "cut in a header": (complete()[: LAST + 100], f"ends inside a header at byte {LAST + 100}"),
    "cut at a header": (complete()[:LAST], f"no end-of-archive marker at byte {LAST}"),
    "cut after a header": (complete()[: LAST + BLOCK], f"ends inside 'd.jpg' at byte {LAST + BLOCK}"),
    "cut in data": (complete()[: BLOCK + 700], "ends inside 'a.jpg' at byte 1212"),
    "cut in data padding": (complete()[: BLOCK + 1010], "ends inside 'a.jpg' at byte 1522"),
    "cut before the marker": (bare(), f"no end-of-archive marker at byte {LAST + 1024}"),
    "cut in the marker": (complete()[:-1000], f"ends inside a header at byte {LAST + 1048}"),
    "one zero block": (complete()[:-BLOCK], f"only half an end-of-archive marker at byte {LAST + 1024}"),
    "one zero block between members": (
        bare() + bytes(BLOCK) + complete(),
        f"only half an end-of-archive marker at byte {LAST + 1024}",
    ),
    "checksum flip": (flipped(complete(), 8 * (LAST + 150)), f"bad header checksum at byte {LAST}"),
    "checksum not a number": (header()[:148] + b"zzzzzzzz" + header()[156:] + MARKER, "bad header checksum at byte 0"),
    "size past the end": (header(size=b"7777") + bytes(2048) + MARKER, "ends inside 'x.jpg' at byte 3584"),
    "size of 10^15": (header(size=b"\x80" + (10**15).to_bytes(11, "big")) + MARKER, "ends inside 'x.jpg' at byte 1536"),
    "size too small": (header(size=b"1") + b"y" * 1024 + MARKER, "bad header checksum at byte 1024"),
    "negative size": (header(size=b"\xff" * 12) + MARKER, "impossible size of 'x.jpg' at byte 0"),
    "lowest size": (header(size=b"\xff" + bytes(11)) + MARKER, "impossible size of 'x.jpg' at byte 0"),
    "signed octal size": (header(size=b"-1") + MARKER, "impossible size of 'x.jpg' at byte 0"),
    "python's octal size": (header(size=b"0o1_0") + MARKER, "impossible size of 'x.jpg' at byte 0"),
    "size beyond 63 bits": (header(size=b"\x80" + b"\xff" * 11) + MARKER, "impossible size of 'x.jpg' at byte 0"),
    "pax size too large": (
        extended(b"x", pax(size=b"9" * 5000)) + header() + MARKER,
        "impossible size of 'x.jpg' at byte 5632",
    ),
    "pax size no number": (
        extended(b"x", pax(size=b"1_0")) + header() + MARKER,
        "impossible size of 'x.jpg' at byte 1024",
    ),
    "pax size negative": (
        extended(b"x", pax(size=b"-512")) + header() + MARKER,
        "impossible size of 'x.jpg' at byte 1024",
    ),
    "pax header over 1 MiB": (
        extended(b"x", pax(path=b"p" * 2**20)) + header() + MARKER,
        "impossible size of the extended header at byte 0",
    ),
    "long name over 1 MiB": (
        extended(b"L", b"p" * 2**20 + b"\0") + header() + MARKER,
        "impossible size of the extended header at byte 0",
    ),
    "negative pax header": (
        header(flag=b"x", size=b"\xff" * 12) + header() + MARKER,
        "impossible size of the extended header at byte 0",
    ),
    "cut behind a very long name": (
        extended(b"L", b"l" * 5000) + header(size=b"1"),
        f"ends inside '{'l' * 80}' at byte 6144",
    ),
    "cut in a pax header": (extended(b"x", pax(path=b"p"))[:600], "ends inside an extended header at byte 600"),
    "cut after a pax header": (extended(b"x", pax(path=b"p")), "no end-of-archive marker at byte 1024"),
    "pax header without a member": (
        header() + extended(b"x", pax(mtime=b"1")) + MARKER,
        "an extended header without its member before byte 2560",
    ),
    "cut in a sparse map": (
        sealed(header(flag=b"S")[:482] + b"\1" + bytes(29)) + bytes(504) + b"\1",
        "no end-of-archive marker at byte 1017",
    ),
    "concatenated with a flip": (
        complete() + flipped(complete(), 8),
        f"data after the end-of-archive marker at byte {LAST + 2048}",
    ),
    "concatenated out of step": (
        complete() + b"x" + complete(),
        f"data after the end-of-archive marker at byte {LAST + 2048}",
    ),
    "concatenated and cut": (complete() + bare(), f"no end-of-archive marker at byte {2 * LAST + 3072}"),
    "allocated behind a second archive": (
        complete() + complete() + bytes(2**20 + 512),
        f"over 1048576 zero bytes after the end-of-archive marker at byte {2 * LAST + 4096}",
    ),
    "hidden behind padding": (
        complete() + bytes(8000) + b"x",
        f"data after the end-of-archive marker at byte {LAST + 10048}",
    ),
    "allocated but not written": (
        complete() + bytes(2**20 + 1),
        f"over 1048576 zero bytes after the end-of-archive marker at byte {LAST + 2048}",
    ),
}
MALFORMED = {
    "no digits": b"path=x\n",
    "no space": b"8path=x\n",
    "no equals": b"9 path x\n",
    "no newline": b"9 path=xy",
    "too short": b"3 path=x\n",
    "too long": b"99 path=x\n",
    "zero": b"0 path=x\n",
    "negative": b"-9 path=x\n",
    "ends inside the key": b"4 a\n9 path=x\n",
    "huge": b"9" * 5000 + b" path=x\n",
    "zero bytes": pax(path=b"x") + bytes(5),
}
DAMAGED |= {
    f"pax record: {name}": (
        extended(b"x", data) + header() + MARKER,
        "malformed pax record in the extended header at byte 0",
    )
    for name, data in MALFORMED.items()
}


@pytest.mark.parametrize(("data", "damage"), DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("whole", [True, False], ids=["read", "sought"])
def test_damage_is_told_with_its_place(data, damage, whole):
    assert walk(data, whole=whole)[1] == damage
    assert read_all(data, whole=whole)[1] == damage


@pytest.mark.parametrize("compression", Compression)
@pytest.mark.parametrize("broken", ["cut", "cut in the header", "flip", "rest"])
def test_a_broken_compressed_stream_is_damage_with_its_place_and_what_came_before_is_read(compression, broken):
    files = {f"{i}.jpg": random.Random(i).randbytes(30_000) for i in range(50)}  # more than one block of bzip2
    packed = PACK[compression](complete(files))
    half = len(packed) // 2
    data = {
        "cut": packed[:half],
        "cut in the header": packed[:12],
        "flip": flipped(packed, 8 * half),
        "rest": packed + b"rest",
    }[broken]
    for use in walk, read_all:
        found, damage = use(data, compression=compression)
        assert damage.startswith(f"{compression} stream is broken at byte ")
        place = int(damage.split("at byte ")[1].partition(":")[0])
        if broken == "cut" and compression is not Compression.BZIP2:  # its blocks have 900,000 bytes
            assert place > len(complete(files)) // 2 - 150_000
        if broken == "rest":
            assert place == len(complete(files))
        if use is read_all and broken != "flip":  # of which a checksum tells only at the end
            whole = [name for name, read in found.items() if read == files[name]]
            assert whole == list(files)[: len(whole)]
            assert len(whole) >= place // 30_720 - 1


def test_no_flip_in_a_gzip_body_goes_unnoticed():
    rng = random.Random(1)
    for _ in range(100):
        data = flipped(GZIPPED, rng.randrange(8 * 10, 8 * len(GZIPPED)))
        assert walk(data, compression=Compression.GZIP)[1] is not None


def test_gzip_in_several_members_is_one_archive():
    data = complete()
    assert read_all(gzip.compress(data[:1500]) + gzip.compress(data[1500:]), compression=Compression.GZIP) == (
        FILES,
        None,
    )
    members, damage = walk(gzip.compress(data) + gzip.compress(data), compression=Compression.GZIP)
    assert [member.name for member in members] == [*FILES, *FILES]
    assert damage is None


@pytest.mark.parametrize("compression", [None, *Compression])
@pytest.mark.parametrize("whole", [True, False], ids=["read", "sought"])
def test_archives_one_behind_another_are_read_as_gnu_tar_does_with_ignore_zeros(compression, whole):
    shared = extended(b"g", pax(path=b"all")) + header() + MARKER
    data = MARKER + complete() + bytes(6 * BLOCK) + shared + header() + MARKER + bytes(1000)
    packed = PACK[compression](data)
    members, damage = walk(packed, compression=compression, whole=whole)
    assert [member.name for member in members] == [*FILES, "all", "x.jpg"]
    assert damage is None


def test_the_first_block_of_a_tar_is_known():
    assert is_header(complete()[:BLOCK])
    assert is_header(bytes(BLOCK))
    for data in complete()[:100], b"x" * BLOCK, flipped(complete()[:BLOCK], 9):
        assert not is_header(data)


def test_a_gzip_bomb_is_not_unpacked():
    limit = tar.MAX_PACKED_MEMBER
    claim = header(b"bomb.jpg", size=b"%o" % (limit + 1))
    members, damage = walk(gzip.compress(header(b"a.jpg") + claim + bytes(2**20)), compression=Compression.GZIP)
    assert [m.name for m in members] == ["a.jpg"]
    assert damage == f"'bomb.jpg' at byte 512 claims {limit + 1} bytes inside gzip"
    assert walk(claim)[1] == "ends inside 'bomb.jpg' at byte 512"


@pytest.mark.parametrize("failures", [1, 100], ids=["once", "forever"])
def test_a_broken_stream_stays_broken_and_gives_what_came_before(failures):
    class Failing(io.BytesIO):
        left = failures

        def read(self, size=-1):
            if self.tell() >= 2 * BLOCK and self.left:
                self.left -= 1
                raise OSError(5, "Input/output error")
            return super().read(min(size, BLOCK))

    steps = TarWalk(Failing(complete()))
    assert [steps.read(member) for member in steps] == [b"A" * BLOCK]
    assert steps.damage == "cannot be read at byte 1024: [Errno 5] Input/output error"


def test_an_archive_cut_anywhere_is_complete_only_with_every_byte_and_the_marker():
    data = complete({f"{i}.jpg": b"x" * (i * 97) for i in range(9)}, "pax") + bytes(2000)
    needed = len(data) - 2000
    expected = walk(data)[0]
    assert len(data) > 9000
    for cut in range(0, len(data), 7):
        for options in {"whole": True}, {"whole": False}:
            members, damage = walk(data[:cut], **options)
            assert (damage is None) == (cut >= needed)
            assert members == expected[: len(members)]


def test_a_flipped_bit_in_a_header_never_goes_unnoticed():
    data = complete({f"{i:03}.jpg": b"x" * 300 for i in range(100)})
    expected = walk(data)
    assert expected[1] is None
    rng = random.Random(0)
    for _ in range(2000):
        byte = rng.randrange(BLOCK)
        changed = flipped(data, 8 * (1024 * rng.randrange(100) + byte) + rng.randrange(8))
        result = walk(changed, whole=False)
        # The checksum does not cover the zero and the space that end its own field, and they mean nothing.
        assert result[1] is not None or (148 <= byte < 156 and result == expected)


def test_a_flipped_bit_in_the_marker_or_the_padding_never_goes_unnoticed():
    data = complete() + bytes(BLOCK)
    for bit in range(8 * (len(data) - 3 * BLOCK), 8 * len(data), 5):
        assert walk(flipped(data, bit))[1] is not None


# --- files ----------------------------------------------------------------------------------------------------------

STORED = {
    "complete": complete() + bytes(7000),
    "data after the marker": complete() + b"x" * 3_000_000,
    "two archives": complete() + complete(),
    "damaged header": flipped(complete(), 8 * 100) + b"x" * 3_000_000,
    "cut": complete()[:1300],
    "empty": b"",
    "gzip": gzip.compress(complete()),
    "gzip with a damaged tar": gzip.compress(flipped(complete(), 800) + random.Random(0).randbytes(3_000_000)),
    "gzip with a flip": flipped(GZIPPED, 8 * 5000),
    "gzip with a rest": GZIPPED + b"x" * 3_000_000,
}


@pytest.mark.parametrize("data", STORED.values(), ids=STORED)
def test_the_hasher_gets_every_stored_byte_once(tmp_path, data):
    path = tmp_path / "shard"
    path.write_bytes(data)
    digests = []
    for read in False, True:
        hasher = hashlib.sha256()
        with open_tar(str(path), hasher=hasher) as steps:
            for member in steps:
                if read:
                    steps.read(member)
            digests.append(hasher.hexdigest())
    assert digests == [hashlib.sha256(data).hexdigest()] * 2


def hashed(data, **options):
    return TarWalk(HashedFile(io.BytesIO(data), hashlib.sha256()), **options)  # type: ignore[arg-type]


@given(st.lists(st.sampled_from(sorted(PIECES)), max_size=12))
def test_what_is_hashed_as_it_is_read_is_walked_as_any_file(names):
    data = b"".join(PIECES[name] for name in names)
    steps = hashed(data)
    read = [(member, steps.read(member)) for member in steps]
    assert ([member for member, _ in read], steps.damage) == walk(data)
    assert all(content == data[member.offset :][: member.size] for member, content in read)


def test_many_bytes_of_one_block_are_viewed_and_all_others_copied():
    sizes = {"small": VIEWED - 1, "many": VIEWED, "across": CHUNK - 2 * VIEWED, "over": 2 * CHUNK, "last": 3 * VIEWED}
    files = {name: random.Random(size).randbytes(size) for name, size in sizes.items()}
    steps = hashed(complete(files))
    read = {member.name: steps.view(member) for member in steps}
    assert steps.damage is None
    assert {name: bytes(content) for name, content in read.items()} == files
    assert [name for name, content in read.items() if isinstance(content, memoryview)] == ["many", "last"]
    again = iter(members := hashed(complete(files)))
    first = next(again)
    members.view(first)
    with pytest.raises(ValueError, match="read before"):
        members.view(first)


def test_what_cannot_be_viewed_is_read():
    data = complete({"a": bytes(2 * VIEWED)})
    for steps in TarWalk(io.BytesIO(data)), hashed(gzip.compress(data), compression=Compression.GZIP):
        assert [steps.view(member) for member in steps] == [bytes(2 * VIEWED)]
    cut = hashed(data[: BLOCK + VIEWED + 5])
    assert [cut.view(member) for member in cut] == [bytes(VIEWED + 5)]
    assert cut.damage == f"ends inside 'a' at byte {BLOCK + VIEWED + 5}"


@pytest.mark.parametrize("compress", PACK.values(), ids=map(str, PACK))
def test_every_member_is_read_back_by_its_place(tmp_path, compress):
    path = tmp_path / "shard.any"
    path.write_bytes(compress(complete(FILES | {"large.jpg": random.Random(0).randbytes(2_500_000)})))
    with open_tar(str(path)) as steps:
        read = {member: steps.read(member) for member in steps}
    assert steps.damage is None
    assert len(read) == 5
    for member, data in reversed(read.items()):
        assert read_member(str(path), member.offset, member.size) == data


@pytest.mark.parametrize("compress", PACK.values(), ids=map(str, PACK))
@pytest.mark.parametrize(
    ("offset", "size"), [(512, 10**15), (10**15, 10), (-1, 10), (512, -1)], ids=["size", "offset", "before", "negative"]
)
def test_a_place_outside_the_file_is_damage(tmp_path, compress, offset, size):
    path = tmp_path / "shard.tar"
    path.write_bytes(compress(complete()))
    with pytest.raises(HashgrainError, match=r"shard\.tar does not hold") as caught:
        read_member(str(path), offset, size)
    assert caught.value.reason is Reason.SHARD_DAMAGED


def test_no_place_makes_a_reader_hold_a_whole_shard(tmp_path, monkeypatch):
    monkeypatch.setattr(tar, "MAX_PACKED_MEMBER", 1000)
    for data in complete(), gzip.compress(complete()):
        path = tmp_path / "shard"
        path.write_bytes(data)
        monkeypatch.setattr(Source, "read", lambda source, size: pytest.fail(f"{size} bytes were asked for"))
        with pytest.raises(HashgrainError, match="does not hold"):
            read_member(str(path), 512, len(complete()) - 511)


def test_a_place_in_a_broken_gzip_file_is_damage(tmp_path):
    path = tmp_path / "shard.tar.gz"
    path.write_bytes(GZIPPED[: len(GZIPPED) // 2])
    with pytest.raises(HashgrainError, match="gzip stream is broken") as caught:
        read_member(str(path), 120_000, 3000)
    assert caught.value.reason is Reason.SHARD_DAMAGED


def test_a_file_that_is_not_there_is_told_as_such(tmp_path):
    def opened(path):
        with open_tar(str(path)):
            pass

    for use in opened, lambda path: read_member(str(path), 0, 1):
        for path in tmp_path / "missing.tar", tmp_path:
            with pytest.raises(HashgrainError, match="cannot open") as caught:
                use(path)
            assert caught.value.reason is Reason.SHARD_MISSING


def test_a_disk_that_does_not_give_what_a_file_holds_is_told():
    """Nothing can be read where the memory of a process begins: EIO."""
    with pytest.raises(HashgrainError, match="cannot read /proc/self/mem: Input/output error; give a file") as caught:
        read_member("/proc/self/mem", 0, 10)
    assert caught.value.reason is Reason.SHARD_MISSING

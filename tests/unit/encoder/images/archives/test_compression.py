import bz2
import io
import lzma
import struct
import tracemalloc

import pytest

from encoder.images.archives import compression as module
from encoder.images.archives.compression import HEAD_BYTES, Compression, Unpacked, compression_of
from tests.support.archives import PACK

DATA = bytes(range(256)) * 3000
SKIPPED = (
    struct.pack("<II", 0x184D2A53, 5) + b"hello"
)  # a frame of Zstandard that holds something else, as pzstd writes


def unpacked(data, compression, size=-1):
    stream = Unpacked(io.BytesIO(data), compression)
    return io.BufferedReader(stream, 1 << 20).read(size), stream.broken


@pytest.mark.parametrize("compression", Compression)
def test_a_compression_is_told_by_its_first_bytes(compression):
    for data in DATA, b"":
        assert compression_of(PACK[compression](data)[:HEAD_BYTES]) is compression


@pytest.mark.parametrize(
    "head", [b"", b"\x1f\x8b", b"BZh9 is a word", b"a.jpg" + bytes(99), b"PK\3\4", b"\x28\xb5\x2f"]
)
def test_what_is_not_compressed_is_told(head):
    assert compression_of(head) is None


@pytest.mark.parametrize("compression", Compression)
@pytest.mark.parametrize("between", [b"", bytes(8)], ids=["at once", "padded"])
def test_streams_one_behind_another_are_one_file(compression, between):
    packed = [PACK[compression](DATA[at : at + 100_000]) for at in range(0, len(DATA), 100_000)]
    assert unpacked(between.join(packed) + between, compression) == (DATA, None)


def test_frames_to_skip_are_skipped():
    pack = PACK[Compression.ZSTD]
    data = SKIPPED + pack(DATA[:9]) + SKIPPED + pack(DATA[9:]) + SKIPPED
    assert compression_of(data[:HEAD_BYTES]) is Compression.ZSTD
    assert unpacked(data, Compression.ZSTD) == (DATA, None)


@pytest.mark.parametrize("compression", Compression)
def test_at_every_cut_there_is_a_beginning_and_a_reason(compression):
    packed = PACK[compression](DATA[:2000])
    for cut in range(len(packed)):
        data, broken = unpacked(packed[:cut], compression)
        assert DATA.startswith(data)
        assert broken is not None


@pytest.mark.parametrize("compression", Compression)
def test_no_flip_yields_other_bytes_without_a_word(compression):
    packed = PACK[compression](DATA[:2000])
    for bit in range(8 * len(packed)):
        changed = bytearray(packed)
        changed[bit // 8] ^= 1 << bit % 8
        data, broken = unpacked(bytes(changed), compression)
        assert data == DATA[:2000] or broken is not None


@pytest.mark.parametrize("compression", Compression)
def test_a_bomb_stops_in_little_memory(compression, monkeypatch):
    monkeypatch.setattr(module, "FREE_BYTES", 1 << 20)
    monkeypatch.setattr(module, "MAX_RATIO", 100)
    stream = Unpacked(io.BytesIO(PACK[compression](bytes(50 << 20))), compression)
    tracemalloc.start()
    given = sum(iter(lambda: stream.readinto(bytearray(1 << 16)), 0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert stream.broken == "it unpacks to over 100 times its size"
    assert given < 12 << 20
    assert peak < 20 << 20


def test_what_hardly_shrinks_is_never_a_bomb_and_no_gzip_can_be_one(monkeypatch):
    monkeypatch.setattr(module, "FREE_BYTES", 0)
    data = bytes(20 << 20)
    assert unpacked(PACK[Compression.GZIP](data), Compression.GZIP) == (data, None)
    assert unpacked(PACK[Compression.BZIP2](data), Compression.BZIP2)[1] is not None


def test_a_stream_that_asks_for_gigabytes_is_broken():
    greedy = lzma.compress(b"x", filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}])
    assert "limit" in unpacked(greedy, Compression.XZ)[1]


def test_a_reader_that_asks_for_little_gets_all():
    stream = Unpacked(io.BytesIO(bz2.compress(DATA)), Compression.BZIP2)
    assert b"".join(iter(lambda: stream.read(777), b"")) == DATA

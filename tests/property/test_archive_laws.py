"""What holds of any archive: every member is accounted for, bytes come back by their places, and damage is never silent."""

import hashlib
import io
import re
import tarfile
import warnings
import zipfile
from collections import Counter
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from encoder.errors import HashgrainError, Reject
from encoder.images.archives.compression import Compression
from encoder.images.expand import expand
from encoder.images.readers.formats import read_image, reader_for
from encoder.images.readers.members import NO_IMAGE, MembersReader
from encoder.images.samples import Sample
from encoder.images.shards import Shard, ShardKind
from tests.support.archives import PACK
from tests.support.pictures import encoded

JPEG, PNG = encoded(0), encoded(1, "PNG")
STEMS = st.sampled_from(["a", "b/c", "../d", "e\n", "ä", "b/c.left", ".f", "__MACOSX/._g", "h.jpg", "/i", "j\\k"])
ENDINGS = st.sampled_from([".jpg", ".PNG", ".json", ".cls", ".txt", ".csv", "", ".v2", ".tar"])
NAMES = st.builds("{}{}".format, STEMS, ENDINGS) | st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20
).filter(lambda name: not name.endswith(("/", "\\")))
CONTENTS = st.sampled_from([JPEG, PNG, b"", b'{"n": 1}', b"{", b"7"]) | st.binary(max_size=600)
FILES = st.lists(st.tuples(NAMES, CONTENTS), max_size=12)


def tarred(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def zipped(files, method=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for name, data in files:
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return buffer.getvalue()


FORMATS = {
    ShardKind.TAR: tarred,
    ShardKind.TAR_GZ: lambda files: PACK[Compression.GZIP](tarred(files)),
    ShardKind.TAR_BZ2: lambda files: PACK[Compression.BZIP2](tarred(files)),
    ShardKind.TAR_XZ: lambda files: PACK[Compression.XZ](tarred(files)),
    ShardKind.TAR_ZST: lambda files: PACK[Compression.ZSTD](tarred(files)),
    ShardKind.ZIP: zipped,
}
MANY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "shard"


def read(kind, path):
    reader = reader_for(Shard("shard", kind, str(path)))
    entries = list(reader)
    return [entry for entry in entries if isinstance(entry, Sample)], entries, reader


@pytest.mark.parametrize("kind", FORMATS)
@MANY
@given(files=FILES)
def test_each_member_is_an_image_labels_or_counted_and_images_come_back(path, kind, files):
    path.write_bytes(FORMATS[kind](files))
    seen_labels = Counter[str]()
    reader = reader_for(Shard("shard", kind, str(path)))
    labels_of = MembersReader._labels

    def counting(self, walk, member):
        seen_labels[member.name] += 1
        return labels_of(self, walk, member)

    with mock.patch.object(MembersReader, "_labels", counting):
        samples = [entry for entry in reader if isinstance(entry, Sample)]
    alone = reader.skipped.pop(NO_IMAGE, 0)
    assert alone <= seen_labels.total()
    assert len(samples) + seen_labels.total() + reader.skipped.total() == len(files)
    assert [sample.ordinal for sample in samples] == list(range(reader.seen))
    assert (reader.damage, reader.sha256) == (None, hashlib.sha256(path.read_bytes()).hexdigest())
    stored = {data for _, data in files}
    keys = [sample.key for sample in samples if sample.reject is None]
    assert len(set(keys)) == len(keys)
    for sample in samples:
        assert sample.reject in {None, Reject.DUPLICATE_KEY}
        assert not re.search(r"[\x00-\x1f\x7f\ud800-\udfff]|^\.{0,2}/", sample.key)
        if sample.reject is None:
            assert sample.data in stored
            assert read_image(kind, str(path), sample.key, sample.offset, sample.size) == sample.data


@MANY
@given(
    rows=st.lists(
        st.tuples(st.sampled_from([JPEG, PNG, None, b"", b"text"]), NAMES | st.none(), st.integers() | st.none()),
        min_size=1,
        max_size=20,
    ),
    group=st.integers(1, 7),
)
def test_each_row_of_a_table_is_an_image_and_comes_back(path, rows, group):
    small = [None if number is None else number % 1000 for _, _, number in rows]
    column = pa.array(
        [{"bytes": data, "path": name} for data, name, _ in rows],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    pq.write_table(pa.table({"image": column, "n": pa.array(small, pa.int64())}), path, row_group_size=group)
    samples, _, reader = read(ShardKind.PARQUET, path)
    assert (reader.damage, reader.seen) == (None, len(rows))
    assert [sample.data for sample in samples] == [data or b"" for data, _, _ in rows]
    assert [sample.reject for sample in samples] == [Reject.EMPTY if data is None else None for data, _, _ in rows]
    assert [sample.labels.get("n") for sample in samples] == small
    assert len({sample.key for sample in samples}) == len(rows)
    for sample in samples:
        assert read_image(ShardKind.PARQUET, str(path), sample.key, sample.offset, sample.size) == sample.data


LAID = [("a.jpg", JPEG), ("a.json", b'{"n": 1}'), ("b/c.png", PNG), ("notes.md", b"x" * 99), ("IMG", JPEG + b"tail")]


def parquet():
    column = pa.array([{"bytes": data, "path": name} for name, data in LAID])
    buffer = io.BytesIO()
    pq.write_table(pa.table({"image": column}), buffer, row_group_size=2, write_page_checksum=True)
    return buffer.getvalue()


WHOLE = {kind: pack(LAID) for kind, pack in FORMATS.items()} | {ShardKind.PARQUET: parquet()}
CHECKED = [ShardKind.ZIP, ShardKind.PARQUET, ShardKind.TAR_BZ2, ShardKind.TAR_XZ]
"""Formats with a checksum for each piece, which is right or wrong before its bytes are given out."""


def survives(kind, path, data):
    """Read what was broken, and read back what it gives; return the images and what is told of the whole."""
    path.write_bytes(data)
    samples, _, reader = read(kind, path)
    whole = [sample for sample in samples if sample.reject is None]
    for sample in whole[:2]:
        try:
            assert read_image(kind, str(path), sample.key, sample.offset, sample.size) == sample.data
        except HashgrainError:
            assert (
                reader.damage is not None or kind is ShardKind.ZIP
            )  # whose own headers may be broken beside a whole directory
    return whole, reader


@pytest.mark.parametrize("kind", WHOLE)
@MANY
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_cut_anywhere_is_damage_and_what_came_before_is_true(path, kind, share):
    data = WHOLE[kind]
    cut = int(share * len(data))
    # behind the marker of a plain tar only zeros are lost
    whole, reader = survives(kind, path, data[:cut])
    complete = kind is ShardKind.TAR and cut >= len(data.rstrip(b"\0")) + 1024
    assert reader.damage is not None or complete or (kind is ShardKind.TAR and not any(data[cut:]))
    assert {sample.data for sample in whole} <= {data for _, data in LAID}


@pytest.mark.parametrize("kind", WHOLE)
@MANY
@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flip_anywhere_is_never_a_crash_and_where_there_is_a_checksum_never_silent(path, kind, share, bit):
    data = bytearray(WHOLE[kind])
    data[int(share * len(data))] ^= 1 << bit
    whole, reader = survives(kind, path, bytes(data))
    if kind in CHECKED and reader.damage is None:
        assert {sample.data for sample in whole} <= {data for _, data in LAID} | {b""}
    if kind in {ShardKind.TAR_GZ, ShardKind.TAR_ZST} and reader.damage is None:
        assert [sample.data for sample in whole] == [JPEG, PNG, JPEG + b"tail"]


@MANY
@given(
    data=st.binary(max_size=2000),
    head=st.sampled_from(
        [b"", b"PK\3\4", b"PK\5\6", b"PAR1", b"\x1f\x8b\x08", b"BZh91AY&SY", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"]
    ),
)
@pytest.mark.parametrize("ending", [".tar", ".zip", ".parquet", ".tgz", ""])
def test_noise_under_any_name_is_damage_or_refused(tmp_path, ending, head, data):
    file = tmp_path / f"noise{ending}"
    file.write_bytes(head + data)
    try:
        [shard] = expand([str(file)])
    except HashgrainError:
        return
    if shard.kind is not ShardKind.FILES:
        reader = reader_for(shard)
        assert list(reader) == [] or reader.damage is not None

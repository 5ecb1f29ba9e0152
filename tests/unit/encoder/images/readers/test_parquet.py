import datetime as dt
import decimal
import hashlib
import io
import json
import os
import random
import signal

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from encoder.errors import HashgrainError, Reason, Reject
from encoder.images.archives import image_table
from encoder.images.expand import expand
from encoder.images.limits import Limits
from encoder.images.readers.formats import kind_of, read_image, reader_for
from encoder.images.readers.parquet import has_images
from encoder.images.samples import Sample
from encoder.images.shards import ShardKind
from tests.support.pictures import encoded

PICTURES = [encoded(n) for n in range(7)]
FEATURES = {
    "image": {"_type": "Image"},
    "label": {"names": ["cat", "dog", "cow"], "_type": "ClassLabel"},
    "several": {"feature": {"names": ["red", "blue"], "_type": "ClassLabel"}, "_type": "Sequence"},
}


def images(pictures=PICTURES, paths=None):
    paths = paths or [f"{n}.jpg" for n in range(len(pictures))]
    return pa.array(
        [{"bytes": data, "path": path} for data, path in zip(pictures, paths, strict=True)],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )


def write(path, columns, features=None, **options):
    table = pa.table(columns)
    if features:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, **({"row_group_size": 3} | options))
    return path


def read(path, **options):
    [shard] = expand([str(path)])
    assert shard.kind is ShardKind.PARQUET
    reader = reader_for(shard, **options)
    return list(reader.images()), reader


def test_rows_of_a_dataset_are_images_with_labels_and_names_of_classes(tmp_path):
    path = write(
        tmp_path / "train-00000-of-00001.parquet",
        {"image": images(), "label": [0, 1, 2, 1, 0, 7, None], "several": [[0, 1], [], None, [1], [9], [0], [1]]},
        FEATURES,
    )
    samples, reader = read(path)
    assert [(sample.ordinal, sample.key, sample.data) for sample in samples] == [
        (n, f"{n}.jpg", PICTURES[n]) for n in range(7)
    ]
    assert [sample.labels.get("label_name") for sample in samples] == ["cat", "dog", "cow", "dog", "cat", None, None]
    assert [sample.labels.get("label") for sample in samples] == [0, 1, 2, 1, 0, 7, None]
    assert samples[0].labels["several_name"] == ("red", "blue")
    assert (reader.seen, reader.damage, reader.bad_labels.count) == (7, None, 0)
    assert reader.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    for sample in reversed(samples):
        assert read_image(reader.kind, reader.shard.path, sample.key, sample.offset, sample.size) == sample.data


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()], ids=str)
@pytest.mark.parametrize("name", ["jpg", "whatever"])
def test_a_column_of_bytes_is_found_by_what_it_holds(tmp_path, kind, name):
    masks = pa.array([b"no picture"] * 7)
    path = write(tmp_path / "a.parquet", {"image": masks, name: pa.array(PICTURES, kind)})
    samples, reader = read(path)
    assert [sample.data for sample in samples] == PICTURES
    assert [sample.key for sample in samples] == [f"a-{n}" for n in range(7)]
    assert [read_image(reader.kind, str(path), "", s.offset, s.size) for s in samples] == PICTURES


def test_of_several_columns_of_images_the_likeliest_name_is_taken(tmp_path):
    others = pa.array([encoded(n) for n in range(50, 57)])
    samples, _ = read(write(tmp_path / "a.parquet", {"thumbnail": others, "img": pa.array(PICTURES)}))
    assert [sample.data for sample in samples] == PICTURES


@pytest.mark.parametrize(
    ("paths", "columns", "keys"),
    [
        (["a", "a"], {"id": [5, 6]}, ["5", "6"]),
        (["a", None], {"id": [5, 5], "filename": ["x/1.jpg", "../2\n.jpg"]}, ["x/1.jpg", "2\\x0a.jpg"]),
        (["", "b"], {"key": ["", "c"]}, ["s-0", "s-1"]),
        (["b", "a"], {"id": [1, 2]}, ["b", "a"]),
        (["a", "a"], {"id": [1.5, 2.5]}, ["s-0", "s-1"]),
    ],
    ids=["id", "file name", "none", "path", "not a name"],
)
def test_keys_are_paths_where_they_tell_rows_apart_else_a_column_that_does_else_numbers(tmp_path, paths, columns, keys):
    path = write(tmp_path / "s.parquet", {"image": images(PICTURES[:2], paths)} | columns)
    assert [sample.key for sample in read(path)[0]] == keys


def test_columns_of_all_types_become_labels_or_are_named(tmp_path):
    columns = {
        "text": ["x"], "number": [1.5], "big": pa.array([2**64 - 1], pa.uint64()), "yes": [True],
        "day": [dt.date(2024, 2, 3)], "moment": pa.array([0], pa.timestamp("s")),
        "price": [decimal.Decimal("1.50")], "tags": [["a", "b"]], "size": [{"w": 1, "h": 2}],
        "class": pa.array(["cat"]).dictionary_encode(), "boxes": [[[1.0, 2.0]]], "nothing": [None],
        "raw": [b"x"],
    }  # fmt: skip
    [sample], reader = read(write(tmp_path / "a.parquet", {"image": images(PICTURES[:1])} | columns))
    assert sample.labels == {
        "text": "x", "number": 1.5, "big": str(2**64 - 1), "yes": True, "day": "2024-02-03",
        "moment": "1970-01-01T00:00:00", "price": 1.5, "tags": ("a", "b"), "size.w": 1, "size.h": 2, "class": "cat",
    }  # fmt: skip
    assert [bad.name for bad in reader.bad_labels.first] == ["boxes"]


def test_text_that_is_not_utf_8_is_kept_with_marks(tmp_path):
    raw = pa.array([b"caf\xe9", b"x"])
    text = pa.Array.from_buffers(pa.string(), 2, raw.buffers())
    samples, _ = read(write(tmp_path / "a.parquet", {"image": images(PICTURES[:2]), "name": text, "id": text}))
    assert [sample.labels["name"] for sample in samples] == ["caf\ufffd", "x"]


def test_rows_without_an_image_and_large_ones_are_rejects(tmp_path):
    pictures = [PICTURES[0], None, b"", b"\xff\xd8\xff" + bytes(5000)]
    samples, reader = read(write(tmp_path / "a.parquet", {"image": images(pictures)}), limits=Limits(max_bytes=4000))
    assert [sample.reject for sample in samples] == [None, Reject.EMPTY, None, Reject.TOO_LARGE]
    assert (reader.seen, samples[2].data) == (4, b"")


def test_rows_whose_record_is_missing_are_rejects(tmp_path):
    column = pa.array([{"bytes": PICTURES[0], "path": "a"}, None], images().type)
    assert [sample.reject for sample in read(write(tmp_path / "a.parquet", {"image": column}))[0]] == [
        None,
        Reject.EMPTY,
    ]


def test_a_sampling_pass_has_only_the_bytes_that_are_wanted(tmp_path):
    path = write(tmp_path / "a.parquet", {"image": images(), "label": list(range(7))})
    [shard] = expand([str(path)])
    reader = reader_for(shard, wanted={1, 6}.__contains__)
    samples = [entry for entry in reader if isinstance(entry, Sample)]
    assert [(sample.ordinal, sample.data) for sample in samples if sample.data] == [(1, PICTURES[1]), (6, PICTURES[6])]
    assert [sample.key for sample in samples] == [f"{n}.jpg" for n in range(7)]
    assert (reader.seen, reader.sha256) == (7, "")


def test_a_row_group_is_read_some_rows_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(image_table, "BATCH_BYTES", 3000)
    path = write(tmp_path / "a.parquet", {"image": images()}, row_group_size=100, compression="none")
    with image_table.open_table(str(path)) as table:
        assert table._batch_rows(0) == 2
    samples, reader = read(path)
    assert [sample.data for sample in samples] == PICTURES
    assert [read_image(reader.kind, str(path), "", s.offset, s.size) for s in samples] == PICTURES


def test_what_has_no_image_column_is_not_a_shard(tmp_path):
    urls = write(tmp_path / "urls.parquet", {"url": ["https://example.org/a.jpg"], "raw": [b"text"]})
    assert not has_images(str(urls))
    assert kind_of(str(urls)) is None
    (tmp_path / "train.bin").write_bytes(write(tmp_path / "a.parquet", {"image": images()}).read_bytes())
    assert kind_of(str(tmp_path / "train.bin")) is ShardKind.PARQUET


def test_a_broken_row_group_is_damage_and_the_others_are_read(tmp_path):
    pictures = [random.Random(n).randbytes(4000) for n in range(9)]
    path = write(
        tmp_path / "a.parquet",
        {"image": images([b"\xff\xd8\xff" + data for data in pictures])},
        write_page_checksum=True,
    )
    data = bytearray(path.read_bytes())
    data[data.index(pictures[4]) + 500] ^= 1
    path.write_bytes(data)
    samples, reader = read(path)
    assert reader.damage.startswith("row group 1 is broken")
    assert [sample.offset for sample in samples] == [0, 1, 2, 6, 7, 8]
    with pytest.raises(HashgrainError, match="row group 1 is broken") as caught:
        read_image(reader.kind, str(path), "", 4, 4003)
    assert caught.value.reason is Reason.SHARD_DAMAGED


def test_a_column_whose_footer_contradicts_itself_is_damage_and_never_ends_the_process(tmp_path):
    path = write(tmp_path / "a.parquet", {"image": images()})
    data = path.read_bytes()
    # one bit of its schema; the counts of levels of its statistics stay
    optional, required = b"\x25\x02\x18\x05bytes", b"\x25\x00\x18\x05bytes"
    assert data.count(optional) == 1
    path.write_bytes(data.replace(optional, required))
    samples, reader = read(path)
    assert samples == []
    assert "row group 0 is broken" in reader.damage


def test_a_process_that_is_ended_by_a_shard_damages_that_shard_alone(tmp_path, monkeypatch):
    path = write(tmp_path / "a.parquet", {"image": images()})
    rows = image_table.ImageTable.rows

    def killed(table, group, key, **options):
        if group == 1:
            os.kill(table._parquet._reader.process.pid, signal.SIGKILL)
        return rows(table, group, key, **options)

    with monkeypatch.context() as patch:
        patch.setattr(image_table.ImageTable, "rows", killed)
        samples, reader = read(path)
    assert [sample.data for sample in samples] == PICTURES[:3]
    assert reader.damage == "row group 1 is broken: the process that read it ended by SIGKILL"
    assert reader.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [sample.data for sample in read(path)[0]] == PICTURES


@pytest.mark.parametrize("claimed", [2, 4])
def test_a_row_group_that_has_fewer_or_more_rows_than_its_footer_says_is_damage(tmp_path, claimed):
    path = write(tmp_path / "a.parquet", {"image": images()})
    with image_table.open_table(str(path)) as table:
        table.groups[1] = range(3, 3 + claimed)
        with pytest.raises(image_table.TableError, match="row group 1 is broken: it (has more|ends at)"):
            list(table.rows(1, None))


def test_a_cut_file_is_damage(tmp_path):
    path = write(tmp_path / "a.parquet", {"image": images()})
    path.write_bytes(path.read_bytes()[:-9])
    samples, reader = read(path)
    assert samples == []
    assert reader.damage.startswith("its footer is broken")


def test_more_rows_than_bytes_are_not_believed(tmp_path):
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 500_000, pa.int32()), pa.array([PICTURES[0]]))
    path = write(tmp_path / "a.parquet", {"image": column}, row_group_size=500_000)
    assert "500,000 rows" in read(path)[1].damage


@pytest.mark.parametrize(("row", "size"), [(7, 10), (10**15, 10), (0, 10)])
def test_a_place_that_is_none_is_damage(tmp_path, row, size):
    path = write(tmp_path / "a.parquet", {"image": images()})
    with pytest.raises(HashgrainError, match="does not hold") as caught:
        read_image(ShardKind.PARQUET, str(path), "", row, size)
    assert caught.value.reason is Reason.SHARD_DAMAGED


def test_a_file_that_is_not_there_is_told_as_such(tmp_path):
    with pytest.raises(HashgrainError, match="cannot") as caught:
        read_image(ShardKind.PARQUET, str(tmp_path / "gone.parquet"), "", 0, 1)
    assert caught.value.reason is Reason.SHARD_MISSING


def test_a_file_at_a_url_is_read_and_its_images_are_read_back():
    buffer = io.BytesIO()
    pq.write_table(pa.table({"image": images(), "label": list(range(7))}), buffer, row_group_size=3)
    fsspec.filesystem("memory").pipe("/tables/a.parquet", buffer.getvalue())
    samples, reader = read("memory://tables/a.parquet")
    assert [sample.data for sample in samples] == PICTURES
    assert reader.sha256 == hashlib.sha256(buffer.getvalue()).hexdigest()
    assert read_image(reader.kind, reader.shard.path, "", samples[5].offset, samples[5].size) == PICTURES[5]

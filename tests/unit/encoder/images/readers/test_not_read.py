import io
import pickle
import sqlite3

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from encoder.errors import HashgrainError, Reason
from encoder.images.expand import expand
from encoder.images.readers.formats import ARCHIVE_SUFFIXES
from encoder.images.readers.not_read import NOT_READ, why_not_read
from tests.support.pictures import encoded, write_tar


class Trap:
    """What a pickle of a stranger can do."""

    def __reduce__(self):
        return open, ("/proc/self/oom_score_adj", "r")


def array(pixels):
    file = io.BytesIO()
    np.save(file, pixels)
    return file.getvalue()


def hdf5():
    file = io.BytesIO()
    with h5py.File(file, "w") as stored:
        stored["x"] = [1]
    return file.getvalue()


def table():
    file = io.BytesIO()
    pq.write_table(pa.table({"url": ["https://example.org/a.jpg"]}), file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("data_batch_1", pickle.dumps({"data": [1]}, protocol=2), "a pickle, which can run code"),
        ("test.pkl", pickle.dumps(Trap()), "a pickle, which can run code"),
        ("x_train", array(np.zeros((2, 4, 4, 3), np.uint8)), "numpy.load('x_train')"),
        ("x.npz", b"PK\3\4", "an array of pixels"),
        ("a.tfrecord-00000-of-00001.tfrecord", b"x" * 40, "TFRecord"),
        ("data.mdb", bytes(16) + b"\xde\xc0\xef\xbe", "LMDB"),
        ("images.h5", hdf5(), "HDF5"),
        ("set.rar", b"Rar!\x1a\7\1\0", "7z x"),
        ("set", b"7z\xbc\xaf\x27\x1c", "7z x"),
        ("urls.parquet", table(), "img2dataset.download('urls.parquet', input_format='parquet', "),
        ("urls.csv", b"url\nhttps://example.org/a.jpg\n", "img2dataset"),
        ("film.mp4", b"\0\0\0\x18ftypisom", "ffmpeg -i 'film.mp4'"),
        ("train-images-idx3-ubyte", b"\0\0\x08\3\0\0\0\1", "MNIST"),
        ("train.rec", b"\x0a\x23\xd7\xce", "RecordIO"),
        ("model.pt", b"x", "a model"),
    ],
)  # fmt: skip
def test_each_is_refused_in_one_line_with_a_way_out(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(HashgrainError) as caught:
        expand([str(tmp_path / name)])
    assert caught.value.reason is Reason.SHARD_MISSING
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / name} is a") or " is " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_nobody_knows_has_no_line(tmp_path):
    sqlite3.connect(tmp_path / "a.db").close()
    (tmp_path / "b.unknown").write_bytes(b"hello")
    assert [why_not_read(str(tmp_path / name)) for name in ("a.db", "b.unknown")] == [None, None]


def test_in_a_folder_they_are_left_out_and_counted(tmp_path):
    write_tar(tmp_path / "a.tar", [("a.jpg", encoded(0)), ("inner.tar", b"x")])
    (tmp_path / "a.parquet").write_bytes(table())
    (tmp_path / "b.pkl").write_bytes(b"x")
    found = expand([str(tmp_path)])
    assert [shard.name for shard in found] == ["a"]
    assert found.skipped == {".parquet": 1, ".pkl": 1}


def test_nothing_is_both_read_and_not_read():
    assert set(NOT_READ) & set(ARCHIVE_SUFFIXES) == {".parquet"}  # with a column of images, or without


def test_a_disk_that_does_not_give_what_a_file_holds_is_told():
    """Nothing can be read where the memory of a process begins: EIO."""
    with pytest.raises(HashgrainError, match="cannot read /proc/self/mem: Input/output error; give a file") as caught:
        why_not_read("/proc/self/mem")
    assert caught.value.reason is Reason.SHARD_MISSING

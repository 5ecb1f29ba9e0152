import hashlib
import zipfile

import fsspec
import pytest

from encoder.errors import Reject
from encoder.images.expand import expand
from encoder.images.limits import Limits
from encoder.images.readers.formats import read_image, reader_for
from encoder.images.samples import LateLabels, Sample
from encoder.images.shards import ShardKind
from tests.support.archives import zipped
from tests.support.pictures import encoded

FILES = [
    ("cats/1.jpg", encoded(0)),
    ("cats/1.png", encoded(1, "PNG")),
    ("cats/1.json", b'{"fine": 1}'),
    ("__MACOSX/cats/._1.jpg", b"\0\5\x16\7"),
    ("dogs\n/2.jpg", encoded(2)),
    ("../up.jpg", encoded(3)),
    ("IMG_1", encoded(4)),
    ("cats/", b""),
    ("README", b"x"),
    ("cats/1.cls", b"7"),
    ("IMG_1.json", b'{"fine": 2}'),
    ("cats/1.jpg.cls", b"8"),
    ("up.jpg.json", b'{"fine": 3}'),
    ("alone.txt", b"x"),
]


def read(path, **options):
    [shard] = expand([str(path)])
    assert shard.kind is ShardKind.ZIP
    reader = reader_for(shard, **options)
    return list(reader), reader


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_of_photos_has_whole_names_as_keys_and_its_images_are_read_back(tmp_path, method):
    (tmp_path / "set.zip").write_bytes(zipped(FILES, method))
    entries, reader = read(tmp_path / "set.zip")
    samples = [entry for entry in entries if isinstance(entry, Sample)]
    assert [(sample.key, sample.labels) for sample in samples] == [
        ("cats/1.jpg", {"folder": "cats"}),
        ("cats/1.png", {"folder": "cats", "fine": 1}),
        ("dogs\\x0a/2.jpg", {"folder": "dogs\\x0a"}),
        ("up.jpg", {}),
        ("IMG_1", {"fine": 2}),
    ]
    late = [(entry.key, entry.labels) for entry in entries if isinstance(entry, LateLabels)]
    assert late == [
        ("cats/1.jpg", {"fine": 1}),
        ("cats/1.jpg", {"cls": 7}),
        ("cats/1.png", {"cls": 7}),
        ("cats/1.jpg", {"cls": 8}),
        ("up.jpg", {"fine": 3}),
    ]
    assert reader.skipped == {"system file": 1, "no ending": 1, "label file without an image": 1}
    assert (reader.seen, reader.damage) == (5, None)
    assert reader.sha256 == hashlib.sha256((tmp_path / "set.zip").read_bytes()).hexdigest()
    for sample in samples:
        assert read_image(reader.kind, reader.shard.path, sample.key, sample.offset, sample.size) == sample.data


def test_a_zip_is_known_by_its_first_bytes(tmp_path):
    (tmp_path / "set.tar").write_bytes(zipped(FILES))
    assert read(tmp_path / "set.tar")[1].seen == 5


def test_limits_and_damage_are_told(tmp_path):
    (tmp_path / "set.zip").write_bytes(zipped([("a.jpg", encoded(0)), ("b.jpg", bytes(5000))])[:3000])
    samples, reader = read(tmp_path / "set.zip", limits=Limits(max_bytes=4000))
    assert [sample.reject for sample in samples] == [None, Reject.TOO_LARGE]
    assert reader.damage is not None


def test_a_sampling_pass_reads_only_what_is_wanted(tmp_path):
    (tmp_path / "set.zip").write_bytes(zipped([(f"{n}.jpg", encoded(n)) for n in range(9)]))
    samples, reader = read(tmp_path / "set.zip", wanted={2, 5}.__contains__)
    assert [sample.data for sample in samples if sample.data] == [encoded(2), encoded(5)]
    assert (reader.seen, reader.sha256) == (9, "")


def test_a_zip_at_a_url_is_read_and_its_images_are_read_back():
    system = fsspec.filesystem("memory")
    system.pipe("/zips/set.zip", zipped(FILES))
    samples, reader = read("memory://zips/set.zip")
    assert [sample.data for sample in reader_for(reader.shard).images()] == [FILES[at][1] for at in (0, 1, 4, 5, 6)]
    assert reader.sha256 == hashlib.sha256(zipped(FILES)).hexdigest()
    assert read_image(reader.kind, reader.shard.path, "", samples[0].offset, samples[0].size) == samples[0].data

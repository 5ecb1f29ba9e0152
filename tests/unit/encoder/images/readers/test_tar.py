import hashlib
import io
import json
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from encoder.errors import Reject
from encoder.images.expand import expand
from encoder.images.labels import sidecars
from encoder.images.labels.sidecars import MAX_SIDECAR_BYTES
from encoder.images.limits import Limits
from encoder.images.readers.formats import read_image, reader_for
from encoder.images.readers.members import NO_IMAGE
from encoder.images.samples import LateLabels, Sample
from encoder.images.shards import ShardKind
from tests.support.archives import PACK
from tests.support.pictures import encoded, write_tar


def read(path, **options):
    reader = reader_for(expand([str(path)])[0], **options)
    return list(reader), reader


def test_labels_come_from_json_and_cls_wherever_they_stand(tmp_path):
    files = [
        ("early.json", b'{"fine": 1}'),
        ("early.jpg", encoded(0)),
        ("near.jpg", encoded(1)),
        ("near.cls", b"7\n"),
        ("near.txt", b"a caption"),
        (
            "near.json",
            json.dumps({"name": "x", "nested": {}, "list": [1], "float": 1.5, "yes": True, "none": None}).encode(),
        ),
        ("far.jpg", encoded(2)),
        ("last.png", encoded(3, "PNG")),
        ("far.cls", b"dog"),
    ]
    entries, reader = read(write_tar(tmp_path / "a.tar", files))
    samples = {entry.key: entry for entry in entries if isinstance(entry, Sample)}
    assert {key: sample.labels for key, sample in samples.items()} == {
        "early": {"fine": 1}, "near": {"cls": 7, "caption": "a caption", "name": "x", "list": ("1",), "float": 1.5, "yes": True},
        "far": {}, "last": {},
    }  # fmt: skip
    assert [entry for entry in entries if isinstance(entry, LateLabels)] == [LateLabels("far", {"cls": "dog"})]
    assert (reader.seen, reader.bad_labels.count, reader.damage) == (4, 0, None)
    assert reader.sha256 == hashlib.sha256((tmp_path / "a.tar").read_bytes()).hexdigest()


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff", b"3", b"[" * 100_000, b" " * (MAX_SIDECAR_BYTES + 1)])
def test_a_bad_sidecar_costs_the_labels_not_the_image(tmp_path, content):
    [sample], reader = read(write_tar(tmp_path / "a.tar", [("a.jpg", encoded(0)), ("a.json", content)]))
    assert (sample.labels, sample.reject, reader.bad_labels.count) == ({}, None, 1)


def test_labels_are_bounded(tmp_path):
    fields = {"big": 2**70, "long": "x" * 5000, "lone": "\ud800"}
    [sample], _ = read(write_tar(tmp_path / "a.tar", [("a.jpg", encoded(0)), ("a.json", json.dumps(fields).encode())]))
    assert sample.labels == {"big": str(2**70), "long": "x" * 1024, "lone": "?"}


def special_tar(path):
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:

        def add(name, type_=tarfile.REGTYPE, data=b"", link=""):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = type_, link, len(data)
            tar.addfile(info, io.BytesIO(data))

        add("good.jpg", data=encoded(0))
        add("soft.jpg", tarfile.SYMTYPE, link="/etc/passwd")
        add("hard.jpg", tarfile.LNKTYPE, link="good.jpg")
        add("/abs.jpg", data=encoded(1))
        add("../up.jpg", data=encoded(2))
        add("a/../../up.jpg", data=encoded(2))
        add("new\nline.jpg", data=encoded(2))
        add("fifo.jpg", tarfile.FIFOTYPE)
        add("folder.jpg", tarfile.DIRTYPE)
        add("good.png", data=encoded(3))
        add("big.jpg", data=b"x" * 3000)
        add("notes.md", data=b"ignored")
        add("./dot.jpg", data=encoded(4))
    return path


def test_members_that_are_no_plain_images_have_a_reason_each(tmp_path):
    samples, reader = read(special_tar(tmp_path / "a.tar"), limits=Limits(max_bytes=2500))
    assert [(sample.key.rpartition("/")[2], sample.reject) for sample in samples] == [
        ("good", None),
        ("soft", Reject.LINK),
        ("hard", Reject.LINK),
        ("abs", None),
        ("up", None),
        ("up", None),
        ("new\\x0aline", None),
        ("fifo", Reject.NOT_A_FILE),
        ("good", Reject.DUPLICATE_KEY),
        ("big", Reject.TOO_LARGE),
        ("dot", None),
    ]
    assert reader.seen == len(samples)
    assert all(sample.data == b"" for sample in samples if sample.reject)


def test_a_cut_member_is_rejected_and_the_shard_damaged(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("a.jpg", encoded(0)), ("b.jpg", encoded(1))])
    whole = path.read_bytes()
    path.write_bytes(whole[: 512 + 1024 + 512 + 300])
    samples, reader = read(path)
    assert [(sample.key, sample.reject) for sample in samples][-1] == ("b", Reject.TRUNCATED)
    assert reader.damage is not None
    assert reader.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_sampling_pass_reads_only_what_is_wanted(tmp_path, mode):
    path = write_tar(tmp_path / "a.tar", [(f"{n}.jpg", encoded(n)) for n in range(9)], mode)
    samples, reader = read(path, wanted={2, 5}.__contains__)
    assert [sample.ordinal for sample in samples if sample.data] == [2, 5]
    assert [sample.data for sample in samples if sample.data] == [encoded(2), encoded(5)]
    assert (reader.seen, reader.sha256) == (9, "")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_place_leads_back_to_the_bytes(tmp_path, mode):
    path = write_tar(tmp_path / "a.tar", [(f"{n}.jpg", encoded(n)) for n in range(5)], mode)
    shard = expand([str(path)])[0]
    for number, sample in enumerate(reader_for(shard)):
        assert isinstance(sample, Sample)
        assert read_image(shard.kind, shard.path, "", sample.offset, sample.size) == encoded(number)


def test_labels_before_their_images_wait_in_any_number(tmp_path):
    count = 3000
    files = [(f"{n}.json", b'{"fine": %d}' % n) for n in range(count)]
    files += [(f"{n}.jpg", encoded(n % 7)) for n in range(count)]
    samples, reader = read(write_tar(tmp_path / "a.tar", files))
    assert [sample.labels for sample in samples] == [{"fine": n} for n in range(count)]
    assert (reader.bad_labels.count, reader.skipped) == (0, {})


def test_labels_that_wait_take_bounded_memory_and_those_beyond_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(sidecars, "MAX_WAITING", 40_000)
    files = [(f"{n}.json", json.dumps({"text": "x" * 900}).encode()) for n in range(100)]
    samples, reader = read(write_tar(tmp_path / "a.tar", [*files, *((f"{n}.jpg", encoded(0)) for n in range(100))]))
    labelled = sum(bool(sample.labels) for sample in samples)
    assert 10 < labelled < 30
    assert (reader.bad_labels.count, reader.skipped) == (100 - labelled, {})
    assert "of other labels" in reader.bad_labels.first[0].why


def test_labels_that_come_for_no_image_are_counted(tmp_path):
    files = [("README.txt", b"read me"), ("a.jpg", encoded(0)), ("b.json", b"{}"), ("b.cls", b"1"), ("a.cls", b"2")]
    [sample], reader = read(write_tar(tmp_path / "a.tar", files))
    assert sample.labels == {"cls": 2}
    assert reader.skipped == {NO_IMAGE: 1}
    assert [bad.name for bad in reader.bad_labels.first] == ["b.json", "b.cls"]


def test_what_has_no_image_name_is_told_by_its_first_bytes_and_the_rest_is_counted(tmp_path):
    files = [
        ("photos/IMG_0001", encoded(1)),
        ("photos/IMG_0001.json", b'{"fine": 1}'),
        ("img.0001", encoded(2, "PNG")),
        ("img.0002", encoded(3, "WEBP")),
        ("LICENSE", b"do what you like"),
        ("empty", b""),
        ("a.npy", encoded(4)),
        ("__MACOSX/._a.jpg", b"\0\5\x16\7"),
        ("sub/._b.jpg", b"\0\5\x16\7"),
        (".DS_Store", b"x"),
    ]
    samples, reader = read(write_tar(tmp_path / "a.tar", files))
    assert [(sample.key, sample.labels, sample.data) for sample in samples] == [
        ("photos/IMG_0001", {"folder": "photos", "fine": 1}, encoded(1)),
        ("img.0001", {}, encoded(2, "PNG")),
        ("img.0002", {}, encoded(3, "WEBP")),
    ]
    assert reader.skipped == {"no ending": 2, ".npy": 1, "system file": 3}
    for sample in samples:
        assert read_image(reader.kind, reader.shard.path, sample.key, sample.offset, sample.size) == sample.data


def test_folders_are_labels_and_label_files_win(tmp_path):
    files = [
        ("animals/cats/1.jpg", encoded(0)),
        ("animals/cats/1.json", b'{"folder": "mine"}'),
        ("dogs/2.json", b'{"folder": "early"}'),
        ("dogs/2.jpg", encoded(1)),
        ("dogs/3.jpg", encoded(2)),
    ]
    samples, _ = read(write_tar(tmp_path / "a.tar", files))
    assert [sample.labels for sample in samples] == [
        {"folder": "mine", "folder_1": "animals", "folder_2": "cats"},
        {"folder": "early"},
        {"folder": "dogs"},
    ]


def test_images_without_a_name_count_in_a_sampling_pass(tmp_path):
    files = [("one", encoded(0)), ("not", b"text"), ("two", encoded(1)), ("c.jpg", encoded(2)), ("three", encoded(3))]
    samples, _ = read(write_tar(tmp_path / "a.tar", files), wanted={1, 3}.__contains__)
    assert [(sample.key, sample.data) for sample in samples] == [
        ("one", b""), ("two", encoded(1)), ("c", b""), ("three", encoded(3)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "ending", ["tar", "tar.gz", "tgz", "tar.bz2", "tbz2", "tbz", "tar.xz", "txz", "tar.zst", "tzst"]
)
@pytest.mark.parametrize("compression", PACK, ids=str)
def test_any_compression_is_read_under_any_name_and_read_back(tmp_path, ending, compression):
    files = [(f"{n}.jpg", encoded(n)) for n in range(3)]
    path = tmp_path / f"set.{ending}"
    path.write_bytes(PACK[compression](write_tar(tmp_path / "plain", files).read_bytes()))
    [shard] = expand([str(path)])
    assert shard.name == "set"
    samples, reader = read(path)
    assert [sample.data for sample in samples] == [data for _, data in files]
    assert (reader.damage, reader.sequential) == (None, compression is not None)
    assert reader.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    for sample in samples:
        assert read_image(shard.kind, shard.path, sample.key, sample.offset, sample.size) == sample.data


def test_the_output_of_img2dataset_is_read_as_it_is(tmp_path):
    rows = [
        {
            "url": f"https://example.org/{n}",
            "caption": f"caption {n}",
            "key": f"{n:09d}",
            "status": status,
            "width": 256,
        }
        for n, status in enumerate(["success", "failed_to_download", "success"])
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "00000.parquet")
    (tmp_path / "00000_stats.json").write_text('{"count": 3}')
    files = []
    for n in (0, 2):
        files += [(f"{n:09d}.jpg", encoded(n)), (f"{n:09d}.txt", f"own {n}".encode())]
    write_tar(tmp_path / "00000.tar", [*files, ("000000002.json", b'{"width": 99}')])
    found = expand([str(tmp_path)])
    assert [(shard.name, shard.kind) for shard in found] == [("00000", ShardKind.TAR)]
    reader = reader_for(found[0])
    assert [(sample.key, sample.labels) for sample in reader.images()] == [
        (
            f"{n:09d}",
            {"url": f"https://example.org/{n}", "caption": f"own {n}", "status": "success", "width": width},
        )
        for n, width in ((0, 256), (2, 99))
    ]
    assert reader.bad_labels.count == 0
    before = reader.stamp()
    pq.write_table(pa.Table.from_pylist(rows[:1]), tmp_path / "00000.parquet")
    assert reader.stamp() != before


def test_a_broken_table_beside_a_tar_costs_its_labels_not_the_images(tmp_path):
    write_tar(tmp_path / "00000.tar", [("a.jpg", encoded(0))])
    (tmp_path / "00000.parquet").write_bytes(b"PAR1 and nothing else")
    assert [shard.name for shard in expand([str(tmp_path)])] == ["00000"]
    [sample], reader = read(tmp_path / "00000.tar")
    assert (sample.labels, sample.data, reader.damage) == ({}, encoded(0), None)
    assert reader.bad_labels.first[0].name == "00000.parquet"


def test_an_archive_inside_an_archive_is_counted_with_what_to_do(tmp_path):
    samples, reader = read(write_tar(tmp_path / "a.tar", [("inner.tar", b"x"), ("b.zip", b"x"), ("c.gz", b"x")]))
    assert samples == []
    assert reader.skipped == {".tar inside an archive: unpack it": 1, ".zip inside an archive: unpack it": 1, ".gz": 1}

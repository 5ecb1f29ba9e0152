import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder.errors import Reject
from encoder.images.expand import expand
from encoder.images.readers.formats import reader_for
from encoder.images.samples import LateLabels, Sample, batches
from tests.support.pictures import encoded, write_tar


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(1, 7), st.integers(1, 20))
def test_batches_hold_all_entries_in_order_and_none_is_over_its_limits(sizes, count, nbytes):
    entries = [Sample(at, str(at), content=bytes(size)) for at, size in enumerate(sizes)]
    cut = list(batches(entries, count, nbytes))
    assert [entry for batch in cut for entry in batch] == entries
    for number, batch in enumerate(cut):
        lengths = [len(entry.data) for entry in batch]
        full = len(batch) == count or sum(lengths) >= nbytes
        assert full or number == len(cut) - 1
        assert 1 <= len(batch) <= count
        assert sum(lengths[:-1]) < nbytes


def test_late_labels_take_a_place_in_a_batch():
    entries: list[Sample | LateLabels] = [Sample(0, "a"), LateLabels("a", {}), Sample(1, "b")]
    assert list(batches(entries, 2)) == [entries[:2], entries[2:]]


MEMBERS = [
    ("a.jpg", encoded(0)),
    ("a.json", b'{"near": 1}'),
    ("b.jpg", encoded(1)),
    ("a.jpg", encoded(2)),
    ("c.jpg", encoded(3)),
    ("a.cls", b"7"),
    ("b.cls", b"8"),
]


def test_labels_that_come_late_reach_the_image_that_has_the_key(tmp_path):
    [shard] = expand([str(write_tar(tmp_path / "a.tar", MEMBERS))])
    images = list(reader_for(shard).images())
    assert [(image.key, image.reject, image.labels) for image in images] == [
        ("a", None, {"near": 1, "cls": 7}),
        ("b", None, {"cls": 8}),
        ("a", Reject.DUPLICATE_KEY, {}),
        ("c", None, {}),
    ]


@pytest.mark.parametrize("chosen", [{0, 3}, {1}, set()])
def test_a_sampling_pass_yields_what_is_wanted_alone(tmp_path, chosen):
    [shard] = expand([str(write_tar(tmp_path / "a.tar", MEMBERS))])
    images = list(reader_for(shard, wanted=chosen.__contains__).images())
    assert [image.ordinal for image in images] == sorted(chosen)
    assert all(image.data for image in images)

from pathlib import Path

import numpy as np
import pytest

from encoder.codes.file import list_code_files
from encoder.errors import HashgrainError, Reason
from encoder.levels import Level
from encoder.stream.settings import EncodeSettings
from indexer.build import build
from indexer.settings import BuildSettings
from pipelines.evaluation.subject import Source, joined, open_subject, read_codes, silent

FIELDS = ("fine", "coarse")


@pytest.fixture
def write(write_codes, rng):
    """Write a code file of some rows with labels; `write(name, 5, nbits=16)`."""

    def call(name, rows, nbits=16, labels=None, **more):
        codes = {Level.MID: rng.integers(0, 256, (rows, nbits // 8), dtype=np.uint8)}
        given = labels or [{"fine": row % 3, "coarse": "even" if row % 2 else "odd"} for row in range(rows)]
        return write_codes(name, codes, labels=given, **more)

    return call


def opened(test, train=(), model=None):
    sources = {"test": Source(codes=test), "train": Source(codes=train)}
    return open_subject(sources, model, FIELDS, Path("unused"), EncodeSettings(), silent)


def test_files_are_read_one_after_the_other(write):
    part = read_codes([write("b", 2), write("a", 3)], FIELDS)
    assert part.keys == ["b-0", "b-1", "a-0", "a-1", "a-2"]
    assert part.labels == [[0, 1, 0, 1, 2], ["odd", "even", "odd", "even", "odd"]]
    assert part.codes[Level.MID].shape == (5, 2)
    assert len(part) == 5


def test_an_index_reads_as_the_code_files_it_was_built_from(write, tmp_path):
    paths = [write("a", 4), write("b", 5)]
    build(paths, tmp_path / "index", BuildSettings(levels=(Level.MID,)))
    ours, theirs = read_codes(paths, FIELDS), read_codes([tmp_path / "index"], FIELDS)
    assert (ours.keys, ours.labels, ours.models) == (theirs.keys, theirs.labels, theirs.models)
    assert np.array_equal(ours.codes[Level.MID], theirs.codes[Level.MID])


def test_an_image_without_a_label_is_named(write, tmp_path):
    path = write("a", 2, labels=[{"fine": 1, "coarse": 1}, {"coarse": 1}])
    build([path], tmp_path / "index", BuildSettings(levels=(Level.MID,)))
    for source in (path, tmp_path / "index"):
        with pytest.raises(HashgrainError, match="'a-1' of .* has no label 'fine'") as failed:
            read_codes([source], FIELDS)
        assert failed.value.reason is Reason.BAD_VALUE


def test_codes_of_different_lengths_do_not_join(write):
    parts = [read_codes([write(name, 2, nbits)], FIELDS) for name, nbits in (("a", 16), ("b", 32))]
    with pytest.raises(HashgrainError) as failed:
        joined(parts)
    assert failed.value.reason is Reason.CODES_MISMATCH


def test_codes_of_two_models_are_not_compared(write):
    with pytest.raises(HashgrainError) as failed:
        opened([write("a", 2)], [write("b", 2, fingerprint="e" * 64)])
    assert failed.value.reason is Reason.CODES_MISMATCH


def test_codes_without_a_model_beside_them_have_no_record(write):
    path = write("a", 2)
    subject = opened([path])
    assert (subject.model, subject.train, subject.record) == (None, None, {})
    assert list_code_files([path.parent]) == [path]


def test_the_model_beside_the_codes_or_in_the_index_says_what_it_is(codes_folder, index_folder, model_path):
    for source in (codes_folder, index_folder):
        subject = opened([source])
        assert subject.model is not None
        assert subject.record["hash"] == "lsh"
        assert len(subject.test) == 60


def test_another_model_than_the_one_that_made_the_codes_is_refused(write, model_path):
    with pytest.raises(HashgrainError) as failed:
        opened([write("a", 2)], model=model_path)
    assert failed.value.reason is Reason.MODEL_MISMATCH


def test_shards_go_by_their_digest(write):
    assert read_codes([write("a", 2)], FIELDS).shards == {"0" * 64: "a"}


def test_shards_are_encoded_with_the_model_beside_the_codes_of_the_other_part(
    codes_folder, shards_folder, model_path, tmp_path
):
    sources = {"test": Source(shards=[str(shards_folder / "part-0001.tar")]), "train": Source(codes=[codes_folder])}
    subject = open_subject(sources, None, FIELDS, tmp_path, EncodeSettings(batch=8), silent)
    assert subject.train is not None
    for level, codes in subject.test.codes.items():
        assert np.array_equal(codes, subject.train.codes[level][20:40])
    assert subject.encoder is None  # not all images are at hand
    with pytest.raises(HashgrainError) as failed:
        open_subject({"test": sources["test"]}, None, FIELDS, tmp_path, EncodeSettings(), silent)
    assert failed.value.reason is Reason.BAD_VALUE

import numpy as np
import pytest

from encoder.errors import HashgrainError, Reason
from encoder.levels import Level
from pipelines.evaluation.protocols import PROTOCOLS, Preset, pool_of, refuse_leaks, split, trained_on, twins
from pipelines.evaluation.subject import Part


def part(name, fine, shard=None):
    """Images `name-0`, `name-1`, ... of the classes `fine`; classes 0 and 1, 2 and 3, ... are of one kind."""
    codes = np.random.default_rng(len(name)).integers(0, 256, (len(fine), 2), dtype=np.uint8)
    keys = [f"{name}-{row}" for row in range(len(fine))]
    kinds = [label // 2 for label in fine]
    return Part(keys, [list(fine), kinds], {Level.MID: codes}, {shard or f"sha-{name}": name}, frozenset({"model"}))


TEST, TRAIN = part("test", [0, 1, 2, 3, 0]), part("train", [0, 0, 1, 2, 3, 4])


def reason_of(call):
    with pytest.raises(HashgrainError) as failed:
        call()
    assert "\n" not in str(failed.value)
    return failed.value.reason, str(failed.value)


def test_every_preset_has_a_protocol():
    assert list(PROTOCOLS) == list(Preset)


def test_the_pool_is_the_test_rows_then_the_training_rows():
    pool = pool_of(TEST, TRAIN)
    assert (len(pool), pool.test) == (11, 5)
    assert pool.keys == TEST.keys + TRAIN.keys
    assert pool.classes[:, 0].tolist() == [0, 1, 2, 3, 0, 0, 0, 1, 2, 3, 4]
    assert pool.classes[:, 1].tolist() == [0, 0, 1, 1, 0, 0, 0, 0, 1, 1, 2]
    assert pool.names == ["0", "1", "2", "3", "4"]
    assert np.array_equal(pool.codes[Level.MID], np.concatenate([TEST.codes[Level.MID], TRAIN.codes[Level.MID]]))


def test_full_asks_the_training_images():
    given = split(Preset.FULL, pool_of(TEST, TRAIN), [])
    assert given.queries.tolist() == [0, 1, 2, 3, 4]
    assert given.database.tolist() == given.fitting.tolist() == [5, 6, 7, 8, 9, 10]
    assert given.own_rows is None


def test_test_only_leaves_each_query_out_and_learns_from_training_images():
    given = split(Preset.TEST_ONLY, pool_of(TEST, TRAIN), [])
    assert given.queries.tolist() == given.database.tolist() == [0, 1, 2, 3, 4]
    assert given.own_rows is not None
    assert given.own_rows.tolist() == [0, 1, 2, 3, 4]
    assert given.fitting.tolist() == [5, 6, 7, 8, 9, 10]
    alone = split(Preset.TEST_ONLY, pool_of(TEST, None), [])
    assert (alone.queries.tolist(), alone.fitting.tolist()) == ([0, 1, 2, 3, 4], [])


@pytest.mark.parametrize(("with_train", "rows"), [(False, [0, 2, 4]), (True, [0, 2, 4, 5, 6, 8])])
def test_unseen_classes_takes_only_classes_that_were_left_out_and_learns_from_the_others(with_train, rows):
    pool = pool_of(TEST, TRAIN)
    given = split(Preset.UNSEEN_CLASSES, pool, ["0", "2"], with_train=with_train)
    assert given.queries.tolist() == given.database.tolist() == rows
    assert given.own_rows is not None
    assert given.own_rows.tolist() == list(range(len(rows)))
    assert given.fitting.tolist() == [7, 9, 10]
    assert not set(pool.classes[given.queries, 0]) & set(pool.classes[given.fitting, 0])


def test_own_rows_are_where_the_query_stands_in_the_database():
    given = split(Preset.UNSEEN_CLASSES, pool_of(TEST, TRAIN), ["0", "2"], with_train=True)
    assert np.array_equal(given.database[given.own_rows], given.queries)
    some = given.sample(3, seed=5)
    assert len(some.queries) == 3
    assert np.array_equal(some.database[some.own_rows], some.queries)
    assert np.array_equal(given.sample(99, seed=5).queries, given.queries)


def test_a_sample_of_the_queries_comes_from_the_seed():
    given = split(Preset.FULL, pool_of(part("test", [0] * 50), TRAIN), [])
    first, again, other = (given.sample(10, seed).queries.tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_unseen_classes_of_a_model_that_left_none_out_is_a_leak():
    reason, line = reason_of(lambda: split(Preset.UNSEEN_CLASSES, pool_of(TEST, TRAIN), []))
    assert reason is Reason.LEAK
    assert "encoder train --leave-out" in line


@pytest.mark.parametrize(
    ("preset", "left_out"), [(Preset.FULL, []), (Preset.UNSEEN_CLASSES, ["nowhere"])], ids=["no database", "no query"]
)
def test_a_protocol_without_images_is_refused(preset, left_out):
    reason, line = reason_of(lambda: split(preset, pool_of(TEST, None), left_out))
    assert reason is Reason.BAD_VALUE
    assert "0 " in line


RECORD = {"shards": [{"name": "elsewhere", "sha256": "sha-else"}, {"name": "train", "sha256": "sha-train"}]}


def test_disjoint_parts_pass():
    for preset in Preset:
        refuse_leaks(preset, TEST, TRAIN, RECORD)
        refuse_leaks(preset, TEST, None, {})


@pytest.mark.parametrize("preset", Preset)
def test_a_query_in_the_database_is_a_leak(preset):
    twin = part("test", [0, 1, 2], shard="another")
    reason, line = reason_of(lambda: refuse_leaks(preset, TEST, twin, {}))
    assert reason is Reason.LEAK
    assert line.startswith("3 test images have the key of a training image (first: 'test-0')")
    assert "--prefix-keys" in line


def test_keys_of_codes_that_were_made_before_are_prefixed_where_they_are_made():
    twin, twice = part("test", [0, 1, 2], shard="another"), part("test", [0, 1])
    twice.keys[1] = twice.keys[0]
    for coded, again in ((("test", "training"), True), (("test",), False), (("training",), False), ((), False)):
        _, line = reason_of(lambda coded=coded: refuse_leaks(Preset.FULL, TEST, twin, {}, coded))
        assert ("encode again with `encoder encode --prefix-keys`" in line) is again
        _, line = reason_of(lambda coded=coded: refuse_leaks(Preset.FULL, twice, None, {}, coded))
        assert ("encode again" in line) is ("test" in coded)


def test_a_shard_on_both_sides_is_a_leak_whatever_its_keys_are():
    renamed = part("other", [0, 1], shard="sha-test")
    reason, line = reason_of(lambda: refuse_leaks(Preset.FULL, TEST, renamed, {}))
    assert reason is Reason.LEAK
    assert "(first: 'test')" in line


@pytest.mark.parametrize("preset", [Preset.FULL, Preset.TEST_ONLY])
def test_a_test_shard_that_the_model_was_trained_on_is_a_leak(preset):
    record = {"shards": [{"name": "seen", "sha256": "sha-test"}]}
    assert reason_of(lambda: refuse_leaks(preset, TEST, None, record))[0] is Reason.LEAK
    refuse_leaks(Preset.UNSEEN_CLASSES, TEST, None, record)  # its images of other classes were not trained on


def test_a_key_that_stands_twice_is_refused():
    twice = part("test", [0, 1])
    twice.keys[1] = twice.keys[0]
    for test, train in ((twice, None), (TRAIN, twice)):
        assert reason_of(lambda test=test, train=train: refuse_leaks(Preset.FULL, test, train, {}))[0] is (
            Reason.DUPLICATE_KEYS
        )


def test_what_a_model_was_trained_on_is_in_its_record():
    assert trained_on(RECORD) == {"sha-else", "sha-train"}
    assert trained_on({"weights": "none"}) == set()


def test_queries_with_the_bytes_of_a_database_image_are_counted():
    digests = [b"a", b"b", b"c", b"d", b"e", b"b", b"x", b"x", b"b", b"e", b"y"]
    assert twins(digests, split(Preset.FULL, pool_of(TEST, TRAIN), [])) == 2
    assert twins(digests, split(Preset.TEST_ONLY, pool_of(TEST, TRAIN), [])) == 0
    assert twins([b"a", b"b", b"a", b"d", b"e"], split(Preset.TEST_ONLY, pool_of(TEST, None), [])) == 2

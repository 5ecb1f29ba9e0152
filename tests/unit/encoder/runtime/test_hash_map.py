import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from encoder.runtime.hash_map import HashMap

HASHES = st.integers(-(2**63), 2**63 - 1) | st.integers(-20, 20)


@given(
    st.lists(st.tuples(HASHES, st.integers(0, 2**40)), max_size=200), st.integers(1, 20), st.lists(HASHES, max_size=20)
)
def test_a_hash_map_holds_what_a_dict_would(entries, newest, others):
    expected, found = dict[int, int](), HashMap(newest)
    for key, value in entries:
        assert found.get(key) == expected.get(key)
        found[key] = expected[key] = value
    for key in [*expected, *others]:
        assert found.get(key) == expected.get(key)
        assert (key in found) == (key in expected)


def test_entries_beyond_the_newest_take_sixteen_bytes_each():
    found = HashMap(newest=1000)
    for key in np.random.default_rng(0).integers(-(2**63), 2**63 - 1, 50_000).tolist():
        found[key] = 1
    assert len(found._new) < 1000
    assert sum(len(keys) + len(values) for keys, values in found._parts) * 8 < 16 * 50_000 + 1


def test_parts_stay_few_so_that_a_look_is_quick():
    found = HashMap(newest=10)
    for key in range(10_000):
        found[key] = key
        assert len(found._parts) < 12
    assert all(
        len(first[0]) >= 2 * len(second[0]) for first, second in zip(found._parts, found._parts[1:], strict=False)
    )


def test_nothing_is_left_of_what_was_let_go():
    found = HashMap(newest=2)
    for key in range(5):
        found[key] = key
    found.clear()
    assert all(key not in found for key in range(5))

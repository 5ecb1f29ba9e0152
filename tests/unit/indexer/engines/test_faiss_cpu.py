import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from encoder.errors import HashgrainError, Reason
from indexer.engines.faiss_cpu import WORDS_PER_PART, FlatIndex, IvfIndex, assign, write_ivf
from indexer.engines.faiss_file import write_flat
from indexer.matches import Bounds
from indexer.row_mask import row_set
from tests.support.oracles import nearest


@st.composite
def collections(draw):
    """Codes and queries; few distinct bytes, so that ties, which real codes are full of, are the rule here."""
    size = draw(st.sampled_from([1, 3, 4, 8, 16, 32]))
    alphabet = st.sampled_from([0, 1, 3, 255])
    codes = draw(hnp.arrays(np.uint8, (draw(st.integers(0, 40)), size), elements=alphabet))
    queries = draw(hnp.arrays(np.uint8, (draw(st.integers(1, 4)), size), elements=alphabet))
    return codes, queries


def anew(path):
    """Return a path at which there is nothing any more: of an example before."""
    path.unlink(missing_ok=True)
    return path


def flat_of(folder, codes):
    path = anew(folder / "level.faiss")
    write_flat(path, 8 * codes.shape[1], len(codes), [codes[:5], codes[5:]])
    return FlatIndex(path)


@settings(max_examples=300)
@given(collections(), st.integers(1, 60))
def test_flat_returns_exactly_the_k_smallest_by_distance_and_row(tmp_path, collection, k):
    codes, queries = collection
    for query, found in zip(queries, flat_of(tmp_path, codes).search(queries, Bounds(k)), strict=True):
        assert (found.rows.tolist(), found.distances.tolist()) == nearest(query, codes, k)


@settings(max_examples=200)
@given(collections(), st.data())
def test_radius_is_inclusive_and_complete(tmp_path, collection, data):
    codes, queries = collection
    radius = data.draw(st.integers(0, 8 * codes.shape[1]))
    for query, found in zip(queries, flat_of(tmp_path, codes).search(queries, Bounds(None, radius)), strict=True):
        assert (found.rows.tolist(), found.distances.tolist()) == nearest(query, codes, radius=radius)


@settings(max_examples=60)
@given(collections().filter(lambda c: len(c[0]) > 0), st.data())
def test_probing_every_list_finds_what_flat_finds(tmp_path, collection, data):
    codes, queries = collection
    nlist = data.draw(st.integers(1, len(codes)))
    flat = flat_of(tmp_path, codes)
    write_ivf(anew(tmp_path / "ivf.faiss"), flat, nlist, 0, lambda *_: None)
    ivf = IvfIndex(tmp_path / "ivf.faiss")
    assert (ivf.ntotal, ivf.nlist) == (len(codes), nlist)
    inside = Bounds(None, data.draw(st.integers(0, 8 * codes.shape[1])))
    for mine, exact in zip(ivf.search(queries, Bounds(10), nlist), flat.search(queries, Bounds(10)), strict=True):
        assert mine.distances.tolist() == exact.distances.tolist()
        assert sorted(zip(mine.distances, mine.rows, strict=True)) == list(zip(mine.distances, mine.rows, strict=True))
    for mine, exact in zip(ivf.search(queries, inside, nlist), flat.search(queries, inside), strict=True):
        assert mine.rows.tolist() == exact.rows.tolist()


def test_more_probes_never_find_fewer(tmp_path, rng):
    codes = rng.integers(0, 256, (3000, 8), dtype=np.uint8)
    flat = flat_of(tmp_path, codes)
    write_ivf(anew(tmp_path / "ivf.faiss"), flat, 64, 0, lambda *_: None)
    ivf = IvfIndex(tmp_path / "ivf.faiss")
    exact = [set(found.rows.tolist()) for found in flat.search(codes[:50], Bounds(10))]
    recall = [
        np.mean(
            [
                len(truth & set(found.rows.tolist())) / 10
                for truth, found in zip(exact, ivf.search(codes[:50], Bounds(10), nprobe), strict=True)
            ]
        )
        for nprobe in (1, 4, 16, 64)
    ]
    assert recall == sorted(recall)
    assert recall[0] < 0.9 < recall[-1]


def test_the_codes_of_a_flat_index_are_its_rows_and_read_only(tmp_path, rng):
    codes = rng.integers(0, 256, (100, 8), dtype=np.uint8)
    flat = flat_of(tmp_path, codes)
    assert (flat.codes == codes).all()
    assert flat._index.xb.is_owned is False  # mapped, not copied


def test_codes_outlive_the_index_they_lie_in(tmp_path, rng):
    codes = rng.integers(0, 256, (100_000, 8), dtype=np.uint8)
    mine = flat_of(tmp_path, codes).codes
    (tmp_path / "other").mkdir()
    for _ in range(10):
        assert (flat_of(tmp_path / "other", codes[:10]).codes == codes[:10]).all()
    assert (mine == codes).all()


def test_a_file_that_is_no_index_is_refused_in_one_line(tmp_path):
    (tmp_path / "bad.faiss").write_bytes(b"garbage" * 100)
    with pytest.raises(HashgrainError, match=r"^[^\n]*bad.faiss[^\n]*build the index again$") as caught:
        FlatIndex(tmp_path / "bad.faiss")
    assert caught.value.reason is Reason.INDEX_DAMAGED


def test_a_whole_file_for_which_there_is_no_memory_is_not_called_damaged(tmp_path):
    write_flat(tmp_path / "level.faiss", 64, 1 << 21, [np.zeros((1 << 21, 8), np.uint8)])
    done = subprocess.run([sys.executable, "-c", NO_MEMORY, tmp_path], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("no-resources\n", "")


NO_MEMORY = """
import resource, sys
from pathlib import Path
from encoder.errors import HashgrainError
from indexer.engines.faiss_cpu import FlatIndex
pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (4 << 20), resource.RLIM_INFINITY))
try:
    FlatIndex(Path(sys.argv[1]) / "level.faiss")
except HashgrainError as err:
    print(err.reason)
"""
THREADS = """
import os, sys
from pathlib import Path
import faiss, numpy as np
from indexer.engines.faiss_cpu import FlatIndex
from indexer.engines.faiss_file import write_flat
from indexer.matches import Bounds
rows, queries, path = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
faiss.omp_set_num_threads(2)
codes = np.random.default_rng(0).integers(0, 256, (rows, 8), dtype=np.uint8)
write_flat(path, 64, rows, [codes])
index, before = FlatIndex(path), len(os.listdir("/proc/self/task"))
index.search(codes[:queries], Bounds(3))
print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux, which shows a process's threads")
@pytest.mark.parametrize(("rows", "queries", "woken"), [(3000, 64, 0), (500_000, 1, 0), (200_000, 64, 1)])
def test_a_team_of_threads_is_woken_for_much_work_only(tmp_path, rows, queries, woken):
    command = [sys.executable, "-c", THREADS, str(rows), str(queries), str(tmp_path / "flat")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) == woken


@settings(max_examples=100)
@given(collections().filter(lambda c: len(c[0]) > 0), st.data())
def test_lists_leave_out_rows_that_are_not_eligible(tmp_path, collection, data):
    codes, queries = collection
    counts = np.array(data.draw(st.lists(st.booleans(), min_size=len(codes), max_size=len(codes))))
    nlist = data.draw(st.integers(1, len(codes)))
    write_ivf(anew(tmp_path / "ivf.faiss"), flat_of(tmp_path, codes), nlist, 0, lambda *_: None)
    ivf, nprobe = IvfIndex(tmp_path / "ivf.faiss"), data.draw(st.integers(1, nlist))
    k, radius = data.draw(st.sampled_from([(None, 9), (3, None), (2, 12)]))
    everything = ivf.search(queries, Bounds(None, 8 * codes.shape[1]), nprobe)
    for whole, found in zip(everything, ivf.search(queries, Bounds(k, radius, row_set(counts)), nprobe), strict=True):
        mask = counts[whole.rows] & (True if radius is None else whole.distances <= radius)
        assert found.rows.tolist() == whole.rows[mask][:k].tolist()
        assert found.distances.tolist() == whole.distances[mask][:k].tolist()


@pytest.mark.parametrize("size", [2, 8, 16])
def test_codes_are_assigned_to_the_first_of_the_nearest_centroids(rng, size):
    codes = rng.integers(0, 4, (WORDS_PER_PART + 50, size), dtype=np.uint8)
    mapped = np.frombuffer(b"!" + rng.integers(0, 4, (40, size), dtype=np.uint8).tobytes(), np.uint8)[1:].reshape(
        40, size
    )
    assigned = assign(codes, mapped)
    some = rng.permutation(len(codes))[:500]
    distances = np.bitwise_count(codes[some][:, None] ^ mapped).sum(axis=2, dtype=int)
    assert assigned[some].tolist() == distances.argmin(axis=1).tolist()
    assert assigned[-1] == np.bitwise_count(codes[-1] ^ mapped).sum(axis=1, dtype=int).argmin()
    assert assign(codes[:0], mapped).tolist() == []

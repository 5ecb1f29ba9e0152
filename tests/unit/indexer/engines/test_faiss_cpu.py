import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder.errors import HashgrainError, Reason
from indexer.engines.faiss_cpu import WORDS_PER_PART, FlatIndex, assign
from indexer.engines.faiss_file import write_flat
from indexer.matches import Bounds
from tests.support.oracles import nearest
from tests.support.tied_codes import collections, flat_of


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

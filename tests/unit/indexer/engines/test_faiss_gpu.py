import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder.errors import HashgrainError, Reason
from indexer.engines.faiss_gpu import exactly_nearest
from indexer.settings import BuildSettings, Engine, IndexKind, SearchSettings
from tests.support.level_indexes import sub_index
from tests.support.one_gpu import OneGpu, installed
from tests.support.oracles import hamming, nearest


@given(st.integers(0, 2**32), st.integers(0, 60), st.integers(1, 70), st.integers(1, 70))
def test_ties_broken_anyhow_are_settled_or_left_open(seed, ntotal, k, most):
    rng = np.random.default_rng(seed)
    codes, queries = (rng.integers(0, 4, (n, 1), dtype=np.uint8) for n in (ntotal, 3))
    k = min(k, ntotal)

    def search(asking, wanted):
        assert 1 <= wanted <= most
        every = hamming(asking, codes)
        order = np.lexsort((rng.random(every.shape), every))[:, :wanted]  # ties in any order
        return np.take_along_axis(every, order, 1), order

    for query, found in zip(queries, exactly_nearest(search, queries, k, ntotal, most), strict=True):
        distances = sorted(hamming([query], codes)[0].tolist())
        clear = not k or (k <= most and (ntotal <= most or distances[k - 1] < distances[most - 1]))
        assert (found is not None) == clear
        if found is not None:
            assert (found.rows.tolist(), found.distances.tolist()) == nearest(query, codes, k)


@pytest.mark.skipif(faiss.get_num_gpus() > 0, reason="there is a GPU")
def test_without_a_gpu_the_engine_says_so(tmp_path, rng):
    index = sub_index(tmp_path, [rng.integers(0, 256, (9, 8), dtype=np.uint8)], [BuildSettings()])
    with pytest.raises(HashgrainError, match="finds no GPU; take engine scan") as caught:
        index.search(np.zeros((1, 8), np.uint8), SearchSettings(3, engine=Engine.GPU), None)
    assert caught.value.reason is Reason.BAD_VALUE


def test_what_else_a_gpu_refuses_is_one_line(tmp_path, rng, monkeypatch):
    class Odd(OneGpu):
        def GpuIndexBinaryFlat(self, *_):
            raise RuntimeError("Error in f at g.cu:1: Error: 'k' failed: GPU index only supports up to 7 indices")

    index = sub_index(tmp_path, [rng.integers(0, 256, (9, 8), dtype=np.uint8)], [BuildSettings()])
    said = r"did not search \(GPU index only supports up to 7 indices\)"
    with installed(monkeypatch, Odd()), pytest.raises(HashgrainError, match=said) as caught:
        index.search(np.zeros((20, 8), np.uint8), SearchSettings(3, engine=Engine.GPU), None)
    assert caught.value.reason is Reason.BAD_VALUE


@pytest.mark.gpu
@pytest.mark.parametrize("spread", [4, 256])
def test_a_gpu_answers_as_the_scan_does(tmp_path, rng, spread):
    segments = [rng.integers(0, spread, (rows, 8), dtype=np.uint8) for rows in (50_000, 0, 70)]
    index = sub_index(tmp_path, segments, [BuildSettings(IndexKind.FLAT)] * 3)
    queries = rng.integers(0, spread, (20, 8), dtype=np.uint8)
    for k in (1, 10, 3000):
        on_gpu, scanned = (
            index.search(queries, SearchSettings(k, engine=engine), None) for engine in (Engine.GPU, Engine.SCAN)
        )
        for mine, truth in zip(on_gpu, scanned, strict=True):
            assert (mine.rows.tolist(), mine.distances.tolist()) == (truth.rows.tolist(), truth.distances.tolist())

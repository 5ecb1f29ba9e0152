import numpy as np
import pytest

from indexer.row_mask import row_set
from indexer.search.histogram import BLOCK, histogram
from indexer.settings import BuildSettings, Dedupe
from tests.support.level_indexes import sub_index


@pytest.mark.parametrize("size", [1, 2, 3, 8, 12, 16, 31, 32, 40, 128])
@pytest.mark.parametrize("dedupe", [Dedupe.ON, Dedupe.OFF])
def test_every_eligible_row_counts_once_at_its_distance(tmp_path, rng, size, dedupe):
    centres = rng.integers(0, 256, (5, size), dtype=np.uint8)
    segments = [centres[rng.integers(0, 5, rows)] for rows in (0, 700, 65)]
    codes, builds = np.concatenate(segments), [BuildSettings(dedupe=dedupe)] * 3
    codes[:100] ^= rng.random((100, size)) < 0.1
    index = sub_index(tmp_path, np.split(codes, [0, 700]), builds)
    code = codes[3]
    plain = np.bitwise_count(codes ^ code).sum(axis=1, dtype=int)
    for mask in (None, rng.random(len(codes)) < 0.3, np.zeros(len(codes), dtype=bool)):
        counted = plain if mask is None else plain[mask]
        found = histogram(index, code, None if mask is None else row_set(mask))
        assert found.tolist() == np.bincount(counted, minlength=8 * size + 1).tolist()


def test_blocks_add_up(tmp_path, rng):
    codes = rng.integers(0, 256, (2 * BLOCK + 5, 1), dtype=np.uint8)
    found = histogram(sub_index(tmp_path, [codes], [BuildSettings()]), np.zeros(1, dtype=np.uint8), None)
    assert found.tolist() == np.bincount(np.bitwise_count(codes[:, 0]), minlength=9).tolist()

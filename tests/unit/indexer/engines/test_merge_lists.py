import numpy as np
import pytest

from encoder.errors import HashgrainError, Reason
from indexer.engines.faiss_cpu import assign, write_lists
from indexer.engines.merge_lists import OldLists, merge_lists


@pytest.fixture
def centroids(rng):
    return rng.integers(0, 256, (16, 4), dtype=np.uint8)


def written(path, codes, centroids):
    write_lists(path, codes, assign(codes, centroids), centroids)
    return path


@pytest.fixture
def parts(tmp_path, rng, centroids):
    """Three parts of which a third is to go, their codes that stay, and the last of which is empty."""
    made, staying, base = [], [], 0
    for number, rows in enumerate((500, 90, 0)):
        codes = rng.integers(0, 256, (rows, 4), dtype=np.uint8)
        stays = rng.random(rows) > 0.3
        new_ids = np.where(stays, base + np.cumsum(stays) - 1, -1).astype(np.int32)
        made.append(OldLists(written(tmp_path / f"{number}.ivf", codes, centroids), new_ids))
        staying.append(codes[stays])
        base += len(staying[-1])
    return made, np.concatenate(staying)


def test_joined_lists_are_those_of_the_joined_codes_byte_for_byte(tmp_path, parts, centroids):
    made, codes = parts
    merge_lists(tmp_path / "merged", made, centroids, len(codes))
    assert (tmp_path / "merged").read_bytes() == written(tmp_path / "fresh", codes, centroids).read_bytes()


def test_lists_that_do_not_hold_each_entry_are_refused(tmp_path, parts, centroids):
    made, codes = parts
    [(path, new_ids), *_] = made
    said = {
        f"entries that stay, of {len(codes) + 1:,}": (made, centroids, len(codes) + 1),
        "entries that are not among the 499": ([OldLists(path, new_ids[:-1])], centroids, 499),
        "it has 16 lists, 15 are joined": (made, centroids[:15], len(codes)),
    }
    for number, (message, (some, of, entries)) in enumerate(said.items()):
        with pytest.raises(HashgrainError, match=message) as caught:
            merge_lists(tmp_path / f"merged-{number}", some, of, entries)
        assert caught.value.reason is Reason.INDEX_DAMAGED

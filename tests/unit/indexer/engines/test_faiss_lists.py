import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder.errors import HashgrainError, Reason
from indexer.engines import faiss_lists
from indexer.engines.faiss_cpu import assign, train, write_lists
from indexer.engines.faiss_lists import IvfIndex, JoinedLists, share_centroids
from indexer.matches import Bounds
from indexer.row_mask import row_set
from tests.support.inverted_lists import write_ivf
from tests.support.tied_codes import anew, collections, flat_of


@settings(max_examples=60)
@given(collections().filter(lambda c: len(c[0]) > 0), st.data())
def test_probing_every_list_finds_what_flat_finds(tmp_path, collection, data):
    codes, queries = collection
    nlist = data.draw(st.integers(1, len(codes)))
    flat = flat_of(tmp_path, codes)
    write_ivf(anew(tmp_path / "ivf.faiss"), codes, nlist)
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
    write_ivf(anew(tmp_path / "ivf.faiss"), codes, 64)
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


@settings(max_examples=100)
@given(collections().filter(lambda c: len(c[0]) > 0), st.data())
def test_lists_leave_out_rows_that_are_not_eligible(tmp_path, collection, data):
    codes, queries = collection
    counts = np.array(data.draw(st.lists(st.booleans(), min_size=len(codes), max_size=len(codes))))
    nlist = data.draw(st.integers(1, len(codes)))
    write_ivf(anew(tmp_path / "ivf.faiss"), codes, nlist)
    ivf, nprobe = IvfIndex(tmp_path / "ivf.faiss"), data.draw(st.integers(1, nlist))
    k, radius = data.draw(st.sampled_from([(None, 9), (3, None), (2, 12)]))
    everything = ivf.search(queries, Bounds(None, 8 * codes.shape[1]), nprobe)
    for whole, found in zip(everything, ivf.search(queries, Bounds(k, radius, row_set(counts)), nprobe), strict=True):
        mask = counts[whole.rows] & (True if radius is None else whole.distances <= radius)
        assert found.rows.tolist() == whole.rows[mask][:k].tolist()
        assert found.distances.tolist() == whole.distances[mask][:k].tolist()


def parts_and_whole(folder, codes, cuts, nlist):
    """Lists of codes cut into parts that share centroids, joined, and lists of all of them in one file."""
    centroids = train(codes, nlist, 0)
    parts = np.split(codes, cuts)
    for name, some in [*enumerate(parts), ("whole", codes)]:
        write_lists(anew(folder / f"{name}.faiss"), some, assign(some, centroids), centroids)
    opened = [IvfIndex(folder / f"{number}.faiss") for number in range(len(parts))]
    return opened, JoinedLists(opened, [0, *cuts]), IvfIndex(folder / "whole.faiss")


@pytest.mark.parametrize("ties", [0, 3, faiss_lists.TIES])
@settings(max_examples=60)
@given(collections().filter(lambda c: len(c[0]) > 0), st.data())
def test_joined_lists_are_the_lists_of_all_codes(tmp_path, monkeypatch, ties, collection, data):
    monkeypatch.setattr(faiss_lists, "TIES", ties)
    codes, queries = collection
    cuts = sorted(data.draw(st.lists(st.integers(0, len(codes)), max_size=4)))
    nlist = data.draw(st.integers(1, len(codes)))
    parts, joined, whole = parts_and_whole(tmp_path, codes, cuts, nlist)
    assert share_centroids(parts)
    counts = np.array(data.draw(st.lists(st.booleans(), min_size=len(codes), max_size=len(codes))))
    k, radius = data.draw(st.sampled_from([(1, None), (3, None), (100, None), (None, 9), (2, 12)]))
    nprobe = data.draw(st.integers(1, nlist))
    for rows in (None, row_set(counts)):
        found, truth = (lists.search(queries, Bounds(k, radius, rows), nprobe) for lists in (joined, whole))
        assert [one.rows.tolist() for one in found] == [one.rows.tolist() for one in truth]
        assert [one.distances.tolist() for one in found] == [one.distances.tolist() for one in truth]


def test_joined_lists_tell_the_file_whose_ids_lead_nowhere(tmp_path, rng):
    codes = rng.integers(0, 256, (300, 8), dtype=np.uint8)
    parts, _, _ = parts_and_whole(tmp_path, codes, [100], 2)
    path = tmp_path / "1.faiss"
    content = bytearray(path.read_bytes())
    content[-8:] = np.int64(200).tobytes()  # the largest id of the last list
    path.write_bytes(content)
    joined = JoinedLists([parts[0], IvfIndex(path)], [0, 100])
    with pytest.raises(HashgrainError, match=r"1.faiss holds ids beyond its 200 codes") as caught:
        joined.search(codes[:1], Bounds(300), 2)
    assert caught.value.reason is Reason.INDEX_DAMAGED


def test_lists_with_other_centroids_are_not_joined(tmp_path, rng):
    for number in range(2):
        write_ivf(tmp_path / str(number), rng.integers(0, 256, (100, 8), dtype=np.uint8), 4)
    first, second = (IvfIndex(tmp_path / str(number)) for number in range(2))
    assert share_centroids([first, first])
    assert not share_centroids([first, second])


def test_lists_lie_in_memory_as_in_their_file(tmp_path, rng):
    codes = np.repeat(rng.integers(0, 256, (9, 12), dtype=np.uint8), 5, axis=0)
    centroids = np.concatenate([np.zeros((3, 12), np.uint8), codes[::5], np.zeros((3, 12), np.uint8)])
    write_lists(tmp_path / "lists", codes, assign(codes, centroids), centroids)  # equal centroids make empty lists
    lists = IvfIndex(tmp_path / "lists")
    for number in range(lists.nlist):
        of_list, ids = lists.members(number)
        at = int(lists.ids_at[number])
        assert lists.memory[at : at + 8 * len(ids)].tobytes() == ids.tobytes()
        assert lists.memory[at - of_list.nbytes : at].tobytes() == of_list.tobytes()
    assert {len(lists.members(number)[1]) for number in range(lists.nlist)} == {0, 5}

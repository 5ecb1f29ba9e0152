import struct
import subprocess
import sys

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder.errors import HashgrainError, Reason
from indexer.engines.faiss_cpu import FlatIndex, assign, write_lists
from indexer.engines.faiss_file import ListsWriter, flat_layout, lists_layout, write_flat
from indexer.engines.faiss_lists import IvfIndex
from tests.support.inverted_lists import write_ivf


def faiss_flat(codes):
    """The bytes that FAISS itself writes."""
    index = faiss.IndexBinaryFlat(8 * codes.shape[1])
    index.add(codes)
    return faiss.serialize_index_binary(index).tobytes()


def faiss_lists(codes, centroids):
    quantizer = faiss.IndexBinaryFlat(8 * codes.shape[1])
    quantizer.add(centroids)
    index = faiss.IndexBinaryIVF(quantizer, 8 * codes.shape[1], len(centroids))
    index.is_trained = True
    index.add(codes)
    return faiss.serialize_index_binary(index).tobytes()


@settings(max_examples=50)
@given(st.integers(0, 300), st.sampled_from([1, 4, 8, 16, 33]), st.integers(0, 9))
def test_flat_files_are_those_of_faiss(tmp_path, rows, size, seed):
    codes = np.random.default_rng(seed).integers(0, 256, (rows, size), dtype=np.uint8)
    (tmp_path / "flat").unlink(missing_ok=True)  # of an example before
    write_flat(tmp_path / "flat", 8 * size, rows, [codes[:7], codes[7:]])
    whole = (tmp_path / "flat").read_bytes()
    assert whole == faiss_flat(codes)
    nbits, ntotal, at = flat_layout(tmp_path / "flat")
    assert (nbits, ntotal, whole[at:]) == (8 * size, rows, codes.tobytes())


@settings(max_examples=50)
@given(st.integers(20, 300), st.sampled_from([1, 4, 8, 16, 33]), st.integers(1, 9))
def test_files_of_lists_are_those_of_faiss(tmp_path, rows, size, nlist):
    rng = np.random.default_rng(rows)
    codes = rng.integers(0, 256, (rows, size), dtype=np.uint8)
    centroids = codes[:nlist] if size > 1 else np.arange(nlist, dtype=np.uint8)[:, None] * 31
    lists = assign(codes, centroids)
    assert (lists == np.bitwise_count(codes[:, None] ^ centroids).sum(axis=2).argmin(axis=1)).all()
    (tmp_path / "lists").unlink(missing_ok=True)  # of an example before
    write_lists(tmp_path / "lists", codes, lists, centroids)
    whole, theirs = (tmp_path / "lists").read_bytes(), faiss_lists(codes, centroids)
    assert whole == theirs or b"sprs" in theirs  # FAISS's shorter form of few lists that are not empty
    layout = lists_layout(tmp_path / "lists")
    assert layout[:3] == (8 * size, rows, nlist)
    assert whole[layout.centroids_at :].startswith(centroids.tobytes())
    assert layout.sizes.tolist() == np.bincount(lists, minlength=nlist).tolist()
    first = int(layout.sizes[0])
    assert whole[layout.lists_at :].startswith(
        codes[lists == 0].tobytes() + np.flatnonzero(lists == 0).astype("<i8").tobytes()
    )
    assert first == (lists == 0).sum()


def test_the_short_form_of_sizes_is_read(tmp_path, rng):
    codes, centroids = np.zeros((5, 8), np.uint8), rng.integers(1, 256, (9, 8), dtype=np.uint8)
    centroids[4] = 0
    (tmp_path / "lists").write_bytes(theirs := faiss_lists(codes, centroids))
    assert b"sprs" in theirs
    assert lists_layout(tmp_path / "lists").sizes.tolist() == [0, 0, 0, 0, 5, 0, 0, 0, 0]
    assert IvfIndex(tmp_path / "lists").fault() is None


def test_an_empty_list_takes_no_bytes_and_ids_may_be_any(tmp_path):
    codes, centroids = np.arange(16, dtype=np.uint8).reshape(2, 8), np.zeros((3, 8), np.uint8)
    with ListsWriter(tmp_path / "lists", 64, centroids, np.array([0, 2, 0])) as writer:
        for number in range(3):
            writer.append(codes[: 2 * (number == 1)], np.array([7, 5])[: 2 * (number == 1)])
    layout = lists_layout(tmp_path / "lists")
    assert (tmp_path / "lists").stat().st_size == layout.lists_at + 2 * 16


@pytest.fixture
def files(tmp_path, rng):
    """A flat file and one of lists, and what reads each."""
    codes = rng.integers(0, 256, (90, 8), dtype=np.uint8)
    write_flat(tmp_path / "flat", 64, 90, [codes])
    write_ivf(tmp_path / "lists", codes, 4)
    return {tmp_path / "flat": FlatIndex, tmp_path / "lists": IvfIndex}


def refused(read, path):
    with pytest.raises(HashgrainError, match=r"^[^\n]+; build the index again$") as caught:
        read(path)
    assert caught.value.reason is Reason.INDEX_DAMAGED
    return str(caught.value)


def test_a_file_cut_anywhere_or_longer_is_refused(files):
    for path, read in files.items():
        whole = path.read_bytes()
        for size in [*range(150), *range(150, len(whole), 37), len(whole) - 1]:
            path.write_bytes(whole[:size])
            assert "FAISS" in refused(read, path)
        path.write_bytes(whole + b"\0")
        assert f"{len(whole) + 1:,} bytes" in refused(read, path)


def test_every_bit_of_the_numbers_in_a_file_counts(files):
    """Before any memory is taken by them; the flipped codes, centroids, ids and the nprobe that nobody reads are left out."""
    for path, read in files.items():
        whole = path.read_bytes()
        numbers = [*range(33)]
        if read is IvfIndex:
            nprobe, centroids, sizes = 25 + 8, 25 + 16 + 33, lists_layout(path)
            numbers = [*range(nprobe), *range(nprobe + 8, centroids), *range(centroids + 32, sizes.lists_at)]
        for at in numbers:
            for bit in range(8):
                flipped = bytearray(whole)
                flipped[at] ^= 1 << bit
                path.write_bytes(flipped)
                refused(read, path)
        path.write_bytes(whole)
        read(path)


def test_lists_on_a_disk_of_their_own_are_not_opened(tmp_path, files):
    """FAISS would open any path that such a file names, for writing."""
    path = next(path for path, read in files.items() if read is IvfIndex)
    index = faiss.read_index_binary(str(path))
    elsewhere = faiss.OnDiskInvertedLists(index.nlist, index.code_size, str(tmp_path / "elsewhere"))
    elsewhere.merge_from_1(index.invlists)
    index.replace_invlists(elsewhere)
    (tmp_path / "ondisk").write_bytes(faiss.serialize_index_binary(index).tobytes())
    assert "b'ilod' for lists, expected b'ilar'" in refused(IvfIndex, tmp_path / "ondisk")


def test_lists_with_a_direct_map_are_not_opened(tmp_path, files):
    path = next(path for path, read in files.items() if read is IvfIndex)
    index = faiss.read_index_binary(str(path))
    index.make_direct_map()
    (tmp_path / "mapped").write_bytes(faiss.serialize_index_binary(index).tobytes())
    assert "direct map" in refused(IvfIndex, tmp_path / "mapped")


@pytest.mark.parametrize(
    "pairs", [[(1, 30), (1, 60)], [(4, 90)], [(2, 45), (1, 45)], [(1, 89)], [(1, 2**63), (2, 2**63 + 90)]]
)
def test_short_forms_that_lie_are_refused(files, pairs):
    path = next(path for path, read in files.items() if read is IvfIndex)
    whole, layout = path.read_bytes(), lists_layout(path)
    at = whole.rindex(b"full", 0, layout.lists_at)
    sizes = b"sprs" + struct.pack("<Q", 2 * len(pairs)) + b"".join(struct.pack("<QQ", *pair) for pair in pairs)
    path.write_bytes(whole[:at] + sizes + whole[layout.lists_at :])
    refused(IvfIndex, path)


def test_files_of_another_kind_are_named(files):
    flat, lists = files
    assert "b'IBwF' for the kind of index, expected b'IBxF'" in refused(FlatIndex, lists)
    assert "b'IBxF' for the kind of index, expected b'IBwF'" in refused(IvfIndex, flat)
    refused(FlatIndex, flat.parent)
    refused(FlatIndex, flat.parent / "missing")


FEW_HANDLES = """
import os, resource, sys
from pathlib import Path
from encoder.errors import HashgrainError
from indexer.engines import faiss_cpu
path, layout = Path(sys.argv[1]), faiss_cpu.flat_layout(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
held = []
try:
    while True:
        held.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
for read in (faiss_cpu.FlatIndex, lambda path: faiss_cpu.read_mapped(path, lambda _: layout)):
    try:
        read(path)
    except HashgrainError as err:
        print(err.reason, err)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="sets Linux's limits")
def test_a_process_out_of_handles_is_not_told_to_build_again(files):
    """By us or by FAISS."""
    flat, _ = files
    done = subprocess.run([sys.executable, "-c", FEW_HANDLES, str(flat)], capture_output=True, text=True, check=True)
    line = f"no-resources {flat} could not be read (Too many open files); end other work, or raise the system's limit\n"
    assert done.stdout == 2 * line

import os
import resource
import shutil

import faiss
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from encoder.errors import HashgrainError, Reason
from encoder.levels import Level
from indexer.changes.compact import compact
from indexer.changes.history import history
from indexer.changes.imports import ImportRequest, import_codes
from indexer.index import Index
from indexer.query import ByKey
from indexer.settings import BitOrder, CompactSettings, OnDuplicate, SearchSettings
from indexer.verify import verify


@pytest.fixture
def codes(rng):
    return rng.integers(0, 256, (50, 8), dtype=np.uint8)


@pytest.fixture
def index(tmp_path):
    return tmp_path / "index"


def saved(tmp_path, codes, kind):
    """Save codes lowest bit first in each form there is; return the path and the order that has to be said."""
    path = tmp_path / f"codes.{kind}"
    if kind == "npy":
        np.save(path, codes)
    elif kind == "npz":
        np.savez(path, codes)
    elif kind == "deflated.npz":
        np.savez_compressed(path, fine=codes, other=codes[:3])
    elif kind == "faiss":
        flat = faiss.IndexBinaryFlat(64)
        flat.add(codes)
        faiss.write_index_binary(flat, str(path))
    else:
        columns = {
            "fixed": pa.array([code.tobytes() for code in codes], pa.binary(8)),
            "binary": pa.array([code.tobytes() for code in codes], pa.binary()),
            "large": pa.array([code.tobytes() for code in codes], pa.large_binary()),
            "lists": pa.array(codes.tolist(), pa.list_(pa.uint8())),
            "dictionary": pa.array([code.tobytes() for code in codes], pa.binary()).dictionary_encode(),
        }
        parquet.write_table(pa.table({"fine": columns[kind], "n": range(len(codes))}), path, row_group_size=7)
    return path, None if kind == "faiss" else BitOrder.LITTLE


FORMS = ["npy", "npz", "deflated.npz", "faiss", "fixed", "binary", "large", "lists", "dictionary"]


@pytest.mark.parametrize("kind", FORMS)
def test_codes_of_every_form_are_found_as_they_were(tmp_path, index, codes, kind):
    path, order = saved(tmp_path, codes, kind)
    report = import_codes(index, ImportRequest({Level.FINE: path}, order))
    assert (report.generation, report.added, report.rows, report.notices) == ("gen-000001", 50, 50, ())
    opened = verify(index, lambda *_: None)
    assert np.array_equal(opened.codes(Level.FINE, np.arange(50)), codes)
    assert (opened.key(7), opened.shard(7)) == ("row-000000007", str(path))
    found = opened.search(Level.FINE, codes, SearchSettings(1))
    assert [one.rows.tolist() for one in found] == [[row] for row in range(50)]
    flat = faiss.read_index_binary(str(opened.folder / "segment-000/fine.flat.faiss"))
    assert np.array_equal(faiss.vector_to_array(flat.xb).reshape(50, 8), codes)
    assert [change.what for change, _ in history(index)] == ["import"]


@pytest.mark.parametrize("kind", FORMS)
def test_bits_that_were_packed_highest_first_are_turned(tmp_path, index, codes, kind):
    bits = np.unpackbits(codes, axis=1, bitorder="little")
    path, _ = saved(tmp_path, np.packbits(bits, axis=1), kind)
    import_codes(index, ImportRequest({Level.FINE: path}, BitOrder.BIG))
    assert np.array_equal(Index(index).codes(Level.FINE, np.arange(50)), codes)


def test_without_images(tmp_path, index, codes):
    import_codes(index, ImportRequest({Level.FINE: codes}, BitOrder.LITTLE, [f"k{row}" for row in range(50)]))
    opened = Index(index)
    assert opened.query(ByKey("k3"), level="fine", k=1)[0].key == "k3"
    with pytest.raises(HashgrainError) as caught:
        opened.image(3)
    assert caught.value.reason is Reason.SHARD_MISSING
    with pytest.raises(HashgrainError, match="holds no model"):
        opened.query(np.zeros((9, 9, 3), np.uint8))


def test_more_rows_and_a_key_that_comes_again(tmp_path, index, codes):
    keys = [f"k{row}" for row in range(50)]
    import_codes(index, ImportRequest({Level.FINE: codes[:30]}, BitOrder.LITTLE, keys[:30]))
    request = ImportRequest({Level.FINE: codes[20:]}, BitOrder.LITTLE, keys[20:])
    report = import_codes(index, request)
    assert (report.generation, report.added, report.replaced, report.rows) == ("gen-000002", 30, 10, 50)
    again = ImportRequest({Level.FINE: codes[:2]}, BitOrder.LITTLE, keys[:2], on_duplicate=OnDuplicate.ERROR)
    with pytest.raises(HashgrainError, match="index has 2 keys of an array already") as caught:
        import_codes(index, again)
    assert caught.value.reason is Reason.DUPLICATE_KEYS
    with pytest.raises(HashgrainError, match="has 32 bits at level fine, the index .* has 64") as caught:
        import_codes(index, ImportRequest({Level.FINE: codes[:, :4]}, BitOrder.LITTLE))
    assert caught.value.reason is Reason.CODES_MISMATCH


def test_keys_of_a_file_and_labels_of_a_table(tmp_path, index, codes):
    (tmp_path / "keys.txt").write_bytes("\ufeffä b\r\nc\r\nd\r\n".encode())
    table = {"key": ["d", "ä b", "x"], "n": [1, None, 3], "share": [0.5, float("nan"), 1.0], "tags": [["a"], [], None]}
    parquet.write_table(pa.table(table), tmp_path / "labels.parquet")
    request = ImportRequest(
        {Level.FINE: codes[:3]}, BitOrder.LITTLE, tmp_path / "keys.txt", tmp_path / "labels.parquet"
    )
    report = import_codes(index, request)
    assert report.notices == ("labels.parquet: 1 of 3 rows have no labels, first 'c'",)
    opened = verify(index, lambda *_: None)
    assert [opened.key(row) for row in range(3)] == ["ä b", "c", "d"]
    assert [opened.labels(row) for row in range(3)] == [{"tags": ()}, {}, {"n": 1, "share": 0.5, "tags": ("a",)}]
    found = opened.search(Level.FINE, codes[:1], SearchSettings(3, where="label.n = 1"))
    assert found[0].rows.tolist() == [2]


def test_a_table_says_the_keys_where_nobody_else_does(tmp_path, index, codes):
    (tmp_path / "labels.csv").write_text("id,kind\n01,cat\n02,dog\n")
    request = ImportRequest({Level.FINE: codes[:2]}, BitOrder.LITTLE, None, tmp_path / "labels.csv", "id")
    assert import_codes(index, request).labels == ("kind",)
    assert [(Index(index).key(row), Index(index).labels(row)) for row in range(2)] == [
        ("01", {"kind": "cat"}),
        ("02", {"kind": "dog"}),
    ]


def test_several_levels_of_one_file_by_name(tmp_path, index, codes):
    np.savez(tmp_path / "both.npz", a=codes, b=codes[:, :2])
    levels = {Level.FUSED: tmp_path / "both.npz#b", Level.FINE: tmp_path / "both.npz#a"}
    report = import_codes(
        index, ImportRequest(levels, BitOrder.LITTLE, checks=[f"row-000000003=fused:{first_bits(codes[3])}"])
    )
    assert (report.checked, list(report.levels), report.levels[Level.FUSED].nbits) == (1, [Level.FINE, Level.FUSED], 16)
    assert Index(index).manifest.bits == {Level.FINE: 64, Level.FUSED: 16}


def first_bits(code):
    return "".join(str(bit) for bit in np.unpackbits(code, bitorder="little")[:12])


def test_the_order_of_bits_is_checked_against_what_is_known(tmp_path, index, codes):
    codes[3, 0] = 0b00000001
    good = ImportRequest({Level.FINE: codes}, BitOrder.LITTLE, checks=["row-000000003=10000000"])
    bad = ImportRequest({Level.FINE: codes}, BitOrder.BIG, checks=["row-000000003=10000000"])
    said = "the code of 'row-000000003' at level fine begins with 00000001, expected 10000000; say the other bit order"
    with pytest.raises(HashgrainError, match=said):
        import_codes(index, bad)
    assert not index.exists()
    assert import_codes(index, good).checked == 1


NO = np.zeros((3, 8), np.uint8)


def cut(tmp_path):
    np.save(tmp_path / "x.npy", NO)
    (tmp_path / "y.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-1])
    return tmp_path / "y.npy"


def file(data, name="x"):
    def write(tmp_path):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write


def ivf(tmp_path):
    faiss.write_index_binary(faiss.IndexBinaryIVF(faiss.IndexBinaryFlat(64), 64, 2), str(tmp_path / "x"))
    return tmp_path / "x"


def vectors(tmp_path):
    faiss.write_index(faiss.IndexFlatL2(8), str(tmp_path / "x"))
    return tmp_path / "x"


def npz(**arrays):
    def write(tmp_path):
        np.savez_compressed(tmp_path / "x.npz", **arrays)
        return tmp_path / "x.npz"

    return write


def flipped(tmp_path):
    path = npz(fine=np.arange(4000, dtype=np.uint8).reshape(500, 8))(tmp_path)
    data = bytearray(path.read_bytes())
    data[150] ^= 255
    path.write_bytes(data)
    return path


def table(**columns):
    def write(tmp_path):
        parquet.write_table(pa.table(columns), tmp_path / "x.parquet")
        return tmp_path / "x.parquet"

    return write


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (lambda _: NO.astype(np.float32), "the array is float32[3, 8]; expected packed codes"),
        (lambda _: NO.ravel(), "the array is uint8[24]; expected packed codes, uint8[rows, nbits / 8]"),
        (lambda _: NO.astype(bool), "pack its bits: numpy.packbits"),
        (lambda _: np.eye(64, dtype=np.uint8), "holds a bit per byte; pack them"),
        (lambda _: np.zeros((1, 0), np.uint8), "a code has 8 to"),
        (lambda _: np.zeros((1, 100_000), np.uint8), "uint8[1, 100000]; a code has 8 to"),
        (lambda path: path / "none.npy", "none.npy could not be read: No such file"),
        (lambda path: path, "could not be read: not a regular file"),
        (cut, "y.npy could not be read: uint8(3, 8) in 23 bytes"),
        (file(b"\x93NUMPY\1\0\xff\xff" + b"(" * 70000), "does not describe an array"),
        (file(b""), "is neither .npy, .npz, Parquet nor a FAISS IndexBinaryFlat"),
        (file(b"IBxF\x40\0\0\0"), "write it again with faiss.write_index_binary"),
        (ivf, "an index of FAISS with inverted lists; give its codes by row"),
        (vectors, "is an index of FAISS with what is not codes by row (IxF2)"),
        (npz(a=NO, b=NO), "has no array 'fine' (has: a, b); name one of them"),
        (npz(fine=np.array("x")), "could not be read: its header does not describe"),
        (flipped, "could not be read: it is not a whole .npz"),
        (file(b"PK\3\4 and no more"), "could not be read: it is not a whole .npz"),
        (file(b"PAR1 and no more"), "could not be read: "),
        (table(n=[1, 2]), "it has no 'codes.fine' of bytes (columns of bytes: none)"),
        (table(a=[b"1"], b=[b"1"]), "columns of bytes: a, b); name one behind the path: PATH#COLUMN"),
        (table(a=[b"12", None]), "column 'a' has no code in row 1"),
        (table(a=[b"12", b"1"]), "codes of column 'a' have 1 to 2 bytes; expected one length"),
        (table(a=pa.array([[1, 2], [1, None]], pa.list_(pa.uint8()))), "has a code with a byte that is null"),
    ],
)
def test_what_is_not_codes_is_told_in_one_line(tmp_path, index, source, said):
    given = source(tmp_path)
    with pytest.raises(HashgrainError) as caught:
        import_codes(index, ImportRequest({Level.FINE: given}, BitOrder.LITTLE))
    assert said in str(caught.value)
    assert caught.value.reason is Reason.BAD_VALUE
    assert not index.exists()


@pytest.mark.parametrize(
    ("request_of", "said"),
    [
        (lambda path: ImportRequest({}), "no codes to import"),
        (lambda path: ImportRequest({Level.FINE: NO}), "the array does not say in which order its bits were packed"),
        (lambda path: ImportRequest({Level.FINE: NO, Level.MID: NO[:1]}, BitOrder.BIG), "fine 3, mid 1; row i of each"),
        (lambda path: ImportRequest({Level.FINE: NO}, BitOrder.BIG, ["a", "b"]), "has 2 keys, there are 3 codes"),
        (lambda path: ImportRequest({Level.FINE: NO}, BitOrder.BIG, ["a", "", "c"]), "row 2: '' is not a key"),
        (
            lambda path: ImportRequest({Level.FINE: NO}, BitOrder.BIG, ["a", "b", "\x1b]"]),
            "row 3: '\\x1b]' is not a key",
        ),
        (
            lambda path: ImportRequest({Level.FINE: NO}, BitOrder.BIG, path / "none"),
            "none could not be read: No such file",
        ),
        (lambda path: ImportRequest({Level.FINE: NO}, BitOrder.BIG, file(b"\xff\n" * 3)(path)), "it is not UTF-8"),
        (
            lambda path: ImportRequest({Level.FINE: NO}, BitOrder.BIG, file(b"a\n\nb\n")(path)),
            "line 2: '' is not a key",
        ),
        (lambda path: ImportRequest({Level.FINE: NO}, BitOrder.BIG, checks=["x"]), "check 'x' is not KEY=BITS"),
        (
            lambda path: ImportRequest({Level.FINE: NO}, BitOrder.BIG, checks=["a=1"]),
            "there is no row with the key 'a'",
        ),
        (lambda path: ImportRequest({Level.FINE: NO}, BitOrder.BIG, checks=["a=mid:1"]), "level mid is not imported"),
        (
            lambda path: ImportRequest({Level.FINE: NO}, BitOrder.BIG, labels=table(n=[1])(path)),
            "no column key or file_name",
        ),
    ],
)
def test_what_does_not_fit_together_is_told_in_one_line(tmp_path, index, request_of, said):
    with pytest.raises(HashgrainError) as caught:
        import_codes(index, request_of(tmp_path))
    assert said in str(caught.value)
    assert caught.value.reason is Reason.BAD_VALUE
    assert not index.exists()


def test_a_key_twice(index):
    with pytest.raises(HashgrainError, match="1 key given again, first 'a' in rows 1 and 3; give each") as caught:
        import_codes(index, ImportRequest({Level.FINE: NO}, BitOrder.LITTLE, ["a", "b", "a"]))
    assert caught.value.reason is Reason.DUPLICATE_KEYS


def test_no_rows_and_rows_after_them(index):
    assert import_codes(index, ImportRequest({Level.FINE: NO[:0]}, BitOrder.LITTLE)).rows == 0
    assert import_codes(index, ImportRequest({Level.FINE: NO}, BitOrder.LITTLE)).rows == 3


def test_the_model_that_made_the_codes(tmp_path, index, model_path, rng):
    codes = rng.integers(0, 256, (5, 8), dtype=np.uint8)
    request = ImportRequest({Level.FINE: codes[:, :4]}, BitOrder.LITTLE, model=model_path)
    with pytest.raises(HashgrainError, match="codes of fine have 32 bits, those of model .* have 64"):
        import_codes(index, request)
    import_codes(index, ImportRequest({Level.FINE: codes}, BitOrder.LITTLE, model=model_path))
    opened = verify(index, lambda *_: None)
    assert opened.manifest.model
    assert len(Index(index).query(np.zeros((40, 40, 3), np.uint8), level="fine", k=5)) == 5
    with pytest.raises(HashgrainError, match="was made by model unknown, the index"):
        import_codes(index, ImportRequest({Level.FINE: codes}, BitOrder.LITTLE))


def test_imported_rows_stand_compaction(index, codes):
    for start in range(0, 50, 10):
        keys = [f"k{row}" for row in range(start, start + 10)]
        import_codes(
            index, ImportRequest({Level.FINE: codes[start : start + 10]}, BitOrder.LITTLE, keys, compact=False)
        )
    assert len(Index(index).segments) == 5
    compact(index, CompactSettings(all=True))
    opened = verify(index, lambda *_: None)
    assert (len(opened.segments), opened.shard(30)) == (1, "an array")
    assert np.array_equal(opened.codes(Level.FINE, np.arange(50)), codes)


def test_an_npz_that_unpacks_to_more_than_the_disk_has_is_refused_before(tmp_path, index, codes, monkeypatch):
    np.savez_compressed(tmp_path / "x.npz", fine=codes)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(
        HashgrainError, match="x.npz has 528 bytes unpacked, and the disk of .* has room for 100"
    ) as caught:
        import_codes(index, ImportRequest({Level.FINE: tmp_path / "x.npz"}, BitOrder.LITTLE))
    assert caught.value.reason is Reason.WRITE_FAILED


@pytest.mark.parametrize("what", ["codes", "keys", "labels"])
def test_a_process_out_of_handles_is_not_told_that_its_files_are_bad(tmp_path, index, codes, what):
    np.save(tmp_path / "codes.npy", codes)
    (tmp_path / "keys.txt").write_text("".join(f"k{row}\n" for row in range(50)))
    (tmp_path / "labels.csv").write_text("key,n\nk0,1\n")
    request = ImportRequest(
        {Level.FINE: tmp_path / "codes.npy" if what == "codes" else codes},
        BitOrder.LITTLE,
        tmp_path / "keys.txt" if what == "keys" else [f"k{row}" for row in range(50)],
        tmp_path / "labels.csv" if what == "labels" else None,
    )
    import_codes(tmp_path / "first", request)  # which loads all that it takes
    lowest, limits = os.dup(0), resource.getrlimit(resource.RLIMIT_NOFILE)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        with pytest.raises(HashgrainError, match=f"^{what} .* could not be read .Too many open files") as caught:
            import_codes(index, request)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert caught.value.reason is Reason.NO_RESOURCES

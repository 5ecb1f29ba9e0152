import itertools
import json
import shutil
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from encoder.bits import pack
from encoder.codes.file import list_code_files
from encoder.errors import HashgrainError, Reason
from encoder.levels import Level
from encoder.runtime import files
from encoder.runtime.publish import exclusive, sha256_of
from indexer.build import build
from indexer.engines.faiss_lists import IvfIndex
from indexer.index import Index
from indexer.settings import (
    BuildSettings,
    Combine,
    CombineSettings,
    Dedupe,
    Engine,
    IndexKind,
    OnDuplicate,
    SearchSettings,
)
from indexer.storage.current import MANIFEST, POINTER, read_current, write_manifest, write_pointer
from indexer.verify import verify
from tests.support.hostile import reseal_index
from tests.support.inverted_lists import write_ivf
from tests.support.oracles import nearest


@pytest.fixture
def built(tmp_path, write_codes, rng):
    """An index of two code files, its codes, and where it is."""
    codes = {level: rng.integers(0, 4, (50, 8), dtype=np.uint8) for level in Level}
    write_codes(
        "a",
        {level: values[:20] for level, values in codes.items()},
        labels=[{"fine": n, "only": "a"} for n in range(20)],
    )
    write_codes(
        "b", {level: values[20:] for level, values in codes.items()}, labels=[{"fine": f"b{n}"} for n in range(30)]
    )
    build(
        [tmp_path / "codes/a.h5", tmp_path / "codes/b.h5"],
        tmp_path / "index",
        BuildSettings(kind=IndexKind.IVF, nlist=4),
    )
    return tmp_path / "index", codes


@pytest.mark.parametrize("level", list(Level))
def test_search_is_exact_over_all_files(built, level):
    path, codes = built
    index = Index(path)
    for settings in (
        SearchSettings(7, exact=True),
        SearchSettings(None, radius=9, exact=True),
        SearchSettings(5, radius=8, exact=True),
    ):
        for query, found in zip(codes[level][:10], index.search(level, codes[level][:10], settings), strict=True):
            assert (found.rows.tolist(), found.distances.tolist()) == nearest(
                query, codes[level], settings.k, settings.radius
            )


def test_two_segments_answer_as_one(built, tmp_path, write_codes):
    path, codes = built
    for name in ("a", "b"):
        build([tmp_path / f"codes/{name}.h5"], tmp_path / name, BuildSettings())
    both, manifests = tmp_path / "both", []
    (both / "gen-000001").mkdir(parents=True)
    for name in ("a", "b"):
        folder, manifest = read_current(tmp_path / name)
        shutil.copytree(folder / "segment-000", both / "gen-000001" / name)
        manifests.append(manifest)
    merged = replace(
        manifests[0],
        segments=[replace(manifest.segments[0], name=name) for name, manifest in zip("ab", manifests, strict=True)],
        files={
            key.replace("segment-000", name): value
            for name, manifest in zip("ab", manifests, strict=True)
            for key, value in manifest.files.items()
        },
    )
    write_manifest(both / "gen-000001", merged)
    write_pointer(both, "gen-000001")
    one, two = Index(path), verify(both, lambda *_: None)
    assert two.ntotal == one.ntotal == 50
    for settings in (SearchSettings(60, exact=True), SearchSettings(4), SearchSettings(None, radius=7)):
        exact = replace(settings, exact=True)
        for mine, truth in zip(
            two.search(Level.MID, codes[Level.MID], settings),
            one.search(Level.MID, codes[Level.MID], exact),
            strict=True,
        ):
            assert mine.rows.tolist() == truth.rows.tolist()
    for row in range(50):
        assert two.key(row) == one.key(row)
        assert two.find(one.key(row)) == row
        assert (two.codes(Level.FUSED, np.array([row])) == codes[Level.FUSED][row]).all()
    assert two.labels(3) == {"fine": 3, "only": "a"}
    assert two.labels(23) == {"fine": "b3"}


def removing(path, gone):
    """Take rows out of a built index, as a writer of removals would: a new generation with a bitmap of what lives."""
    folder, manifest = read_current(path)
    rows = manifest.rows
    np.save(folder / "live.npy", pack(~np.isin(np.arange(rows), gone)))
    [segment] = manifest.segments
    live = folder / "live.npy"
    (folder / MANIFEST).unlink()
    files = manifest.files | {"live.npy": (live.stat().st_size, sha256_of(live))}
    write_manifest(
        folder, replace(manifest, segments=[replace(segment, live="live.npy", removed=len(gone))], files=files)
    )
    write_pointer(path, folder.name)
    return verify(path, lambda *_: None)


@pytest.mark.parametrize("dedupe", list(Dedupe))
def test_removed_rows_are_never_found_and_the_others_keep_their_numbers(built, tmp_path, dedupe):
    _, codes = built
    files = [tmp_path / "codes/a.h5", tmp_path / "codes/b.h5"]
    build(files, tmp_path / "some", BuildSettings(dedupe=dedupe))
    gone = [0, 3, 4, 20, 49]
    index = removing(tmp_path / "some", gone)
    assert index.ntotal == 50
    assert index.live_rows().tolist() == [row for row in range(50) if row not in gone]
    for level, engine in itertools.product(Level, [Engine.AUTO, Engine.SCAN, Engine.FAISS]):
        alive = index.live_rows()
        [found] = index.search(level, codes[level][:1], SearchSettings(100, engine=engine))
        rows, distances = nearest(codes[level][0], codes[level][alive])
        assert (found.rows.tolist(), found.distances.tolist()) == (alive[rows].tolist(), distances)
    with pytest.raises(HashgrainError) as caught:
        index.find("a-3")
    assert caught.value.reason is Reason.KEY_UNKNOWN
    assert index.find("a-5") == 5


def test_rows_with_one_code_may_share_an_entry(tmp_path, write_codes, rng):
    codes = rng.integers(0, 256, (7, 8), dtype=np.uint8)[rng.integers(0, 7, 400)]
    write_codes("a", {Level.FINE: codes})
    files, levels = list_code_files([tmp_path / "codes"]), (Level.FINE,)
    for dedupe, kind in itertools.product(Dedupe, (IndexKind.FLAT, IndexKind.IVF)):
        path = tmp_path / f"{dedupe}-{kind}"
        nlist = 3 if kind is IndexKind.IVF else None
        build(files, path, BuildSettings(kind, levels, nlist=nlist, dedupe=dedupe))
        index = verify(path, lambda *_: None)
        part = index.segments[0].levels[Level.FINE]
        assert part.flat.ntotal == (400 if dedupe is Dedupe.OFF else 7)
        assert (index.codes(Level.FINE, np.arange(400)) == codes).all()
        for settings in (SearchSettings(150, nprobe=3), SearchSettings(None, radius=30, exact=True)):
            for query, found in zip(codes[:3], index.search(Level.FINE, codes[:3], settings), strict=True):
                truth = nearest(query, codes, settings.k, settings.radius)
                assert (found.rows.tolist(), found.distances.tolist()) == truth


def test_auto_shares_codes_only_where_that_halves_the_entries(tmp_path, write_codes):
    for distinct in (50, 51):
        codes = np.arange(100, dtype=np.uint8)[:, None] % distinct
        path = write_codes(f"{distinct}", {Level.FINE: codes})
        build([path], tmp_path / f"{distinct}", BuildSettings(levels=(Level.FINE,)))
        shared = Index(tmp_path / f"{distinct}").manifest.segments[0].levels[Level.FINE].postings
        assert (shared is not None) == (distinct == 50)


def test_labels_of_files_that_differ_are_brought_together(built):
    index = Index(built[0])
    assert index.labels(3) == {"fine": "3", "only": "a"}  # an integer in one file, a string in the other
    assert index.labels(20) == {"fine": "b0"}


def test_an_empty_index_answers_with_nothing(tmp_path, write_codes):
    write_codes("none", {level: np.empty((0, 8), np.uint8) for level in Level})
    for kind in IndexKind:
        build(list_code_files([tmp_path / "codes"]), tmp_path / kind, BuildSettings(kind=kind))
        index = verify(tmp_path / kind, lambda *_: None)
        for settings in (SearchSettings(3), SearchSettings(3, radius=64)):
            [found] = index.search(Level.FINE, np.zeros((1, 8), np.uint8), settings)
            assert len(found.rows) == len(found.distances) == 0
        with pytest.raises(HashgrainError) as caught:
            index.find("x")
        assert caught.value.reason is Reason.KEY_UNKNOWN


def test_k_beyond_the_rows_returns_them_all(built):
    path, codes = built
    [found] = Index(path).search(Level.FINE, codes[Level.FINE][:1], SearchSettings(1000, exact=True))
    assert sorted(found.rows.tolist()) == list(range(50))


@pytest.mark.parametrize(
    "queries",
    [np.zeros((1, 9), np.uint8), np.zeros(8, np.uint8), np.zeros((1, 8), np.int8)],
    ids=["size", "rank", "type"],
)
def test_queries_of_another_shape_are_refused(built, queries):
    with pytest.raises(HashgrainError) as caught:
        Index(built[0]).search(Level.FINE, queries, SearchSettings())
    assert caught.value.reason is Reason.BAD_VALUE


@pytest.mark.parametrize("options", [{"k": 0}, {"k": None}, {"radius": -1}, {"nprobe": 0}])
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(HashgrainError) as caught:
        SearchSettings(**options)
    assert caught.value.reason is Reason.BAD_VALUE


@pytest.mark.parametrize(("which", "kept"), [(OnDuplicate.FIRST, "pqrstu"), (OnDuplicate.REPLACE, "rsqtpu")])
def test_one_of_duplicates_keeps_rows_codes_and_places_together(tmp_path, write_codes, rng, which, kept):
    codes = rng.integers(0, 256, (8, 8), dtype=np.uint8)
    write_codes("a", {Level.FINE: codes[:4]}, keys=["p", "q", "r", "s"], places=[(n, 1) for n in range(4)])
    write_codes(
        "b",
        {Level.FINE: codes[4:]},
        keys=["q", "t", "p", "u"],
        places=[(n, 1) for n in range(4, 8)],
        shard_path="/elsewhere",
    )
    files, settings = list_code_files([tmp_path / "codes"]), BuildSettings(levels=(Level.FINE,))
    with pytest.raises(HashgrainError) as caught:
        build(files, tmp_path / "index", settings)
    assert caught.value.reason is Reason.DUPLICATE_KEYS
    said = f"2 keys in more than one row, first 'q' in {files[0]} and {files[1]}, of the shards /nowhere and /elsewhere"
    assert str(caught.value).startswith(said)
    report = build(files, tmp_path / "index", replace(settings, on_duplicate=which))
    assert (report.rows, report.duplicates) == (6, 2)
    index = verify(tmp_path / "index", lambda *_: None)
    rows = [0, 1, 2, 3, 5, 7] if which is OnDuplicate.FIRST else [2, 3, 4, 5, 6, 7]
    assert [index.key(row) for row in range(6)] == list(kept)
    assert index.codes(Level.FINE, np.arange(6)).tolist() == codes[rows].tolist()
    assert index.segments[0].table.places[:, 0].tolist() == rows


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"fingerprint": "e" * 64}, Reason.CODES_MISMATCH),
        ({"codes": {Level.FINE: np.zeros((1, 16), np.uint8)}}, Reason.CODES_MISMATCH),
        ({"damage": "cut"}, Reason.SHARD_DAMAGED),
    ],
    ids=["fingerprint", "bits", "damaged-shard"],
)
def test_code_files_that_do_not_belong_together_are_refused(tmp_path, write_codes, change, reason):
    codes = {Level.FINE: np.zeros((1, 8), np.uint8)}
    write_codes("a", codes)
    write_codes("b", **({"codes": codes} | change))
    with pytest.raises(HashgrainError) as caught:
        build(list_code_files([tmp_path / "codes"]), tmp_path / "index", BuildSettings(levels=(Level.FINE,)))
    assert caught.value.reason is reason
    assert not (tmp_path / "index").exists()


def test_an_index_is_not_overwritten_unless_asked_and_a_failed_build_leaves_the_old_one(built, tmp_path, write_codes):
    path, _ = built
    with pytest.raises(HashgrainError) as caught:
        build([tmp_path / "codes/a.h5"], path, BuildSettings())
    assert caught.value.reason is Reason.EXISTS
    bad = tmp_path / "codes/b.h5"
    bad.write_bytes(bad.read_bytes()[:-1])
    with pytest.raises(HashgrainError) as caught:
        build([tmp_path / "codes/a.h5", bad], path, BuildSettings(overwrite=True))
    assert caught.value.reason is Reason.CODES_DAMAGED
    assert verify(path, lambda *_: None).ntotal == 50
    old = Index(path)
    build([tmp_path / "codes/a.h5"], path, BuildSettings(overwrite=True))
    assert Index(path).ntotal == 20
    assert old.ntotal == 50


def files_of(path):
    return sorted(file for file in path.rglob("*") if file.is_file() and file.name != ".lock")


def test_verify_notices_every_file_cut_flipped_or_missing(built, tmp_path, rng):
    path, _ = built
    for file in files_of(path):
        whole = file.read_bytes()
        flipped = bytearray(whole)
        flipped[int(rng.integers(len(whole)))] ^= 16
        for harmed in (whole[:-1], bytes(flipped), None):
            file.unlink() if harmed is None else file.write_bytes(harmed)
            with pytest.raises(HashgrainError) as caught:
                verify(path, lambda *_: None)
            assert caught.value.reason in {Reason.INDEX_DAMAGED, Reason.INDEX_MISSING}
            assert "\n" not in str(caught.value)
            file.write_bytes(whole)
    assert verify(path, lambda *_: None).ntotal == 50


def test_a_newer_index_says_upgrade(built):
    path, _ = built
    folder, _ = read_current(path)
    content = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(content | {"version": 5}))
    write_pointer(path, folder.name)
    with pytest.raises(HashgrainError, match="version 5, this program reads 4; upgrade hashgrain"):
        Index(path)


@pytest.mark.parametrize("generation", ["../../etc", "..", ".", "", "/etc", "gen-1/../..", "gen-000001\n"])
def test_the_pointer_cannot_lead_out_of_the_index(built, generation):
    path, _ = built
    (path / POINTER).write_text(json.dumps({"generation": generation, "manifest_sha256": ""}))
    with pytest.raises(HashgrainError, match="is not a generation") as caught:
        Index(path)
    assert caught.value.reason is Reason.INDEX_DAMAGED


def rewritten(path, change):
    """Let somebody change the manifest, and the pointer to go with it."""
    folder, _ = read_current(path)
    content = json.loads((folder / MANIFEST).read_text())
    change(content)
    (folder / MANIFEST).write_text(json.dumps(content))
    write_pointer(path, folder.name)


def set_at(content, where, value):
    for step in where[:-1]:
        content = content[step]
    content[where[-1]] = value


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (["segments"], []),
        (["segments", 0, "name"], "/etc"),
        (["segments", 0, "name"], ".."),
        (["segments", 0, "rows"], "50"),
        (["segments", 0, "rows"], -1),
        (["segments", 0, "rows"], True),
        (["segments", 0, "live"], "../live.npy"),
        (["segments", 0, "shards", 0, "first_row"], 0.5),
        (["segments", 0, "shards", 0, "first_row"], 1),
        (["segments", 0, "shards", 0, "path"], "a\0b"),
        (["segments", 0, "shards"], []),
        (["segments", 0, "levels", "fine", "tuned"], {"k": 10, "recalls": {"-5": 1.0}}),
        (["segments", 0, "levels", "fine", "tuned"], {"k": 10, "recalls": {"5": 7.0}}),
        (["segments", 0, "labels", 0, "name"], 7),
        (["segments", 0, "levels", "fine", "flat"], "../../fine.flat.faiss"),
        (["segments", 0, "levels", "fine", "ivf"], "/other/index/fine.ivf.faiss"),
        (["segments", 0, "levels", "fine", "postings"], "a/../../b"),
        (["segments", 0, "levels", "fine", "nbits"], 63),
        (["segments", 0, "levels", "fine", "nbits"], None),
        (["segments", 0, "levels", "fine", "nlist"], 0),
        (["segments", 0, "levels", "fine", "extra"], 1),
        (["segments", 0, "rows"], 1 << 62),
        (["segments", 0, "removed"], 51),
        (["segments", 0, "removed"], 1),
        (["segments", 0, "levels", "fine", "aged"], {"rows": 1, "imbalance": float("nan"), "recall": 1}),
        (["segments", 0, "levels", "fine", "trained"], {"centroids": "\x1b[31m", "rows": 1}),
        (["segments", 0, "levels", "fine", "flat"], "fused.flat.faiss"),
        (["segments", 0, "levels", "fine", "flat"], "fine.\x1b[31m.faiss"),
        (["kind"], "quick"),
        (["history"], [{"generation": "gen-000001", "when": "", "what": "add", "added": -1, "removed": 0, "rows": 1}]),
        (["files"], {}),
        (["model"], "../model.safetensors"),
        (["model"], "segment-000/places.npy"),
        (["files"], {"../../etc/passwd": [1, ""]}),
        (["precision"], None),
        (["surprise"], 1),
    ],
)
def test_a_manifest_of_a_stranger_is_not_believed(built, where, value):
    path, _ = built
    rewritten(path, lambda content: set_at(content, where, value))
    with pytest.raises(HashgrainError) as caught:
        Index(path)
    assert caught.value.reason is Reason.INDEX_DAMAGED
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "value"), [("nbits", 32), ("nbits", 4096)])
@pytest.mark.parametrize("engine", [Engine.SCAN, Engine.FAISS, Engine.AUTO])
def test_a_file_of_other_bits_than_the_manifest_says_is_not_searched(built, name, value, engine):
    path, _ = built
    rewritten(path, lambda content: set_at(content, ["segments", 0, "levels", "fine", name], value))
    with pytest.raises(HashgrainError, match=r"fine.flat.faiss has 64 bits, 50 codes, expected .* bits, 50 codes"):
        Index(path).search(Level.FINE, np.zeros((1, value // 8), np.uint8), SearchSettings(1, engine=engine))


def test_lists_that_are_not_what_the_manifest_says_are_not_searched(tmp_path, write_codes, rng):
    write_codes("a", {Level.FINE: rng.integers(0, 256, (90, 8), dtype=np.uint8)})
    path, files = tmp_path / "index", list_code_files([tmp_path / "codes"])
    build(files, path, BuildSettings(IndexKind.IVF, (Level.FINE,), nlist=5, dedupe=Dedupe.OFF))
    rewritten(path, lambda content: set_at(content, ["segments", 0, "levels", "fine", "nlist"], 6))
    with pytest.raises(HashgrainError, match=r"fine.ivf.faiss has 64 bits, 90 codes, 5 lists, expected .* 6 lists"):
        Index(path).search(Level.FINE, np.zeros((1, 8), np.uint8), SearchSettings(1, nprobe=2))


def test_verify_looks_at_the_ids_in_lists(tmp_path, rng):
    write_ivf(tmp_path / "ivf", rng.integers(0, 256, (90, 8), dtype=np.uint8), 4)
    assert IvfIndex(tmp_path / "ivf").fault() is None
    whole = (tmp_path / "ivf").read_bytes()
    at = whole.index(np.int64(17).tobytes(), len(whole) // 2 - 800)
    (tmp_path / "ivf").write_bytes(whole[:at] + np.int64(90).tobytes() + whole[at + 8 :])
    assert "not there" in str(IvfIndex(tmp_path / "ivf").fault())


def test_an_open_index_outlives_its_generation(built):
    path, codes = built
    index, files = Index(path), [path.parent / "codes/a.h5", path.parent / "codes/b.h5"]
    for _ in range(2):
        build(files, path, BuildSettings(overwrite=True))
    [found] = index.search(Level.MID, codes[Level.MID][:1], SearchSettings(3))  # a level not looked at before
    assert found.distances[0] == 0
    assert index.key(49) == "b-29"
    assert len(list(path.glob("gen-*"))) == 2
    del index
    build(files, path, BuildSettings(overwrite=True))
    assert [each.name for each in path.glob("gen-*")] == [read_current(path)[0].name]


def test_an_index_that_another_build_made_meanwhile_is_not_replaced(built, monkeypatch):
    path, _ = built
    other, files = path.parent / "other", [path.parent / "codes/a.h5"]

    @contextmanager
    def late(folder):
        with exclusive(folder):
            shutil.copyfile(path / POINTER, folder / POINTER)
            yield

    monkeypatch.setattr("indexer.build.exclusive", late)
    with pytest.raises(HashgrainError) as caught:
        build(files, other, BuildSettings())
    assert caught.value.reason is Reason.EXISTS


@pytest.mark.parametrize("row", [-1, 50])
def test_rows_that_are_not_there_are_refused(built, row):
    index = Index(built[0])
    for ask in (index.key, index.labels, index.shard):
        with pytest.raises(IndexError, match="an index of 50"):
            ask(row)


def test_a_key_that_is_no_text_is_unknown(built):
    with pytest.raises(HashgrainError) as caught:
        Index(built[0]).find("\udcff")
    assert caught.value.reason is Reason.KEY_UNKNOWN


def test_a_number_of_lists_is_made_at_any_number_of_rows(built):
    path, _ = built
    files = [path.parent / "codes/a.h5"]
    build(files, path, BuildSettings(nlist=3, overwrite=True))
    assert {record.nlist for record in Index(path).manifest.segments[0].levels.values()} == {3}
    for wrong in ({"nlist": 0}, {"nlist": 3, "kind": IndexKind.FLAT}):
        with pytest.raises(HashgrainError, match="nlist"):
            BuildSettings(**wrong)


@pytest.mark.parametrize("engine", [Engine.SCAN, Engine.FAISS, Engine.AUTO])
def test_a_radius_beyond_all_distances_finds_every_row(built, engine):
    path, codes = built
    [found] = Index(path).search(Level.FINE, codes[Level.FINE][:1], SearchSettings(None, 2**31 - 1, engine=engine))
    assert len(found.rows) == 50


def test_what_else_lies_in_the_folder_stays(built):
    path, _ = built
    for name in ("gen-photos/x.jpg", "gen-000099/x.jpg", "movie.mkv.partial"):
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).touch()
    build([path.parent / "codes/a.h5"], path, BuildSettings(overwrite=True))
    left = sorted(str(each.relative_to(path)) for each in path.rglob("*") if each.is_file())
    assert {"gen-photos/x.jpg", "gen-000099/x.jpg", "movie.mkv.partial"} < set(left)
    assert [each.name for each in path.glob("gen-*/manifest.json")] == ["manifest.json"]


@pytest.mark.parametrize("name", ["entries", "rows", "starts"])
def test_postings_that_lead_out_of_the_rows_are_not_followed(tmp_path, write_codes, rng, name):
    write_codes("a", {Level.FINE: rng.integers(0, 4, (300, 1), dtype=np.uint8)})
    path = tmp_path / "index"
    build(list_code_files([tmp_path / "codes"]), path, BuildSettings(levels=(Level.FINE,), dedupe=Dedupe.ON))
    [file] = path.glob(f"gen-*/segment-000/fine*{name}.npy")
    content = bytearray(file.read_bytes())
    content[-5 if name == "starts" else -1] ^= 64
    file.write_bytes(content)
    reseal_index(path)
    with pytest.raises(HashgrainError, match="lead out of the 300 rows") as caught:
        Index(path).search(Level.FINE, np.zeros((1, 1), np.uint8), SearchSettings(1))
    assert caught.value.reason is Reason.INDEX_DAMAGED


def test_answers_do_not_keep_all_rows_of_their_codes(tmp_path, write_codes, rng):
    write_codes("a", {Level.FINE: np.zeros((3000, 1), dtype=np.uint8)})
    path = tmp_path / "index"
    build(list_code_files([tmp_path / "codes"]), path, BuildSettings(levels=(Level.FINE,), dedupe=Dedupe.ON))
    [found] = Index(path).search(Level.FINE, np.zeros((1, 1), np.uint8), SearchSettings(5))
    assert found.rows.tolist() == list(range(5))
    assert found.rows.base is None
    assert found.distances.base is None


@pytest.mark.parametrize("settings", [SearchSettings(2**70), SearchSettings(2**70, nprobe=2)])
@pytest.mark.parametrize("engine", [Engine.SCAN, Engine.FAISS])
@pytest.mark.parametrize("dedupe", [Dedupe.OFF, Dedupe.ON])
def test_more_answers_than_there_are_numbers(tmp_path, write_codes, settings, engine, dedupe):
    write_codes("a", {Level.FINE: np.arange(200, dtype=np.uint8).repeat(2)[:, None]})
    path = tmp_path / "index"
    build(
        list_code_files([tmp_path / "codes"]), path, BuildSettings(IndexKind.IVF, (Level.FINE,), nlist=2, dedupe=dedupe)
    )
    [found] = Index(path).search(Level.FINE, np.zeros((1, 1), np.uint8), replace(settings, engine=engine))
    assert len(found.rows) == 400


@pytest.mark.parametrize("name", [POINTER, MANIFEST])
def test_json_nested_too_deep_is_no_index(built, name):
    path, _ = built
    deep = "[" * 100_000 + "]" * 100_000
    if name == POINTER:
        (path / POINTER).write_text(deep)
    else:
        folder = read_current(path)[0]
        (folder / MANIFEST).write_text(deep)
        write_pointer(path, folder.name)
    with pytest.raises(HashgrainError) as caught:
        Index(path)
    assert caught.value.reason is Reason.INDEX_DAMAGED


def test_levels_are_asked_with_as_many_codes_each(built):
    path, codes = built
    wanted = CombineSettings(Combine.CASCADE, (Level.COARSE, Level.FINE))
    for queries in (
        {Level.FINE: codes[Level.FINE][:2]},
        {},
        {Level.FINE: codes[Level.FINE][:2], Level.COARSE: codes[Level.COARSE][:1]},
    ):
        with pytest.raises(HashgrainError, match="give as many at each of coarse, fine"):
            Index(path).combine(queries, wanted)


@pytest.mark.parametrize("times", [1, 100])
def test_a_pointer_that_could_not_be_read_for_a_moment_is_read_again_and_is_what_the_index_was_opened_by(
    built, monkeypatch, times
):
    folder, _ = built
    real, asked = files.read_regular, []

    def fail_at_first(path, *arguments, **words):
        asked.append(path.name)
        if path.name == POINTER and asked.count(POINTER) <= times:
            raise OSError(5, "Input/output error")
        return real(path, *arguments, **words)

    for module in ("indexer.opened", "indexer.storage.current"):
        monkeypatch.setattr(f"{module}.read_regular", fail_at_first)
    if times == 1:
        opened = Index(folder)
        monkeypatch.undo()
        assert opened.is_current
        assert opened.reopen() is opened
        return
    with pytest.raises(HashgrainError) as caught:
        Index(folder)
    assert caught.value.reason is Reason.INDEX_MISSING
    assert "Input/output error" in str(caught.value)

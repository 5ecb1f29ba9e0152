"""An index as programs use it: every form of query, threads, processes, and a model that is loaded once."""

import json
import multiprocessing
import os
import shutil
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import cast

import faiss
import numpy as np
import pytest
import torch
from PIL import Image

import encoder
import indexer
from encoder.codes.file import list_code_files
from encoder.errors import HashgrainError, Reason
from encoder.images.expand import expand
from encoder.images.region import WHOLE, Region, RegionMode
from encoder.levels import Level
from encoder.model.spec import Precision
from encoder.stream.job import encode
from encoder.stream.settings import EncodeSettings
from indexer import ByCode, ByImage, ByKey, Engine, SearchSettings
from indexer.build import build
from indexer.settings import BuildSettings, Dedupe, IndexKind, TuneSettings
from indexer.tune import tune
from tests.support.one_gpu import OneGpu, installed
from tests.support.pictures import encoded

THREADS = 16


@pytest.fixture
def index(index_folder):
    return indexer.open(index_folder)


@pytest.fixture
def photo(tmp_path):
    """The picture of a row that is not in the index, without loss, so that its bytes and its pixels are one picture."""
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(133, "PNG"))
    return path


def pixels(photo):
    return np.asarray(Image.open(photo).convert("RGB"))


FORMS = {
    "path": lambda photo: photo,
    "path by name": lambda photo: ByImage(str(photo)),
    "bytes": lambda photo: photo.read_bytes(),
    "named bytes": lambda photo: ByImage(photo.read_bytes(), "upload"),
    "PIL": Image.open,
    "PIL in a query": lambda photo: ByImage(Image.open(photo)),
    "array": pixels,
    "array in columns": lambda photo: np.asfortranarray(pixels(photo)),
    "array upside down": lambda photo: pixels(photo)[::-1][::-1],
}


@pytest.mark.parametrize("form", FORMS)
def test_an_image_finds_the_same_in_every_form(index, photo, form):
    whole = index.encoder.encode([photo], [Level.MID])
    expected = index.search(Level.MID, whole.codes[Level.MID], SearchSettings(5))[0]
    answer = index.query(FORMS[form](photo), level="mid", k=5)
    assert [(hit.row, hit.distance) for hit in answer] == list(
        zip(expected.rows.tolist(), expected.distances.tolist(), strict=True)
    )
    assert [hit.rank for hit in answer] == [1, 2, 3, 4, 5]
    assert answer.query == (str(photo) if "path" in form else "upload" if "named" in form else answer[0].query)


@pytest.mark.parametrize("mode", RegionMode)
def test_the_whole_picture_as_a_region_finds_what_it_finds_without_one(index, photo, mode):
    plain = index.query(photo, k=20)
    assert [hit.as_dict() for hit in index.query(ByImage(photo, region=WHOLE, region_mode=mode), k=20)] == [
        hit.as_dict() for hit in plain
    ]


@pytest.mark.parametrize("mode", [*RegionMode, None])
def test_a_region_is_looked_for_as_the_encoder_codes_it(index, photo, mode):
    region = Region(0.1, 0.3, 0.4, 0.5)
    asked = [photo, ByImage(photo, "part", region, mode), ByKey("pic-007"), ByKey("pic-007", region, mode)]
    answers = index.query_batch(asked, level="fine", k=9)
    row = index.find("pic-007")
    coded = index.encoder.encode([photo, index.image(row)], ["fine"], regions=[region] * 2, mode=mode)
    for answer, code, name in zip((answers[1], answers[3]), coded.codes["fine"], ("part", "key:pic-007"), strict=True):
        assert answer.query == name
        expected = index.query(ByCode(code), level="fine", k=9)
        assert [(hit.row, hit.distance) for hit in answer] == [(hit.row, hit.distance) for hit in expected]
    plain = index.query_batch([photo, ByKey("pic-007")], level="fine", k=9)
    assert [list(answers[0]), list(answers[2])] == [list(each) for each in plain]
    assert list(answers[1]) != list(answers[0])


def test_both_modes_in_one_batch_are_each_their_own(index, photo):
    region = Region(0.5, 0.5, 0.5, 0.5)
    asked = [ByImage(photo, None, region, mode) for mode in ("crop", "attention", "crop")]
    assert [list(each) for each in index.query_batch(asked)] == [list(index.query(each)) for each in asked]


def test_a_region_of_a_row_leaves_the_row_out_and_is_ordered_by_logits_as_an_image_is(index):
    region = Region(0.2, 0.2, 0.7, 0.7)
    found = index.query(ByKey("pic-007", region), k=60, exclude_self=True)
    assert len(found) == 59
    assert "pic-007" not in {hit.key for hit in found}
    picture = index.image(index.find("pic-007"))
    assert [(hit.key, hit.score) for hit in index.query(ByKey("pic-007", region), level="mid", rerank=20)] == [
        (hit.key, hit.score) for hit in index.query(ByImage(picture, region=region), level="mid", rerank=20)
    ]


def test_the_limits_of_an_index_hold_for_queries_and_go_along(index_folder, photo):
    pixels_of_photo = pixels(photo).shape[0] * pixels(photo).shape[1]
    narrow = indexer.open(index_folder, limits=indexer.Limits(max_pixels=pixels_of_photo - 1))
    wide = indexer.open(index_folder, limits=indexer.Limits(max_pixels=pixels_of_photo))
    assert len(wide.query(photo, k=3)) == 3
    for opened in (narrow, narrow.reopen(), ForkingPickler.loads(ForkingPickler.dumps(narrow))):
        with pytest.raises(HashgrainError, match="too-many-pixels"):
            opened.query(photo, k=3)


def test_a_key_and_its_code_find_what_the_index_finds(index):
    row = np.array([index.find("pic-007")])
    by_key = index.query(ByKey("pic-007"), level="fine", k=7)
    by_code = index.query(ByCode(index.codes(Level.FINE, row)[0]), level="fine", k=7)
    assert [hit.row for hit in by_key] == [hit.row for hit in by_code]
    assert by_key.query == "key:pic-007"
    assert by_key[0].key == "pic-007"
    codes = {level: index.codes(level, row)[0] for level in (Level.MID, Level.FINE)}
    several = index.query(ByCode(codes), levels=["mid", "fine"], combine="sum", k=7)
    assert [hit.as_dict() | {"query": ""} for hit in several] == [
        hit.as_dict() | {"query": ""}
        for hit in index.query(ByKey("pic-007"), levels=["mid", "fine"], combine="sum", k=7)
    ]


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("photo.png", "'photo.png' is not a query; give pathlib.Path for a file, ByKey for a key"),
        (np.zeros(8, np.uint8), "uint8[8] is not a query; give uint8[height, width, 3] for pixels, ByCode for a code"),
        (np.zeros((4, 4, 4), np.uint8), "uint8[4, 4, 4] is not an image"),
        (np.zeros((4, 4, 3), np.float32), "float32[4, 4, 3] is not an image"),
        (np.zeros((0, 4, 3), np.uint8), "uint8[0, 4, 3] is not an image"),
        (7, "7 is not a query"),
        (ByKey("pic-007", cast("Region", (0, 0, 1, 1))), "a query has region (0, 0, 1, 1); give a Region"),
        (ByImage(b"", region=cast("Region", "0,0,1,1")), "a query has region '0,0,1,1'; give a Region"),
        (None, "None is not a query"),
        (
            [ByKey("pic-007")],
            "[ByKey(key='pic-007', region=None, region_mode=None)] is not a query; give one query, or several to query_batch",
        ),
        (ByKey(cast("str", ["pic-007"])), "a query has key ['pic-007']; give one key, a str"),
        (ByImage(b"no image"), "image of 8 bytes cannot be used (unknown-format"),
        (b"", "image of 0 bytes cannot be used (empty"),
        (Path("nowhere.png"), "image nowhere.png could not be read"),
        (ByKey("nobody"), "key 'nobody' is not among the 60"),
        (ByCode(np.zeros(7, np.uint8)), "a query's code is uint8[7]; level fine takes uint8[8]"),
        (ByCode(np.zeros((1, 8), np.uint8)), "a query's code is uint8[1, 8]"),
        (ByCode(np.zeros(8, np.int8)), "a query's code is int8[8]"),
        (ByCode({Level.MID: np.zeros(8, np.uint8)}), "a query has a code at mid; give one at each of fine"),
    ],
)
def test_what_is_not_a_query_is_one_line(index, what, says):
    with pytest.raises(HashgrainError) as caught:
        index.query(what, level="fine")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"level": "finest"}, "no level is called 'finest'"),
        ({"level": "mid", "levels": ["mid", "fine"]}, "level: mid; expected left out: mid, fine are combined"),
        ({"levels": ["mid", "fine"], "rerank": 20}, "rerank: 20; expected left out"),
        ({"weights": [1, 2]}, "weights: [1, 2]; expected left out, or levels that are to be combined"),
        ({"engine": "abacus"}, "engine: abacus; expected one of auto, scan, faiss, gpu"),
        ({"levels": ["mid"], "combine": "best"}, "combine: best; expected one of cascade, sum, rrf"),
        ({"k": None}, "a search needs k or a radius"),
        ({"k": 5.0}, "k: 5.0; expected a whole number from 1 on"),
        ({"radius": "5"}, "radius: '5'; expected a whole number from 0 on"),
        ({"level": 3}, "no level is called 3"),
        ({"levels": "mid,fine"}, "levels: 'mid,fine'; expected a list of names"),
        ({"levels": []}, "levels: ; expected one or more different levels"),
        ({"rerank": 20}, "rerank needs the logits of an image, key:pic-007 is a code"),
    ],
)
def test_options_that_make_no_sense_are_one_line(index, options, says):
    with pytest.raises(HashgrainError) as caught:
        index.query(ByKey("pic-007"), **options)
    assert says in str(caught.value)
    assert caught.value.reason in {Reason.BAD_VALUE, Reason.LEVEL_UNKNOWN}


def test_an_option_that_does_not_exist_is_refused_as_python_does_it(index):
    with pytest.raises(TypeError, match="unexpected keyword argument 'kk'"):
        index.query(ByKey("pic-007"), kk=3)


@pytest.mark.parametrize("queries", [[[0] * 8], np.zeros((1, 7), np.uint8), np.zeros(8, np.uint8), np.zeros((1, 8))])
def test_codes_of_another_shape_or_type_are_one_line(index, queries):
    with pytest.raises(HashgrainError, match=r"level mid takes codes, uint8\[n, 8\]"):
        index.search(Level.MID, queries, SearchSettings(3))


def test_codes_in_any_order_of_memory_find_the_same(index):
    codes = index.codes(Level.MID, np.arange(20))
    expected = [one.rows.tolist() for one in index.search(Level.MID, codes, SearchSettings(5))]
    twice = np.repeat(codes, 2, axis=1)
    for form in (np.asfortranarray(codes), twice[:, ::2]):
        for engine in (Engine.SCAN, Engine.FAISS):
            found = index.search(Level.MID, form, SearchSettings(5, engine=engine))
            assert [one.rows.tolist() for one in found] == expected


@pytest.mark.parametrize(
    ("whats", "says"),
    [
        (
            ByKey("pic-007"),
            "ByKey(key='pic-007', region=None, region_mode=None) is not several queries; give a list of them, or one to query",
        ),
        (Path("photo.png"), "PosixPath('photo.png') is not several queries"),
        (b"image", "b'image' is not several queries"),
        (None, "None is not several queries"),
        (np.zeros((4, 4, 3), np.uint8), "uint8[4, 4, 3] is not several queries"),
    ],
)
def test_one_query_in_the_place_of_several_is_one_line(index, whats, says):
    with pytest.raises(HashgrainError) as caught:
        index.query_batch(whats)
    assert caught.value.reason is Reason.BAD_VALUE
    assert says in str(caught.value)


def test_an_answer_has_k_hits_though_fewer_lie_in_the_lists_that_are_probed(codes_folder, tmp_path):
    build(list_code_files([codes_folder]), tmp_path / "index", BuildSettings(IndexKind.IVF, nlist=20))
    index, asked = indexer.open(tmp_path / "index"), ByKey("pic-007")
    for options in ({}, {"exclude_self": True}, {"where": "label.fine < 9"}):
        for k in (1, 25, 60, 100):
            found, exact = (index.query(asked, k=k, **effort, **options) for effort in ({"nprobe": 1}, {"exact": True}))
            assert len(found) == len(exact)
            assert k < 25 or [hit.key for hit in found] == [hit.key for hit in exact]
    near = index.query(asked, k=60, radius=1, nprobe=1)  # a radius is a bound of its own
    assert len(near) <= len(index.query(asked, k=60, radius=1, exact=True))


@pytest.mark.parametrize(
    "options",
    [
        {"level": "mid"},
        {"level": "mid", "radius": 30},
        {"level": "mid", "where": "label.fine != 3", "engine": "scan"},
        {"levels": ["coarse", "mid"]},
        {"levels": ["coarse", "mid"], "radii": [40, 40]},
        {"levels": ["coarse", "mid"], "combine": "sum"},
    ],
    ids=str,
)
def test_a_key_leaves_itself_out_and_the_others_stay_as_they_are(index, options):
    keys = ["pic-007", "pic-031", "pic-002"]
    with_self = index.query_batch(map(ByKey, keys), k=60, **options)
    without = index.query_batch(map(ByKey, keys), k=60, exclude_self=True, **options)
    for key, one, other in zip(keys, with_self, without, strict=True):
        assert [hit.row for hit in other] == [hit.row for hit in one if hit.key != key]
        few = index.query(ByKey(key), k=4, exclude_self=True, **options)
        if "levels" not in options or options.get("combine") or "radii" in options:
            assert [hit.row for hit in few] == [hit.row for hit in other][:4]
        assert len(few) == 4
        assert key not in [hit.key for hit in few]


@pytest.mark.parametrize("engine", ["faiss", "scan"])
def test_numbers_of_numpy_are_numbers(index, engine):
    options = {"k": np.int64(5), "engine": engine, "exclude_self": True}
    assert len(index.query(ByKey("pic-007"), **options)) == 5
    assert len(index.query(ByKey("pic-007"), radius=np.uint8(255), **options)) == 5
    combined = index.query(ByKey("pic-007"), levels=("mid", Level.FINE), combine="sum", weights=np.array([1, 2]))
    assert combined.searched == "mid,fine by sum"


def test_leaving_itself_out_changes_neither_the_effort_nor_what_images_find(codes_folder, tmp_path, photo):
    build(list_code_files([codes_folder]), tmp_path / "lists", BuildSettings(IndexKind.IVF, nlist=8))
    tune(tmp_path / "lists", TuneSettings(recall=0.5, k=4, levels=(Level.FUSED,)), {})
    index = indexer.open(tmp_path / "lists")
    for options in ({"recall": 0.5}, {"nprobe": 2}, {"nprobe": 1, "where": "label.fine != 3"}):
        alone = index.query(photo, k=4, **options).hits
        beside = index.query_batch([photo, ByKey("pic-007")], k=4, exclude_self=True, **options)
        assert beside[0].hits == alone
        assert len(beside[1]) == 4
        with_self = index.query(ByKey("pic-007"), k=5, **options)
        if options == {"nprobe": 2}:
            assert [hit.row for hit in beside[1]] == [hit.row for hit in with_self if hit.key != "pic-007"][:4]


def test_fused_ranks_are_those_without_the_query(index):
    found = index.query(ByKey("pic-007"), levels=["mid", "fine"], combine="rrf", k=3, exclude_self=True)
    assert max(hit.score for hit in found) <= 2 / 61
    assert "pic-007" not in [hit.key for hit in found]


def test_the_command_line_prints_what_a_program_gets(index, index_folder, command, photo):
    for arguments, options in (
        (["--level", "mid", "-k", 3], {"level": "mid", "k": 3}),
        (["--explain", "-k", 2], {"explain": True, "k": 2}),
        (["--level", "fine", "--rerank", 9, "-k", 4], {"level": "fine", "rerank": 9, "k": 4}),
        (["--levels", "mid,fine", "--combine", "sum"], {"levels": ["mid", "fine"], "combine": "sum"}),
    ):
        code, out, err = command("indexer", "query", photo, "--index", index_folder, "--json", *arguments)
        assert code == 0, err
        assert [json.loads(line) for line in out.splitlines()] == [
            hit.as_dict() for hit in index.query(photo, **options)
        ]


def test_hits_and_errors_come_back_from_other_processes(index, codes_folder, tmp_path):
    build(list_code_files([codes_folder]), tmp_path / "index", BuildSettings())
    hit = indexer.open(tmp_path / "index").query(ByKey("pic-047"), k=1)[0]
    data = hit.image()
    packed = ForkingPickler.dumps(hit)
    build(list_code_files([codes_folder])[:1], tmp_path / "index", BuildSettings(overwrite=True))
    assert ForkingPickler.loads(packed).image() == data  # row 47 is not there any more, but its place is
    error = ForkingPickler.loads(ForkingPickler.dumps(HashgrainError(Reason.BUSY, "one line")))
    assert (error.reason, str(error)) == (Reason.BUSY, "one line")


def test_a_hit_reads_its_picture_back(index):
    [hit] = index.query(ByKey("pic-007"), k=1)
    assert hit.image() == index.image(hit.row)
    Image.open(BytesIO(hit.image())).load()


def test_an_index_of_one_level_searches_that(codes_folder, tmp_path):
    build(list_code_files([codes_folder]), tmp_path / "one", BuildSettings(levels=(Level.MID,)))
    assert indexer.open(tmp_path / "one").query(ByKey("pic-007"), k=1)[0].level is Level.MID


def test_the_model_is_loaded_once_also_by_threads_that_begin_together(index_folder, photo, monkeypatch):
    loads, real, start = [], encoder.load, threading.Barrier(THREADS)

    def counted(*args, **options):
        loads.append(args)
        return real(*args, **options)

    monkeypatch.setattr(encoder, "load", counted)
    index = indexer.open(index_folder)
    alone = [hit.as_dict() for hit in indexer.open(index_folder).query(photo, k=5)]
    loads.clear()

    def ask(_):
        start.wait(60)
        return [[hit.as_dict() for hit in index.query(photo, k=5)] for _ in range(3)]

    with ThreadPoolExecutor(THREADS) as pool:
        for answers in pool.map(ask, range(THREADS)):
            assert answers == [alone] * 3
    assert len(loads) == 1


def test_models_load_in_threads_beside_others_that_encode(index, photo):
    """Folding norms must not reach into the modules of other threads."""
    expected = index.encoder.encode([photo]).logits[Level.FUSED]
    path = index.folder / str(index.manifest.model)

    def load_and_encode(_):
        fresh = encoder.load(path, precision=index.manifest.precision)
        return fresh.encode([photo]).logits[Level.FUSED], index.encoder.encode([photo]).logits[Level.FUSED]

    with ThreadPoolExecutor(4) as pool:
        for pair in pool.map(load_and_encode, range(8)):
            for logits in pair:
                np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture
def two_threads():
    """OpenMP with threads that a fork can lose; the tests run with one otherwise."""
    before = faiss.omp_get_max_threads(), torch.get_num_threads()
    faiss.omp_set_num_threads(2)
    torch.set_num_threads(2)
    yield
    faiss.omp_set_num_threads(before[0])
    torch.set_num_threads(before[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_that_is_forked_while_the_model_loads_does_not_wait_for_it(index, photo, monkeypatch):
    begun, go_on, real = threading.Event(), threading.Event(), encoder.load

    def slow(*args, **options):
        begun.set()
        go_on.wait(60)
        return real(*args, **options)

    monkeypatch.setattr(encoder, "load", slow)
    loading = threading.Thread(target=lambda: index.encoder)
    loading.start()
    begun.wait(60)
    monkeypatch.setattr(encoder, "load", real)
    if (child := os.fork()) == 0:
        signal.alarm(60)
        os._exit(0 if len(index.query(photo, k=2)) == 2 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    go_on.set()
    loading.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_goes_on_with_an_open_index(index, photo, two_threads):
    codes = np.repeat(index.codes(Level.MID, np.arange(60)), 40, axis=0)

    def everything():
        found = [
            index.search(Level.MID, codes, settings)[7].rows.tolist()
            for engine in (Engine.FAISS, Engine.SCAN)
            for settings in (SearchSettings(5, engine=engine), SearchSettings(None, radius=20, engine=engine))
        ]
        answers = [index.query(photo, k=4), index.query(ByKey("pic-007"), where="label.fine = 3")]
        return json.dumps([found, [[hit.as_dict() for hit in answer] for answer in answers]])

    expected = everything()
    ours, theirs = os.pipe()
    if (child := os.fork()) == 0:
        signal.alarm(60)  # ended by the kernel where it waits for threads that are not there
        os.write(theirs, everything().encode())
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as pipe:
        said = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert said == expected


def _keys_of(index, queue):
    queue.put([hit.key for hit in index.query(ByKey("pic-007"), k=3)])


def test_a_spawned_process_opens_it_again(index):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_keys_of, args=(index, queue))
    process.start()
    assert queue.get(timeout=120) == [hit.key for hit in index.query(ByKey("pic-007"), k=3)]
    process.join()


def test_an_open_index_knows_when_another_took_its_place(codes_folder, tmp_path, photo, monkeypatch):
    files = list_code_files([codes_folder])
    build(files, tmp_path / "index", BuildSettings())
    lines: list[str] = []
    index = indexer.open(tmp_path / "index", notify=lines.append)
    loaded = index.encoder
    assert (index.is_current, index.reopen()) == (True, index)
    build(files[:1], tmp_path / "index", BuildSettings(overwrite=True))
    newer = index.reopen()
    assert [one.is_current for one in (index, newer)] == [False, True]
    assert (index.ntotal, newer.ntotal) == (60, 20)
    assert newer.encoder is loaded
    with installed(monkeypatch, OneGpu(memory=0)):
        newer.query_batch([photo] * 9, engine="gpu")
    assert len(lines) == 1
    assert len(index.query(photo, k=60)) == 60
    assert len(newer.query(photo, k=60)) == 20
    # another index in its folder, whose generation has the name of the first one
    shutil.rmtree(tmp_path / "index")
    build(files[1:], tmp_path / "index", BuildSettings())
    again = newer.reopen()
    assert [one.is_current for one in (index, newer, again)] == [False, False, True]
    assert again.ntotal == 40


def test_a_newer_generation_of_another_precision_has_an_encoder_of_its_own(shards_folder, model_path, tmp_path):
    for precision in (Precision.FP32, Precision.BF16):
        settings = EncodeSettings(batch=8, precision=precision)
        encode(expand([str(shards_folder / "part-0000.tar")]), model_path, tmp_path / precision, settings)
    build(list_code_files([tmp_path / "fp32"]), tmp_path / "index", BuildSettings())
    index = indexer.open(tmp_path / "index")
    assert index.encoder.precision is Precision.FP32
    build(list_code_files([tmp_path / "bf16"]), tmp_path / "index", BuildSettings(overwrite=True))
    assert index.reopen().encoder.precision is Precision.BF16


def test_one_code_cannot_be_explained_at_levels_it_has_none_of(index):
    code = index.codes(Level.FUSED, np.array([7]))[0]
    assert index.query(ByCode(code), k=1)[0].key == "pic-007"
    with pytest.raises(
        HashgrainError, match=r"a query is one code; give one at each of fine, mid, coarse, fused, by level"
    ):
        index.query(ByCode(code), explain=True)
    codes = {level: index.codes(level, np.array([7]))[0] for level in Level}
    assert index.query(ByCode(codes), explain=True, k=1)[0].distances == dict.fromkeys(Level, 0)


def test_the_levels_of_an_encoder_are_a_list(index, photo):
    with pytest.raises(HashgrainError, match="levels: 'fine'; expected a list of names"):
        index.encoder.encode([photo], "fine")


@pytest.fixture
def growing(tmp_path, write_codes, rng):
    """An index of three levels of 50 rows with lists, and the code file of 30 more that has 10 keys of the first."""
    keys = [f"a-{row}" for row in range(10)] + [f"b-{row}" for row in range(20)]
    codes = {name: rng.integers(0, 256, (rows, 8), dtype=np.uint8) for name, rows in (("a", 50), ("b", 30))}
    write_codes("a", dict.fromkeys((Level.FINE, Level.MID), codes["a"]))
    later = write_codes("b", dict.fromkeys((Level.FINE, Level.MID), codes["b"]), keys=keys, folder=tmp_path / "later")
    build([tmp_path / "codes/a.h5"], tmp_path / "index", BuildSettings(IndexKind.IVF, nlist=4, dedupe=Dedupe.OFF))
    return tmp_path / "index", later


def test_a_refresh_goes_to_the_newest_generation_and_keeps_open_what_is_the_same(growing):
    path, later = growing
    index = indexer.open(path)
    before = index.query(ByKey("a-3"), level="fine", k=60)
    assert (index.refresh(), index.generation, before.generation) == (False, "gen-000001", "gen-000001")
    with indexer.writer(path) as writer:
        writer.add([later])
    old, parts = index.snapshot, index.segments[0].levels
    assert len(index.query(ByKey("a-3"), level="fine", k=60)) == 50
    assert (index.refresh(), index.refresh(), index.generation) == (True, False, "gen-000002")
    assert (old.generation, index.snapshot is old) == ("gen-000001", False)
    taken = index.segments[0].levels
    assert taken[Level.FINE].flat is parts[Level.FINE].flat
    assert taken[Level.FINE].ivf is parts[Level.FINE].ivf
    assert "flat" not in taken[Level.MID].__dict__  # was not open
    after = index.query(ByKey("b-3"), level="fine", k=80)
    assert (len(after), after.generation, index.ntotal, index.manifest.live) == (70, "gen-000002", 80, 70)
    fresh = indexer.open(path).query(ByKey("b-3"), level="fine", k=80)
    assert [(hit.key, hit.distance, hit.row) for hit in after] == [(hit.key, hit.distance, hit.row) for hit in fresh]


def test_a_key_that_was_added_again_is_its_newest_row(growing):
    path, later = growing
    index = indexer.open(path)
    assert index.find("a-3") == 3
    with indexer.writer(path) as writer:
        writer.add([later])
        writer.remove(["a-4"])
    assert index.refresh()
    assert index.find("a-3") == 53
    assert index.find("a-20") == 20
    assert [hit.row for hit in index.query(ByKey("a-3"), level="fine", k=1)] == [53]
    with pytest.raises(HashgrainError, match=r"key 'a-4' is not among the 69 of"):
        index.find("a-4")


def test_lists_that_were_made_anew_are_opened_anew_and_the_codes_are_not(growing):
    path, _ = growing
    index = indexer.open(path)
    index.query(ByKey("a-3"), level="fine", k=5)
    parts = index.segments[0].levels
    tune(path, TuneSettings(0.9, k=5, levels=(Level.FINE,), nlists=(2,), sample=20), {})
    assert index.refresh()
    taken = index.segments[0].levels
    assert taken[Level.FINE].flat is parts[Level.FINE].flat
    if taken[Level.FINE].record.ivf != parts[Level.FINE].record.ivf:
        assert taken[Level.FINE].ivf is not parts[Level.FINE].ivf


def test_queries_go_on_while_generations_are_published_and_the_index_is_refreshed(growing):
    """Each answer is that of one generation: k of its rows, none of them removed."""
    path, later = growing
    index, stop = indexer.open(path), threading.Event()
    live = {"gen-000001": {f"a-{row}" for row in range(50)}}

    def ask():
        asked = 0
        while not stop.is_set():
            answer = index.query(ByKey("a-30"), level="fine", k=100)
            assert {hit.key for hit in answer} == live[answer.generation]
            asked += 1
        return asked

    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask) for _ in range(3)]
        try:
            keys = set(live["gen-000001"])
            for number in range(2, 14):
                with indexer.writer(path, keep=1, compact=False) as writer:
                    if number % 2:
                        writer.remove([f"a-{number}"])
                        keys -= {f"a-{number}"}
                    else:
                        writer.add([later])
                        keys |= {f"a-{row}" for row in range(10)} | {f"b-{row}" for row in range(20)}
                    live[f"gen-{number:06d}"] = set(keys)
                assert index.refresh()
        finally:
            stop.set()
    assert all(future.result() for future in asking)


def test_a_reader_opens_a_generation_though_new_ones_take_its_place_all_the_time(growing):
    path, later = growing
    stop, opened = threading.Event(), set[str]()

    def publish():
        while not stop.is_set():
            with indexer.writer(path, keep=1) as writer:
                writer.add([later])

    with ThreadPoolExecutor(1) as pool:
        publishing = pool.submit(publish)
        try:
            while len(opened) < 8 and not publishing.done():
                index = indexer.open(path)
                assert len(index.query(ByKey("a-30"), level="fine", k=5)) == 5
                opened.add(index.generation)
                del index
        finally:
            stop.set()
        publishing.result()
    assert len(opened) == 8

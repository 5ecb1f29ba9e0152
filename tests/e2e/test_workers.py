"""An opened index in worker processes: forked, spawned, of a pool, of torch's loader, of a server that forks before it serves."""

import gc
import multiprocessing
import os
import pickle
import signal
import time
from pathlib import Path

import faiss
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import indexer
from encoder.codes.file import list_code_files
from encoder.errors import HashgrainError, Reason
from indexer.build import build
from indexer.query import ByKey
from indexer.settings import BuildSettings, Engine, SearchSettings
from tests.support.pictures import encoded

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]
SOON = 120
"""Seconds after which a worker that waits for a thread that is not there is given up."""


@pytest.fixture(scope="module")
def photo():
    return encoded(133, "PNG")


@pytest.fixture
def index(index_folder, photo):
    """Searched and asked for an image with several threads, so that every pool of threads is there when it forks."""
    before = faiss.omp_get_max_threads(), torch.get_num_threads()
    faiss.omp_set_num_threads(2)
    torch.set_num_threads(2)
    opened = indexer.open(index_folder)
    everything(opened, photo)
    yield opened
    faiss.omp_set_num_threads(before[0])
    torch.set_num_threads(before[1])


def everything(index, photo):
    """Keys by an image, by a key under a filter, and of a batch by each engine."""
    codes = np.repeat(index.codes(indexer.Level.MID, np.arange(60)), 200, axis=0)
    found = [
        index.search(indexer.Level.MID, codes, SearchSettings(5, engine=engine))[7].rows.tolist()
        for engine in (Engine.FAISS, Engine.SCAN, Engine.AUTO)
    ]
    # so many pictures that torch shares them out to threads
    answers = [*index.query_batch([photo] * 32, k=4), index.query(ByKey("pic-007"), where="label.fine = 3")]
    return found, [[hit.key for hit in answer] for answer in answers]


def work(index, photo, answers):
    signal.alarm(SOON)
    answers.put(everything(index, photo))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_process_started_in_any_way_answers(index, photo, method):
    context = multiprocessing.get_context(method)
    answers = context.Queue()
    workers = [context.Process(target=work, args=(index, photo, answers)) for _ in range(2)]
    for worker in workers:
        worker.start()
    expected = everything(index, photo)
    assert [answers.get(timeout=SOON) for _ in workers] == [expected] * 2
    for worker in workers:
        worker.join(SOON)
        assert worker.exitcode == 0


class Nearest(Dataset[list[str]]):
    """Keys near an image, of an index that is opened before the workers start."""

    def __init__(self, index, photo):
        self.index, self.photo = index, photo

    def __len__(self):
        return 4

    def __getitem__(self, _):
        return [hit.key for hit in self.index.query(self.photo, k=3)]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_loader_of_torch_takes_a_dataset_with_an_open_index(index, photo, method):
    loader = DataLoader(
        Nearest(index, photo), batch_size=None, num_workers=2, timeout=SOON, multiprocessing_context=method
    )
    assert list(loader) == [[hit.key for hit in index.query(photo, k=3)]] * 4


def test_workers_forked_before_they_serve_answer_in_their_own_threads(index, photo):
    from concurrent.futures import ThreadPoolExecutor

    expected = everything(index, photo)
    children = []
    for _ in range(3):
        if (child := os.fork()) == 0:
            signal.alarm(SOON)
            with ThreadPoolExecutor(2) as pool:
                same = all(each == expected for each in pool.map(lambda _: everything(index, photo), range(4)))
            os._exit(0 if same else 1)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 3


def test_a_pickle_has_the_place_of_the_index_and_opens_the_same_generation(codes_folder, tmp_path):
    files, path = list_code_files([codes_folder]), tmp_path / "index"
    build(files, path, BuildSettings())
    index = indexer.open(path)
    pickled = pickle.dumps(index)
    assert len(pickled) < 2000
    build(files[:1], path, BuildSettings(overwrite=True))
    same = pickle.loads(pickled)
    assert (same.ntotal, same.folder, same.is_current) == (60, index.folder, False)
    assert same.reopen().ntotal == 20
    del index, same
    gc.collect()
    build(files[:2], path, BuildSettings(overwrite=True))
    with pytest.raises(HashgrainError, match="has a newer generation") as caught:
        pickle.loads(pickled)
    assert caught.value.reason is Reason.INDEX_MISSING


def test_a_pickle_of_the_current_generation_opens_it_in_another_place_of_the_program(index):
    same = pickle.loads(pickle.dumps(index))
    assert same.is_current
    assert same.ntotal == index.ntotal


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux, which shows what a process has open")
def test_indexes_opened_and_dropped_leave_nothing_behind(index_folder):
    def held():
        gc.collect()
        maps = Path("/proc/self/maps").read_text()
        return len(list(Path("/proc/self/fd").iterdir())), maps.count(str(index_folder))

    def open_and_search():
        index = indexer.open(index_folder)
        index.query(ByKey("pic-007"), k=3, where="label.fine = 3")
        index.search(
            indexer.Level.MID, index.codes(indexer.Level.MID, np.arange(3)), SearchSettings(3, engine=Engine.SCAN)
        )

    open_and_search()
    before, seconds = held(), []
    for _ in range(500):
        began = time.thread_time()
        open_and_search()
        seconds.append(time.thread_time() - began)
    assert held() == before
    assert np.median(seconds[-100:]) < 2 * np.median(seconds[:100])

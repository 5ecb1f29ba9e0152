"""The examples run as they stand."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import indexer
from encoder.levels import Level
from indexer import Engine, SearchSettings

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_search_answers(index_folder):
    run = subprocess.run(
        [sys.executable, EXAMPLES / "search.py", index_folder, "pic-007", "pic-033"],
        capture_output=True, text=True, check=True, env={"PYTHONPATH": str(EXAMPLES.parent)},
    )  # fmt: skip
    lines = run.stdout.splitlines()
    assert lines[0].startswith("pic-007 ['pic-007', ")
    assert lines[-1] == "itself: ['pic-007', 'pic-033']"


def test_importing_the_index_loads_no_engine():
    code = "import indexer, sys; print([name for name in ('faiss', 'numba', 'torch', 'pyarrow', 'h5py') if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("engine", [Engine.AUTO, Engine.SCAN, Engine.FAISS])
def test_threads_at_once_get_the_answers_of_one(index_folder, engine):
    index = indexer.open(index_folder)
    codes, settings = index.codes(Level.MID, np.arange(60)), SearchSettings(7, engine=engine)
    alone = [found.rows.tolist() for found in index.search(Level.MID, codes, settings)]
    with ThreadPoolExecutor(8) as pool:
        for answers in pool.map(lambda _: index.search(Level.MID, codes, settings), range(40)):
            assert [found.rows.tolist() for found in answers] == alone

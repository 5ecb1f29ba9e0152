"""A process whose compiled kernels can be kept nowhere: it answers at once, says so once, and goes over to the scan."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import indexer
from encoder.codes.file import list_code_files
from indexer.build import build
from indexer.settings import BuildSettings, IndexKind

ROOT = Path(__file__).parents[2]
NOWHERE = "/dev/null/nowhere"
SERVICE = """
import sys, time
from pathlib import Path
import numpy as np
from indexer.engines import readiness
from indexer.search.level_index import LevelIndex
from indexer.settings import BuildSettings, SearchSettings
from indexer.storage.level_writer import LevelRows, write_level
from indexer.storage.segment import LevelPart

folder, rows = Path(sys.argv[1]), 3000
codes = np.random.default_rng(0).integers(0, 256, (rows, 8), dtype=np.uint8)
record = write_level(folder / "fine", LevelRows(rows, 64, [codes]), BuildSettings(), lambda *_: None)
level = LevelIndex([LevelPart(folder, record, rows)], [0, rows])
kit, longest, settings = level.kit(lists=False), 0, SearchSettings(5, exact=True)
truth = level.search(codes[:1], settings, None)[0].rows.tolist()
readiness.READINESS.spent(kit, readiness.WORTH)
ends = time.monotonic() + 500
while kit not in readiness.READINESS and time.monotonic() < ends:
    began = time.perf_counter()
    assert level.search(codes[:1], settings, None)[0].rows.tolist() == truth
    longest = max(longest, time.perf_counter() - began)
    time.sleep(0.01)
level._search_faiss = None  # from here on the scan answers
assert level.search(codes[:1], settings, None)[0].rows.tolist() == truth
print(longest)
"""


@pytest.mark.slow
def test_where_no_kernel_can_be_kept_nobody_waits_and_the_scan_still_comes(tmp_path):
    for package in ("encoder", "indexer"):
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors")
        )
    (tmp_path / "indexer/engines/scan/__pycache__").touch()  # where numba would have a folder
    (tmp_path / "temporary").mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(tmp_path),
        "NUMBA_CACHE_DIR": NOWHERE,
        "HOME": NOWHERE,
        "TMPDIR": str(tmp_path / "temporary"),
    }
    done = subprocess.run(
        [sys.executable, "-c", SERVICE, str(tmp_path)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (
        0,
        "compiled kernels cannot be kept on disk, so each process compiles them again in the background; name a folder that can be "
        "written in NUMBA_CACHE_DIR\n",
    )
    assert float(done.stdout) < 2  # seconds: the kernels take many more
    assert list((tmp_path / "temporary").iterdir()) == []


FIRST = """
import sys
import indexer
answer = indexer.open(sys.argv[1]).query(indexer.ByKey("pic-007"), k=int(sys.argv[2]), level="fine")
print(len(answer), sorted({"numba", "indexer.engines.scan", "torch"} & sys.modules.keys()))
"""


@pytest.mark.parametrize("kind", list(IndexKind))
def test_a_removed_row_does_not_make_a_process_load_the_scan(codes_folder, tmp_path, kind):
    path = tmp_path / "index"
    build(list_code_files([codes_folder]), path, BuildSettings(kind, nlist=None if kind is IndexKind.FLAT else 4))
    with indexer.writer(path) as writer:
        writer.remove(["pic-003"])
    for k, found in ((5, 5), (60, 59)):
        command = [sys.executable, "-c", FIRST, str(path), str(k)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == f"{found} []\n"

"""A process whose compiled kernels can be kept nowhere: it answers at once, says so once, and goes over to the scan."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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

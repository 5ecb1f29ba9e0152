"""The project's own tests that need a GPU; without one, that they can be collected."""

import re
import subprocess
import sys
from pathlib import Path

from benchmarks.gpu_check.check import Check


def tests(check: Check) -> None:
    """Run them and count."""
    marked = [str(path) for path in sorted(Path("tests").rglob("test_*.py")) if "mark.gpu" in path.read_text()]
    command = [sys.executable, "-m", "pytest", *marked, "-m", "gpu", "-rf", "-p", "no:cacheprovider"]
    if not check.on_gpu:
        command.append("--collect-only")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        last = ""
        for line in process.stdout or ():
            print(line, end="", flush=True)
            last = line.strip() or last
    found = re.search(r"(\d+)(?: passed|/\d+ tests collected)", last)
    check.result("pytest", last.strip("= "))
    check.hold("tests that need a GPU", int(found[1]) if found else 0, holds=bool(found) and process.returncode == 0)

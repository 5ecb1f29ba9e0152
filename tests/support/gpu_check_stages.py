"""Stages of a GPU check that end badly."""

import os
import subprocess
import sys
import time


def hangs(check):
    """Write two lines, start a process, and go on for ever."""
    check.result("first", 1.5, "images/s")
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (check.folder / "pids").write_text(f"{os.getpid()} {child.pid}")
    check.result("second", "a | word")
    time.sleep(600)


def breaks(check):
    check.result("before", 2)
    raise ValueError("no such thing")


def does_not_hold(check):
    check.hold("pixels", 7, "of 255", holds=False)
    check.hold("bits", 0.5, "%", holds=True)


def is_done(check):
    check.result("count", check.count(1000))

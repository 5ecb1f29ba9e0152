import subprocess
import sys

import pytest

PAGES = """
import resource
from encoder.runtime.freed_memory import kept

def pages_of(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        images = [bytes(70_000) for _ in range(200)]
        del images
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

pages_of(2)
freely = pages_of(10)
with kept(1 << 28):
    pages_of(2)
    print(freely, pages_of(10))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only the GNU C library can be told so")
def test_memory_that_was_freed_is_used_again_without_asking_the_kernel():
    told = subprocess.run([sys.executable, "-c", PAGES], capture_output=True, text=True, check=True).stdout
    freely, kept = map(int, told.split())
    assert kept < freely / 10

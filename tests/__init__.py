"""Tests. Imported before numpy and torch: a process of the tests takes one core, since several share the machine.

Threads of BLAS and OpenMP that wait for one another take a core while they wait. Encoding, searching and the scan set their own numbers of
threads and are tested with them.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

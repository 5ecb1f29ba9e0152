"""Near-duplicates of a whole collection: the join against FAISS's radius search of every code, on clustered codes.

    python -m benchmarks.duplicates --rows 1000000

Every thousandth code has a planted copy at each distance from 0 to the largest radius; all of them have to be found. FAISS is asked
for a sample of codes, and its time is that of the sample times what is left: a whole run would take hours.
"""

import argparse
import json
import resource
import time
from pathlib import Path

import faiss
import numpy as np

from benchmarks.search.codes import Codebase, Spread
from encoder.bits import Codes
from indexer.duplicates.join import groups_of

SAMPLE = 2000
RADII = (0, 2, 4, 8)


def drawn(rows: int, nbits: int) -> Codes:
    """Return clustered codes as the benchmarks of search have them."""
    blocks = Codebase(Path(), Spread.CLUSTERED, rows, nbits).blocks()
    return np.concatenate(list(blocks))


def with_copies(codes: Codes, rng: np.random.Generator) -> tuple[Codes, np.ndarray, np.ndarray]:
    """Return codes, and the numbers of planted copies and of what they are copies of, by distance: int64[radii, n] each."""
    originals = np.arange(0, len(codes), 1000)
    parts, numbers = [codes], []
    for distance in RADII:
        copies = codes[originals].copy()
        for copy in copies:
            for bit in rng.choice(8 * codes.shape[1], distance, replace=False):
                copy[bit // 8] ^= 1 << (bit % 8)
        numbers.append(sum(map(len, parts)) + np.arange(len(copies)))
        parts.append(copies)
    return np.concatenate(parts), np.array(numbers), np.tile(originals, (len(RADII), 1))


def faiss_seconds(codes: Codes, radius: int) -> float:
    """Return the seconds that FAISS would take to search each code within a radius."""
    index = faiss.IndexBinaryFlat(8 * codes.shape[1])
    index.add(codes)
    started = time.perf_counter()
    index.range_search(codes[:SAMPLE], radius + 1)
    return (time.perf_counter() - started) * len(codes) / SAMPLE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--bits", type=int, default=64)
    parser.add_argument("--faiss", action="store_true", help="time FAISS, too")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    codes, copies, originals = with_copies(drawn(arguments.rows, arguments.bits), rng)
    groups_of(codes[:1000], 1)  # loads the kernels
    for at, radius in enumerate(RADII):
        started = time.perf_counter()
        owners = groups_of(codes, radius)
        seconds = time.perf_counter() - started
        planted = RADII[: at + 1]
        found = [(owners[copies[number]] == owners[originals[number]]).mean() for number in range(len(planted))]
        line = {
            "rows": len(codes), "bits": arguments.bits, "radius": radius, "seconds": round(seconds, 2),
            "groups": int((np.bincount(owners) > 1).sum()), "planted_found": min(found),
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }  # fmt: skip
        if arguments.faiss:
            line["faiss_seconds"] = round(faiss_seconds(codes, radius))
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()

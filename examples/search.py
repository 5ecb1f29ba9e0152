"""Ask an index from Python: numpy arrays in and out, no command line.

usage: search.py INDEX KEY [KEY ...]
"""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import indexer
from indexer import Combine, CombineSettings, Level, SearchSettings


def main() -> None:
    index = indexer.open(sys.argv[1])
    rows = np.array([index.find(key) for key in sys.argv[2:]])

    # One level: uint8[n, nbits / 8] in, for each query rows and distances out, nearest first.
    found = index.search(Level.FINE, index.codes(Level.FINE, rows), SearchSettings(k=5))
    for key, one in zip(sys.argv[2:], found, strict=True):
        print(key, [index.key(row) for row in one.rows.tolist()], one.distances)

    # Everything within 12 bits, among the rows that pass a filter.
    near = index.search(Level.MID, index.codes(Level.MID, rows), SearchSettings(k=None, radius=12, where='key ~ "*7"'))
    print("within 12 bits:", [len(one.rows) for one in near])

    # Several levels as one order.
    levels = (Level.COARSE, Level.MID, Level.FINE)
    codes = {level: index.codes(level, rows) for level in levels}
    for ranked in index.combine(codes, CombineSettings(Combine.SUM, levels, SearchSettings(k=3))):
        print("by sum:", [index.key(row) for row in ranked.rows.tolist()], ranked.scores)

    # Several threads may search an index at once.
    with ThreadPoolExecutor() as pool:
        each = pool.map(
            lambda row: index.search(Level.FUSED, index.codes(Level.FUSED, row[None]), SearchSettings(k=1)), rows
        )
        print("itself:", [index.key(int(one.rows[0])) for [one] in each])


if __name__ == "__main__":
    main()

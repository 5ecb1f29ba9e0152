"""An index that changes while it answers: follow a folder of code files, remove, go back, take codes out and in again.

usage: living.py CODES INDEX
"""

import sys
from pathlib import Path

import numpy as np

import indexer
from indexer import ByKey


def main(codes: str, path: str) -> None:
    report = indexer.sync(path, [codes])  # builds the index, where there is none
    print(f"{report.generation}: {report.rows:,} rows, +{report.added:,} -{report.removed:,}")
    for line in report.notices:
        print(line)

    index = indexer.open(path)
    first = index.key(int(index.snapshot.live_rows()[0]))
    near = [hit.key for hit in index.query(ByKey(first), k=3)]

    with indexer.writer(path) as writer:
        writer.remove([near[1]])
    print("still open:", [hit.key for hit in index.query(ByKey(first), k=3)])  # from the generation that it has open
    index.refresh()
    print(f"without {near[1]}:", [hit.key for hit in index.query(ByKey(first), k=3)])

    indexer.rollback(path, -1)
    index.refresh()
    print("as before:", [hit.key for hit in index.query(ByKey(first), k=3)])
    for change, on_disk in indexer.history(path):
        print(f"{change.generation} {change.what}: {change.rows:,} rows{'' if on_disk else ', no longer on the disk'}")

    out = Path(path).with_name("exported")
    exported = indexer.export(path, out, levels=["fine"], overwrite=True)
    array = np.load(out / "fine.npy", mmap_mode="r")
    print(f"{exported.rows:,} codes of {8 * array.shape[1]} bits in {out / 'fine.npy'}")


if __name__ == "__main__":
    main(*sys.argv[1:])

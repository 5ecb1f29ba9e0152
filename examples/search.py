"""Search an index from a script: photos and keys in, hits out.

usage: search.py INDEX PHOTO|key:KEY [...]
"""

import sys
from pathlib import Path

import indexer
from indexer import ByKey


def main() -> None:
    index = indexer.open(sys.argv[1])
    queries = [ByKey(text[4:]) if text.startswith("key:") else Path(text) for text in sys.argv[2:]]

    # One level, all queries as one batch. The model is loaded for the first photo and kept.
    for answer in index.query_batch(queries, level="fine", k=5, exclude_self=True):
        print(answer.query)
        for hit in answer:
            print(f"  {hit.rank}. {hit.key}, {hit.distance} bits", hit.labels)

    # All rows within 12 bits that pass a filter, and several levels as one order.
    near = index.query(queries[0], level="mid", radius=12, where='key ~ "*7"')
    print("within 12 bits:", [hit.key for hit in near])
    best = index.query(queries[0], levels=["coarse", "mid", "fine"], combine="sum", k=3)
    print("by sum:", [(hit.key, hit.score) for hit in best])

    # A hit's picture comes back from its shard.
    if best:
        print(len(best[0].image()), "bytes of", best[0].key)


if __name__ == "__main__":
    main()

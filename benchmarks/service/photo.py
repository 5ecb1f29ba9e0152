"""A photo as a query over HTTP beside the bare work: decode, network, search, in turn, from the first request on.

    python -m benchmarks.service.photo INDEX PHOTOS

The bare work is done in this process by the same functions, with the same threads, and with nothing around it. Before the first
request the service says that it is ready, and this process has done the bare work five times.
"""

import argparse
import json
import time
from http.client import HTTPConnection
from pathlib import Path

import numpy as np

from encoder.bits import binarize
from encoder.images.decoding.decode import decode_square
from encoder.levels import Level
from indexer.index import Index
from indexer.settings import Engine, SearchSettings
from tests.support.services import serving

K = 10


def bare(index: Index, data: bytes, level: Level) -> None:
    """Do what a query by a photo cannot do without."""
    encoder = index.encoder
    square = decode_square(data, encoder.model.config.image_size, index.limits)
    codes = binarize(encoder.logits([square])[level])
    index.search(level, codes, SearchSettings(K, engine=Engine.SCAN))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("photos", type=Path, help="folder of JPEGs")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--level", type=Level, default=Level.FUSED)
    given = parser.parse_args()
    photos = [path.read_bytes() for path in sorted(given.photos.rglob("*.jpg"))][: given.requests]
    index = Index(given.index)
    for photo in photos[:5]:
        bare(index, photo, given.level)
    served, alone = list[float](), list[float]()
    with serving(given.index) as service:
        connection = HTTPConnection("127.0.0.1", service.port)
        for number in range(given.requests):
            photo = photos[number % len(photos)]
            began = time.perf_counter()
            connection.request("POST", f"/v1/search?level={given.level}&k={K}", photo, {"Content-Type": "image/jpeg"})
            answer = connection.getresponse()
            body = answer.read()
            served.append(1e3 * (time.perf_counter() - began))
            if answer.status != 200:
                raise SystemExit(body)
            began = time.perf_counter()
            bare(index, photo, given.level)
            alone.append(1e3 * (time.perf_counter() - began))
    print(
        json.dumps(
            {
                "rows": index.ntotal,
                "requests": given.requests,
                "first_ms": round(served[0], 1),
                "p50_ms": round(float(np.median(served)), 1),
                "p99_ms": round(float(np.percentile(served, 99)), 1),
                "bare_p50_ms": round(float(np.median(alone)), 1),
                "bare_p99_ms": round(float(np.percentile(alone, 99)), 1),
                "ratio": round(float(np.median(served) / np.median(alone)), 2),
            }
        )
    )


if __name__ == "__main__":
    main()

"""A service for half an hour: queries by key, code and photo, bad pictures, a new generation per minute; does memory grow?

    python -m benchmarks.service.soak INDEX PHOTOS --minutes 30

INDEX is copied first, and the copy is changed. The slope of memory is that of a line by least squares through what is resident and of
no file, each second after the first fifth; handles and threads are counted too.
"""

import argparse
import json
import re
import shutil
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from encoder.errors import HashgrainError
from indexer.changes.writer import writer
from indexer.client import Client
from indexer.index import Index
from indexer.query import ByImage, ByKey
from tests.support.services import Service, serving


def held(service: Service) -> tuple[int, int, int]:
    """Return bytes of memory, open handles and threads of a service."""
    folder = Path(f"/proc/{service.process.pid}")
    threads = re.findall(r"Threads:\s+(\d+)", (folder / "status").read_text())
    return service.memory, len(list((folder / "fd").iterdir())), int(threads[0])


def ask(client: Client, known: tuple[list[str], list[bytes]], seed: int, rate: float, until: float) -> Counter[str]:
    """Ask now and then: nine times of ten by key, else by photo; one photo of ten is none."""
    (keys, photos), seen, rng = known, Counter[str](), np.random.default_rng(seed)
    while time.monotonic() < until:
        began = time.monotonic()
        try:
            if rng.random() < 0.9:
                client.query(ByKey(keys[rng.integers(len(keys))]), level="fine", k=10)
            else:
                data = photos[rng.integers(len(photos))]
                client.query(ByImage(data if rng.random() < 0.9 else data[:2000]), k=10)
            seen["answered"] += 1
        except HashgrainError as err:
            seen[err.reason] += 1
        time.sleep(max(0.0, began + rng.exponential(1 / rate) - time.monotonic()))
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("photos", type=Path, help="folder of JPEGs")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--rate", type=float, default=10, help="requests per second of each client")
    given = parser.parse_args()
    photos = [path.read_bytes() for path in sorted(given.photos.rglob("*.jpg"))[:50]]
    with TemporaryDirectory() as scratch:
        path = shutil.copytree(given.index, Path(scratch) / "index")
        index = Index(path)
        keys, gone = (
            [index.key(row) for row in range(200, min(index.ntotal, 5000))],
            [index.key(row) for row in range(200)],
        )
        measured = list[tuple[float, int, int, int]]()
        with (
            serving(path) as service,
            Client(f"http://127.0.0.1:{service.port}") as client,
            ThreadPoolExecutor(given.clients) as pool,
        ):
            started = time.monotonic()
            until = started + 60 * given.minutes
            asking = [
                pool.submit(ask, client, (keys, photos), seed, given.rate, until) for seed in range(given.clients)
            ]
            published = 0
            while (now := time.monotonic()) < until:
                measured.append((now - started, *held(service)))
                if now - started > 60 * (published + 1) and published < len(gone):
                    with writer(path) as changed:
                        changed.remove([gone[published]])
                    published += 1
                time.sleep(1)
            seen = sum((each.result() for each in asking), Counter[str]())
            later = np.array([line for line in measured if line[0] > 60 * given.minutes / 5])
            slopes = np.polyfit(later[:, 0] / 3600, later[:, 1:], 1)[0]
            print(
                json.dumps(
                    {
                        "minutes": given.minutes, "generations": published, "requests": dict(seen),
                        "memory_mb": [round(later[at, 1] / 1e6, 1) for at in (0, -1)],
                        "memory_mb_per_hour": round(slopes[0] / 1e6, 2),
                        "handles": later[[0, -1], 2].astype(int).tolist(), "threads": later[[0, -1], 3].astype(int).tolist(),
                        "alive": service.process.poll() is None,
                    }
                )
            )  # fmt: skip


if __name__ == "__main__":
    main()

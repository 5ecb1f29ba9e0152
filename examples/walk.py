"""A walk through an index, cell by cell (`# %%` is a cell in VS Code, PyCharm and Jupytext).

usage: walk.py INDEX
"""

# %% Open an index: files are mapped, nothing is read yet.
import sys

import numpy as np

import encoder
import indexer
from indexer import ByCode, ByKey, Level, SearchSettings

index = indexer.open(sys.argv[1])
print(f"{index.ntotal:,} rows, bits per level: {index.manifest.bits}")

# %% What is a row? A key, labels, a place in a shard, and a code per level.
row = 7
print(index.key(row), index.labels(row), index.shard(row))
print({level: index.codes(level, np.array([row]))[0].tobytes().hex() for level in index.manifest.bits})

# %% Who is near it, at each level?
for level in index.manifest.bits:
    answer = index.query(ByKey(index.key(row)), level=level, k=5, exclude_self=True)
    print(f"{level:>7}", [(hit.key, hit.distance) for hit in answer])

# %% Any image is a query: a path, bytes, a PIL image, or an array of pixels. Here, noise.
noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
print("noise:", [(hit.key, hit.distance) for hit in index.query(noise, k=3)])

# %% The model by itself: packed codes, and logits that say how sure each bit is.
model = encoder.load(index.folder / str(index.manifest.model))
encoded = model.encode([noise, noise[::-1]])
print(encoded.codes["fused"].shape, encoded.logits["fused"][0, :4].round(2))

# %% Codes are queries, too; flip a bit and see the distance.
code = index.codes(Level.FINE, np.array([row]))[0].copy()
code[0] ^= 1
print("one bit off:", index.query(ByCode(code), level="fine", k=1)[0].distance, "bit")

# %% Many codes at once, numpy in and out: the fastest way.
codes = index.codes(Level.MID, np.arange(min(1000, index.ntotal)))
matches = index.search(Level.MID, codes, SearchSettings(k=2))
print("itself first:", np.mean([one.distances[0] == 0 for one in matches]))

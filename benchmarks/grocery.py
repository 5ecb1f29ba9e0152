"""Retrieval on the Grocery Store photos: ITQ codes against the real-valued features of the same stage.

usage: grocery.py FOLDER WEIGHTS [--bits 128] [--size 160]

FOLDER holds train-*.tar and val-*.tar (KEY.jpg + KEY.json with integer labels "fine" and "coarse"); WEIGHTS is a ResNet-50
state dict. Fits on train, encodes both, asks with the val photos. mAP is tie-aware over the whole database (McSherry &
Najork 2008: the expected average precision over all orders of tied rows), normalised by the number of relevant rows;
the features are compared by cosine after the same centring and pooling that the hash layers see.
"""

import argparse
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from encoder.bits import Codes, hamming
from encoder.codes.file import open_codes
from encoder.hashing.fit_model import FitSettings, fit
from encoder.images.decoding.decode import decode_readable
from encoder.images.expand import expand
from encoder.images.readers.formats import reader_for
from encoder.images.samples import batches
from encoder.images.shards import Shard
from encoder.levels import STAGE_LEVELS, Level
from encoder.model.image_encoder import ImageEncoder
from encoder.model.model_file import load_model
from encoder.model.spec import BackboneSpec, Precision
from encoder.stream.job import encode
from encoder.stream.settings import EncodeSettings


def tie_aware_map(distances: npt.NDArray[Any], relevant: npt.NDArray[np.bool_]) -> float:
    """Mean over queries of the expected AP; distances and relevant are [nq, nb]."""
    scores = []
    for row, wanted in zip(distances, relevant, strict=True):
        if not wanted.any():
            continue
        _, level = np.unique(row, return_inverse=True)
        n, n_rel = np.bincount(level), np.bincount(level, weights=wanted)
        before, rel_before = np.cumsum(n) - n, np.cumsum(n_rel) - n_rel
        total = 0.0
        for size, hits, start, found in zip(n, n_rel, before, rel_before, strict=True):
            if hits:
                t = np.arange(size)
                inside = t * (hits - 1) / (size - 1) if size > 1 else 0.0
                total += hits / size * np.sum((found + 1 + inside) / (start + t + 1))
        scores.append(total / wanted.sum())
    return float(np.mean(scores))


def coded(files: Iterable[Path]) -> tuple[dict[Level, Codes], dict[str, npt.NDArray[np.int64]]]:
    """Return codes by level and labels by name over code files."""
    codes: dict[Level, list[Codes]] = {}
    labels: dict[str, list[npt.NDArray[np.int64]]] = {}
    for path in files:
        with open_codes(path) as file:
            for level in Level:
                codes.setdefault(level, []).append(file.codes(level))
            for name in ("fine", "coarse"):
                labels.setdefault(name, []).append(np.asarray(file.label(name).values))
    return (
        {level: np.concatenate(parts) for level, parts in codes.items()},
        {name: np.concatenate(parts) for name, parts in labels.items()},
    )


@torch.inference_mode()
def features(encoder: ImageEncoder, shards: Sequence[Shard]) -> dict[Level, npt.NDArray[np.float32]]:
    """Return centred unit features by stage level, in the order of the code files."""
    size = encoder.model.config.image_size
    found: dict[Level, list[npt.NDArray[np.float32]]] = {level: [] for level in STAGE_LEVELS}
    for shard in shards:
        for samples in batches(reader_for(shard).images(), 32):
            _, pictures = decode_readable(samples, size)
            for level, pooled in encoder.model.network.pooled(torch.from_numpy(pictures)):
                found[level].append(encoder.model.network.centre(level, pooled).numpy())
    stages = {level: np.concatenate(parts) for level, parts in found.items()}
    fused = np.concatenate([stages[level] for level in STAGE_LEVELS], axis=1)
    return stages | {Level.FUSED: fused}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("weights")
    parser.add_argument("--bits", type=int, default=128)
    parser.add_argument("--size", type=int, default=160)
    arguments = parser.parse_args()
    train, val = expand([str(arguments.folder / "train-*.tar")]), expand([str(arguments.folder / "val-*.tar")])
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch, "model.safetensors")
        settings = FitSettings(
            BackboneSpec("resnet50"),
            arguments.weights,
            bits=dict.fromkeys(Level, arguments.bits),
            image_size=arguments.size,
        )
        fit(train, settings, model, lambda *_: None)
        report = encode(train, model, Path(scratch, "train"), EncodeSettings())
        encode(val, model, Path(scratch, "val"), EncodeSettings())
        print(
            f"train: {report.seen} images = {report.rows} rows + {report.rejects.total()} rejects, {report.encoded / report.seconds:.1f} images/s"
        )
        database, labels = coded(sorted(Path(scratch, "train").glob("*.h5")))
        queries, query_labels = coded(sorted(Path(scratch, "val").glob("*.h5")))
        exact = Path(scratch, "fp32")
        encode(val, model, exact, EncodeSettings(precision=Precision.FP32))
        in_fp32, _ = coded(sorted(exact.glob("*.h5")))
        encoder = ImageEncoder(load_model(model), "cpu")
        database_features, query_features = features(encoder, train), features(encoder, val)
    print(
        f"\n{arguments.bits} bits, ITQ, short side {arguments.size}; {len(queries[Level.FINE])} queries, {len(database[Level.FINE])} photos\n"
    )
    print("| level | label | mAP of features (cosine) | mAP of codes | share | bits that differ bf16 / fp32 |")
    print("|---|---|---|---|---|---|")
    for level in Level:
        distances = hamming(queries[level], database[level])
        cosine = np.round(1 - query_features[level] @ database_features[level].T, 6)
        differ = np.bitwise_count(queries[level] ^ in_fp32[level]).sum() / (8 * queries[level].size)
        for name in ("fine", "coarse"):
            relevant = query_labels[name][:, None] == labels[name][None, :]
            real, binary = tie_aware_map(cosine, relevant), tie_aware_map(distances, relevant)
            print(f"| {level} | {name} | {real:.3f} | {binary:.3f} | {binary / real:.1%} | {differ:.2%} |")


if __name__ == "__main__":
    main()

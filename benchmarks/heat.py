"""Do heat maps lie on the thing that two pictures have in common, and do their places add up to the logits?

usage: python -m benchmarks.heat FOLDER MODEL [--photos 100] [--sums 1000] [--seed 0]

FOLDER and composites as of benchmarks/regions.py: a val photo on a train photo of another super-class, at 1/2, 1/3 and 1/4. The
composite is the query, the pasted photo the hit. Of what speaks for the bits in which both agree (positive places of the composite's
heat map), the share inside the pasted box, beside the share of the area that the box has in the square the network sees; "lift"
is the mean of their ratios. As a yardstick the same against a random other photo as the hit. Then the largest error of the sum of shares,
|sum - logit| / (1 + |logit|), over all bits of all levels of many photos.
"""

import argparse
import itertools
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.encode.photos import photos_of
from benchmarks.regions import SCALES, composites
from encoder.codes.file import list_code_files
from encoder.images.expand import expand
from encoder.images.inputs import look
from encoder.images.limits import Limits
from encoder.images.region import WHOLE, Region, inside, square_with
from encoder.levels import Level
from encoder.model.coverage import coverage
from encoder.model.image_encoder import ImageEncoder
from encoder.model.model_file import load_model
from encoder.stream.job import encode
from encoder.stream.settings import EncodeSettings
from indexer.build import build
from indexer.explain import explain
from indexer.index import Index
from indexer.page.heat import combined
from indexer.query import ByImage
from indexer.settings import BuildSettings

SIDE = 160


def inside_of(heat: npt.NDArray[np.float32], region: Region, size: tuple[int, int]) -> tuple[float, float]:
    """Return which share of what speaks for the bits lies in a region, and which share of the square the region is."""
    box = torch.tensor([inside(region, size, square_with(WHOLE, size))])
    covered = coverage(box, *heat.shape)[0, 0].numpy()
    positive = np.maximum(heat, 0)
    return float((positive * covered).sum() / positive.sum()), float(covered.mean())


def largest_error(encoder: ImageEncoder, photos: list[bytes]) -> float:
    """Return the largest |sum - logit| / (1 + |logit|)."""
    worst = 0.0
    for data in photos:
        picture = look(data, encoder.model.config.image_size, Limits()).pixels
        for level, logits in encoder.logits([picture]).items():
            total = sum(grid.astype(np.float64).sum(axis=(1, 2)) for grid in encoder.shares(picture, level).grids)
            worst = max(worst, float((np.abs(total - logits[0]) / (1 + np.abs(logits[0]))).max()))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--photos", type=int, default=100)
    parser.add_argument("--sums", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    shards = {kind: sorted(arguments.folder.glob(f"{kind}-*.tar")) for kind in ("train", "val")}
    val, train = (list(photos_of(shards[kind])) for kind in ("val", "train"))
    rng = np.random.default_rng(arguments.seed)
    taken = [val[at] for at in rng.permutation(len(val))[: arguments.photos]]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        encode(expand([str(tar) for tar in shards["val"]]), arguments.model, folder / "codes", EncodeSettings())
        build(list_code_files([folder / "codes"]), folder / "index", BuildSettings())
        index = Index(folder / "index")
        print(f"{arguments.model.name}: {len(taken)} photos\n")
        print("| level | pasted at | share of the area | of what speaks for the bits | lift | lift, another photo |")
        print("|---|---|---|---|---|---|")
        for level, scale in itertools.product(Level, SCALES):
            found = list[tuple[float, float, float]]()
            for query in composites(taken, train, scale, None, arguments.seed):
                source = taken[query.source]
                other = next(
                    each
                    for each in rng.permutation(np.array(val, object))
                    if each.labels["fine"] != source.labels["fine"]
                )
                mine, others = (
                    inside_of(
                        combined(explain(index, ByImage(query.picture), hit.key, level).query, SIDE),
                        query.region,
                        query.picture.size,
                    )
                    for hit in (source, other)
                )
                if mine[1]:
                    found.append((mine[1], mine[0], others[0]))
            area, share, other_share = np.array(found).T
            lift, other_lift = (float(np.mean(each / area)) for each in (share, other_share))
            print(
                f"| {level} | 1/{round(1 / scale)} | {area.mean():.1%} | {share.mean():.1%} | {lift:.2f} | {other_lift:.2f} |",
                flush=True,
            )
    error = largest_error(
        ImageEncoder(load_model(arguments.model), "cpu"), [each.data for each in train[: arguments.sums]]
    )
    print(
        f"\nlargest |sum of shares - logit| / (1 + |logit|) over {min(arguments.sums, len(train)):,} photos, all levels: {error:.1e}"
    )


if __name__ == "__main__":
    main()

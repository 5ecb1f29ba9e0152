"""Do photos have the code of their sRGB original when they were saved in another colour space?

usage: python -m benchmarks.colour_twins FOLDER WEIGHTS [--photos 300] [--bits 128] [--size 160]

FOLDER holds tars of JPEGs (train-*.tar); WEIGHTS is a ResNet-50 state dict. The last tars give the photos, the others what
ITQ is fitted to. Each photo is converted to Display P3, Adobe RGB (1998) and ProPhoto RGB, in 8 bits, as an editor does it,
and saved as JPEG (quality 95, 4:4:4) with the profile of that space. Its code is compared with that of the sRGB original,
which is in a database of all photos of those tars: how many bits differ, in the mean and for all but 1 in 100; for how many
twins no photo is nearer than the original; and how often it comes first where those at one distance stand in random order.
"Ignored" is the same file without its profile, which is how profiles were read before they were followed; "saved again" is
the original as such a JPEG in sRGB: what the saving alone costs.
"""

import argparse
import io
import itertools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from benchmarks.encode.photos import photos_of
from encoder.bits import hamming
from encoder.hashing.fit_model import FitSettings, fit
from encoder.images.decoding.decode import decode
from encoder.images.decoding.profiles import ADOBE_RGB, DISPLAY_P3, PROPHOTO, SRGB, ColourSpace, rgb_profile
from encoder.images.expand import expand
from encoder.levels import Level
from encoder.model.builtin import BUILTIN
from encoder.model.image_encoder import ImageEncoder
from encoder.model.model_file import load_model
from encoder.model.spec import BackboneSpec

SPACES = {"Display P3": DISPLAY_P3, "Adobe RGB (1998)": ADOBE_RGB, "ProPhoto RGB": PROPHOTO}


def converter(space: ColourSpace) -> Callable[[Image.Image], Image.Image]:
    """Return what brings a picture in sRGB to a space, as an editor does."""
    source, target = (ImageCms.ImageCmsProfile(io.BytesIO(rgb_profile(each))) for each in (SRGB, space))
    return ImageCms.ImageCmsTransform(source, target, "RGB", "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC).apply


def saved(picture: Image.Image, profile: bytes | None) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=95, subsampling=0, icc_profile=profile)
    return stream.getvalue()


def table(encoder: ImageEncoder, photos: Sequence[bytes], database: Sequence[bytes]) -> None:
    """Print how far twins are from their originals, which are the first of the database."""
    pictures = [decode(photo) for photo in photos]
    kinds = {("sRGB, saved again", "none"): [saved(picture, None) for picture in pictures]}
    for name, space in SPACES.items():
        twins = [converter(space)(picture) for picture in pictures]
        kinds[name, "ignored"] = [saved(twin, None) for twin in twins]
        kinds[name, "followed"] = [saved(twin, rgb_profile(space)) for twin in twins]
    rows = encoder.encode(database).codes
    print("| twins | profile | level | bits | mean distance | 99th percentile | none nearer | original first |")
    print("|---|---|---|---|---|---|---|---|")
    for (name, profile), files in kinds.items():
        for level, codes in encoder.encode(files).codes.items():
            distances = hamming(codes, rows[level])
            own = distances[np.arange(len(files)), np.arange(len(files))]
            nearest = distances.min(axis=1)
            first = (own == nearest) / (distances == nearest[:, None]).sum(axis=1)
            shares = f"{(own == nearest).mean():.1%} | {first.mean():.1%}"
            figures = f"{own.mean():.2f} | {np.percentile(own, 99):.0f} | {shares}"
            print(f"| {name} | {profile} | {level} | {8 * codes.shape[1]} | {figures} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("weights")
    parser.add_argument("--photos", type=int, default=300)
    parser.add_argument("--bits", type=int, default=128)
    parser.add_argument("--size", type=int, default=160)
    arguments = parser.parse_args()
    tars = sorted(arguments.folder.glob("train-*.tar"))
    fitted, shown = tars[: len(tars) // 2], tars[len(tars) // 2 :]
    database = [image.data for image in photos_of(shown)]
    photos = list(itertools.islice(database, arguments.photos))
    print(f"{len(photos)} photos among {len(database)}\n\nThe built-in model:\n")
    table(ImageEncoder(load_model(BUILTIN), "cpu"), photos, database)
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch, "model.safetensors")
        bits = dict.fromkeys(Level, arguments.bits)
        settings = FitSettings(BackboneSpec("resnet50"), arguments.weights, bits=bits, image_size=arguments.size)
        report = fit(expand([str(tar) for tar in fitted]), settings, model, lambda *_: None)
        print(f"\nResNet-50 at {arguments.size}, ITQ fitted to {report.images} other photos:\n")
        table(ImageEncoder(load_model(model), "cpu"), photos, database)


if __name__ == "__main__":
    main()

"""Make the README's picture of a screenshot of the service's page: `make page-picture`."""

import io
import sys
from pathlib import Path

from PIL import Image

MOST_BYTES = 200_000


def main() -> None:
    """Save the screenshot SHOT as OUT, smaller."""
    if len(sys.argv) != 3:
        sys.exit("usage: python docs/page_picture.py SHOT.png OUT.png")
    shot, out = Path(sys.argv[1]), Path(sys.argv[2])
    if not shot.is_file():
        sys.exit(f"error: {shot} does not exist; run `make test-browser` first")
    with Image.open(shot) as image:
        picture = small_png(image.convert("RGB"))
    if len(picture) > MOST_BYTES:
        sys.exit(f"error: the picture has {len(picture):,} bytes, more than {MOST_BYTES:,}; show less of the page")
    out.write_bytes(picture)
    sys.stdout.write(f"{out}: {len(picture) / 1e3:.0f} kB\n")


def small_png(image: Image.Image) -> bytes:
    """Return a PNG file of 256 colours, a third of the size."""
    buffer = io.BytesIO()
    image.quantize(256, kmeans=2, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


if __name__ == "__main__":
    main()

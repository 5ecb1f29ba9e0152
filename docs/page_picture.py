"""Take the README's picture of the demo's page with a headless browser: `make page-picture`."""

import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageChops

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
ONLY = "<style>article:not(#q4) { display: none }</style>"
"""The head of the page and one query: its levels differ in what they find."""
SIZE = (1280, 1400)
"""Pixels of the browser's window, more than that needs."""
MARGIN = 28
"""Pixels below the last line."""
MOST_BYTES = 200_000
SECONDS = 120


def main() -> None:
    """Show the head and one query of PAGE and save the picture as OUT."""
    if len(sys.argv) != 3:
        sys.exit("usage: python docs/page_picture.py PAGE.html OUT.png")
    page, out = Path(sys.argv[1]), Path(sys.argv[2])
    if not page.is_file():
        sys.exit(f"error: {page} does not exist; run `make demo` first")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"error: none of {', '.join(BROWSERS)} is installed; install one, such as `apt install chromium`")
    picture = small_png(trimmed(screenshot(browser, page.read_text("utf-8") + ONLY)))
    if len(picture) > MOST_BYTES:
        sys.exit(f"error: the picture has {len(picture):,} bytes, more than {MOST_BYTES:,}; show less of the page")
    out.write_bytes(picture)
    sys.stdout.write(f"{out}: {len(picture) / 1e3:.0f} kB\n")


def screenshot(browser: str, html: str) -> Image.Image:
    """Return what a window of a browser shows of a page."""
    with tempfile.TemporaryDirectory() as folder:
        page, shot = Path(folder, "page.html"), Path(folder, "shot.png")
        page.write_text(html, "utf-8")
        command = [
            *(browser, "--headless", "--disable-gpu", "--hide-scrollbars"),
            *("--force-device-scale-factor=1", f"--window-size={SIZE[0]},{SIZE[1]}"),
            *(f"--user-data-dir={folder}/profile", f"--screenshot={shot}"),
            *(["--no-sandbox"] if os.geteuid() == 0 else []),  # a browser of root refuses to start with one
            page.as_uri(),
        ]
        subprocess.run(command, check=True, timeout=SECONDS, stderr=subprocess.DEVNULL)  # noqa: S603  a browser, by its name
        with Image.open(shot) as image:
            return image.convert("RGB")


def trimmed(image: Image.Image) -> Image.Image:
    """Cut off the empty paper below the page."""
    paper = Image.new("RGB", image.size, image.getpixel((0, image.height - 1)))
    box = ImageChops.difference(image, paper).getbbox() or (0, 0, *image.size)
    return image.crop((0, 0, image.width, min(box[3] + MARGIN, image.height)))


def small_png(image: Image.Image) -> bytes:
    """Return a PNG file of 256 colours, a third of the size."""
    buffer = io.BytesIO()
    image.quantize(256, kmeans=2, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


if __name__ == "__main__":
    main()

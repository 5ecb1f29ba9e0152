"""Thumbnails are made once, bounded in number and size, and a failure is not tried at every look."""

import io
import threading
import time

import pytest
from PIL import Image

import indexer
from encoder.errors import HashgrainError, Reason
from encoder.images.limits import Limits
from indexer.service import thumbnails
from indexer.service.thumbnails import Thumbnails


def turned(width, height):
    """A JPEG that its orientation turns to height x width."""
    exif = Image.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(out, "JPEG", exif=exif)
    return out.getvalue()


def plain(width, height):
    out = io.BytesIO()
    Image.new("RGB", (width, height), "blue").save(out, "PNG")
    return out.getvalue()


PHOTOS = {
    "wide.png": plain(900, 300),
    "small.png": plain(20, 10),
    "turned.jpg": turned(800, 400),
    "thin.png": plain(4000, 1),
}


@pytest.fixture
def opened(index_of_files):
    return index_of_files(PHOTOS)


@pytest.fixture
def reads(monkeypatch):
    """How many pictures were made small."""
    made = []
    whole = thumbnails._thumbnail

    def count(*arguments):
        made.append(arguments[1])
        return whole(*arguments)

    monkeypatch.setattr(thumbnails, "_thumbnail", count)
    return made


@pytest.mark.parametrize(
    ("row", "side", "size"),
    [(0, 192, (192, 64)), (1, 192, (20, 10)), (2, 96, (48, 96)), (3, 384, (384, 1)), (0, 1024, (900, 300))],
)
def test_a_thumbnail_fits_into_its_square_upright_and_is_not_enlarged(opened, row, side, size):
    image = Image.open(io.BytesIO(Thumbnails(Limits()).get(opened.snapshot, row, side)))
    assert (image.format, image.size, dict(image.getexif())) == ("JPEG", size, {})


def test_it_is_made_once_also_across_generations(opened, reads):
    kept = Thumbnails(Limits())
    first = kept.get(opened.snapshot, 0, 96)
    with indexer.writer(opened.path, compact=False) as writer:
        writer.remove(["small.png"])
    opened.refresh()
    assert kept.get(opened.snapshot, 0, 96) == first
    assert reads == [96]


def test_those_not_looked_at_for_longest_go_first(opened, reads):
    sizes = [len(Thumbnails(Limits()).get(opened.snapshot, row, 96)) for row in range(3)]
    reads.clear()
    kept = Thumbnails(Limits(), most_bytes=sum(sizes) - 1)
    for row in (0, 1, 0, 2):
        kept.get(opened.snapshot, row, 96)
    assert kept.bytes <= sum(sizes) - 1
    kept.get(opened.snapshot, 0, 96)
    assert len(reads) == 3  # row 1 went
    kept.get(opened.snapshot, 1, 96)
    assert len(reads) == 4


def test_equal_requests_at_one_time_make_one(opened, monkeypatch):
    begun, go, made = threading.Event(), threading.Event(), []
    whole = thumbnails._thumbnail

    def slow(*arguments):
        made.append(1)
        begun.set()
        assert go.wait(10)
        return whole(*arguments)

    monkeypatch.setattr(thumbnails, "_thumbnail", slow)
    kept, answers = Thumbnails(Limits()), []
    threads = [threading.Thread(target=lambda: answers.append(kept.get(opened.snapshot, 0, 96))) for _ in range(4)]
    threads[0].start()
    assert begun.wait(10)
    for thread in threads[1:]:
        thread.start()
    go.set()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len(set(answers)) == 1
    assert len(answers) == 4


def test_a_failure_is_remembered_for_a_while_and_then_tried_again(opened, reads, monkeypatch, tmp_path):
    kept = Thumbnails(Limits())
    good = (tmp_path / "photos/wide.png").read_bytes()
    (tmp_path / "photos/wide.png").write_bytes(good[:40] + bytes(len(good) - 40))
    for _ in range(3):
        with pytest.raises(HashgrainError) as caught:
            kept.get(opened.snapshot, 0, 96)
        assert caught.value.reason is Reason.IMAGE_REJECTED
    assert reads == [96]
    (tmp_path / "photos/wide.png").write_bytes(good)
    later = time.monotonic() + thumbnails.FORGET_FAILURES + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert kept.get(opened.snapshot, 0, 96)


def test_limits_hold_and_sides_are_few(opened):
    for limits, side, reason in ((Limits(max_pixels=100), 96, Reason.IMAGE_REJECTED), (Limits(), 97, Reason.BAD_VALUE)):
        with pytest.raises(HashgrainError) as caught:
            Thumbnails(limits).get(opened.snapshot, 0, side)
        assert caught.value.reason is reason

"""The same command once more, after something has changed."""

import os
import shutil
from pathlib import Path

from PIL import Image

from encoder.errors import Reject
from tests.support.inputs.case import Group, Steps, put
from tests.support.odd_images import saved
from tests.support.pictures import encoded, write_tar

AGAIN = Group("Once more: the same command after a change")
DAY = 86_400
COUNT = 16
"""Photos of a folder."""


def photos(here: Path, count: int = COUNT) -> None:
    """Write a folder of photos."""
    put(here / "photos", {f"{number:02d}.jpg": encoded(number) for number in range(count)})


def tars(here: Path, count: int = 2) -> None:
    """Write tars of three photos each."""
    for number in range(count):
        write_tar(
            here / f"shards/{number}.tar", [(f"{3 * number + at}.jpg", encoded(3 * number + at)) for at in range(3)]
        )


@AGAIN.case(f"Nothing has changed in a folder of {COUNT} photos")
def unchanged(here: Path) -> Steps:
    photos(here)
    outcome = yield "encode photos"
    outcome.check(rows=COUNT)
    outcome = yield "encode photos"
    outcome.check(rows=COUNT)
    assert (outcome.done, outcome.coded) == (1, 0)


@AGAIN.case("One photo added")
def photo_added(here: Path) -> Steps:
    photos(here)
    yield "encode photos"
    put(here / "photos", {"new.jpg": encoded(100)})
    outcome = yield "encode photos"
    outcome.check(rows=COUNT + 1)
    assert outcome.coded == 1


@AGAIN.case("One photo removed")
def photo_removed(here: Path) -> Steps:
    photos(here)
    yield "encode photos"
    (here / "photos/07.jpg").unlink()
    outcome = yield "encode photos"
    outcome.check(rows=COUNT - 1)
    assert outcome.coded == 0
    outcome = yield "build"
    assert len(outcome.pictures) == COUNT - 1


@AGAIN.case("One photo replaced by another of the same name")
def photo_replaced(here: Path) -> Steps:
    photos(here)
    first = yield "encode photos"
    put(here / "photos", {"07.jpg": encoded(100)})
    outcome = yield "encode photos"
    outcome.check(rows=COUNT)
    assert outcome.coded == 1
    assert outcome.fine["07.jpg"] != first.fine["07.jpg"]


@AGAIN.case("A photo renamed, and the folder sorted into folders")
def photos_sorted(here: Path) -> Steps:
    photos(here, 4)
    yield "encode photos"
    for number in range(4):
        target = here / f"photos/{'even' if number % 2 == 0 else 'odd'}/{number:02d}.jpg"
        target.parent.mkdir(exist_ok=True)
        (here / f"photos/{number:02d}.jpg").rename(target)
    outcome = yield "encode photos"
    outcome.check(keys=["even/00.jpg", "even/02.jpg", "odd/01.jpg", "odd/03.jpg"])
    assert outcome.coded == 0


@AGAIN.case("One photo added to a folder of several shards (`--files-per-shard 5`)")
def photo_added_to_shards(here: Path) -> Steps:
    photos(here)
    yield "encode photos --files-per-shard 5"
    put(here / "photos", {"new.jpg": encoded(100)})
    outcome = yield "encode photos --files-per-shard 5"
    outcome.check(rows=COUNT + 1)
    assert outcome.done >= 3
    assert outcome.coded == 1


@AGAIN.case("Another `--files-per-shard`")
def other_shards(here: Path) -> Steps:
    photos(here)
    yield "encode photos"
    outcome = yield "encode photos --files-per-shard 5"
    outcome.check(rows=COUNT)
    assert outcome.coded == 0
    outcome = yield "build"
    assert len(outcome.pictures) == COUNT


@AGAIN.case("A tar removed from a folder of tars")
def tar_removed(here: Path) -> Steps:
    tars(here)
    yield "encode shards"
    (here / "shards/0.tar").unlink()
    outcome = yield "encode shards"
    outcome.check(rows=3, says="removed 0.h5")
    outcome = yield "build"
    assert len(outcome.pictures) == 3


@AGAIN.case("The same, where tars are named by a glob")
def tar_gone(here: Path) -> Steps:
    tars(here)
    yield "encode 'shards/*.tar'"
    (here / "shards/0.tar").unlink()
    outcome = yield "encode 'shards/*.tar'"
    outcome.check(rows=6, says="--prune")


@AGAIN.case("The same with `--prune`")
def pruned(here: Path) -> Steps:
    tars(here)
    yield "encode 'shards/*.tar'"
    (here / "shards/0.tar").unlink()
    outcome = yield "encode 'shards/*.tar' --prune"
    outcome.check(rows=3, says="removed 0.h5")


@AGAIN.case("A tar touched: its time is new, its bytes are not")
def touched(here: Path) -> Steps:
    tars(here)
    yield "encode shards"
    os.utime(here / "shards/0.tar", (DAY, DAY))
    outcome = yield "encode shards"
    outcome.check(rows=6)
    assert outcome.coded == 0


@AGAIN.case("The folder moved, and named where it is now")
def folder_moved(here: Path) -> Steps:
    photos(here, 5)
    yield "encode photos"
    (here / "elsewhere").mkdir()
    (here / "photos").rename(here / "elsewhere/photos")
    outcome = yield "encode elsewhere/photos"
    outcome.check(rows=5)
    assert outcome.coded == 0
    outcome = yield "build"
    assert None not in outcome.pictures.values()


LARGE = saved(Image.new("RGB", (400, 300), (200, 30, 40)), "PNG")


@AGAIN.case("`--max-pixels` raised for a photo that was rejected, and a query by it")
def limit_raised(here: Path) -> Steps:
    put(here / "photos", {"a.jpg": encoded(0), "large.png": LARGE})
    outcome = yield "encode photos --max-pixels 100000"
    outcome.check(rows=1, rejects={"large.png": Reject.TOO_MANY_PIXELS})
    outcome = yield "encode photos --max-pixels 200000"
    outcome.check(rows=2)
    assert outcome.coded == 1
    yield "build"
    outcome = yield "query photos/large.png -k 1 --level fine --json"
    outcome.check()
    assert '"key": "large.png"' in outcome.out
    assert outcome.pictures["large.png"] == LARGE


@AGAIN.case("`--max-pixels` lowered")
def limit_lowered(here: Path) -> Steps:
    put(here / "photos", {"a.jpg": encoded(0), "large.png": LARGE})
    yield "encode photos"
    outcome = yield "encode photos --max-pixels 100000"
    outcome.check(rows=1, rejects={"large.png": Reject.TOO_MANY_PIXELS})


@AGAIN.case("The labels of a photo changed")
def labels_changed(here: Path) -> Steps:
    photos(here, 3)
    put(here / "photos", {"01.json": b'{"price": 3}'})
    yield "encode photos"
    put(here / "photos", {"01.json": b'{"price": 44}', "02.json": b'{"price": 5}'})
    outcome = yield "encode photos"
    outcome.check(labels={"00.jpg": {}, "01.jpg": {"price": 44}, "02.jpg": {"price": 5}})
    assert outcome.coded == 0


@AGAIN.case("The table of labels changed")
def table_changed(here: Path) -> Steps:
    photos(here, 2)
    put(here, {"labels.csv": b"key,price\n00.jpg,3\n01.jpg,4\n"})
    yield "encode photos --labels labels.csv"
    put(here, {"labels.csv": b"key,price\n00.jpg,3\n01.jpg,5\n"})
    outcome = yield "encode photos --labels labels.csv"
    outcome.check(labels={"00.jpg": {"price": 3}, "01.jpg": {"price": 5}})
    assert outcome.coded == 0


@AGAIN.case("`--skip-duplicates exact`, where all had been coded before")
def skip_duplicates(here: Path) -> Steps:
    photos(here, 3)
    put(here / "photos", {"copy.jpg": encoded(1)})
    outcome = yield "encode photos"
    outcome.check(rows=4)
    outcome = yield "encode photos --skip-duplicates exact"
    outcome.check(rows=3, rejects={"copy.jpg": Reject.SAME_CONTENT})


@AGAIN.case("Another precision")
def other_precision(here: Path) -> Steps:
    photos(here, 3)
    yield "encode photos"
    outcome = yield "encode photos --precision bf16"
    outcome.check(rows=3)
    assert outcome.coded == 3


@AGAIN.case("All photos removed")
def emptied(here: Path) -> Steps:
    photos(here, 3)
    yield "encode photos"
    shutil.rmtree(here / "photos")
    (here / "photos").mkdir()
    outcome = yield "encode photos"
    outcome.check(code=1, says="holds no image")

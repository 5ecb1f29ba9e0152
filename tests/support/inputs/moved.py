"""Collections that were moved, or lost something, after an index was built."""

from pathlib import Path

from tests.support.inputs.case import Group, Steps, put
from tests.support.pictures import encoded, write_tar

MOVED = Group("Shards that have moved")


def collection(here: Path) -> None:
    """Write photos and a tar below one folder."""
    put(here / "mine/photos", {f"{number}.jpg": encoded(number) for number in range(3)})
    write_tar(here / "mine/some.tar", [(f"{number}.jpg", encoded(number)) for number in range(3, 6)])


@MOVED.case("Index, codes and shards in one folder, which was moved; the index is named by a link")
def moved_together(here: Path) -> Steps:
    collection(here)
    yield "encode mine/photos mine/some.tar --out mine/codes"
    yield "build mine/codes --out mine/index"
    (here / "mine").rename(here / "theirs")
    (here / "index").symlink_to(here / "theirs/index")
    outcome = yield "query key:1.jpg --index theirs/index -k 1 --level fine"
    outcome.check()
    assert len(outcome.pictures) == 6
    assert None not in outcome.pictures.values()


@MOVED.case("Only the shards were moved")
def moved_away(here: Path) -> Steps:
    collection(here)
    yield "encode mine/photos mine/some.tar"
    outcome = yield "build"
    outcome.check()
    (here / "mine").rename(here / "theirs")
    outcome = yield "query key:1.jpg -k 1 --level fine"
    outcome.check()
    assert set(outcome.pictures.values()) == {None}


@MOVED.case("The same, after `indexer relocate mine=theirs`")
def relocated(here: Path) -> Steps:
    collection(here)
    yield "encode mine/photos mine/some.tar"
    yield "build"
    (here / "mine").rename(here / "theirs")
    outcome = yield f"relocate {here}/mine={here}/theirs"
    outcome.check()
    assert len(outcome.pictures) == 6
    assert None not in outcome.pictures.values()


@MOVED.case("`indexer relocate` to a place that is not there")
def relocated_nowhere(here: Path) -> Steps:
    collection(here)
    yield "encode mine/photos mine/some.tar"
    yield "build"
    outcome = yield f"relocate {here}/mine={here}/nowhere"
    assert "nowhere" in outcome.err
    assert outcome.code == 0


@MOVED.case("One photo was deleted after the index was built")
def deleted(here: Path) -> Steps:
    collection(here)
    yield "encode mine/photos"
    yield "build"
    (here / "mine/photos/1.jpg").unlink()
    outcome = yield "query key:1.jpg -k 1 --level fine"
    outcome.check()
    assert [key for key, picture in outcome.pictures.items() if picture is None] == ["1.jpg"]

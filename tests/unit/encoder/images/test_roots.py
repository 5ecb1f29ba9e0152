"""Pictures are read where the user said, and what a user made is known by its digest."""

import stat
from pathlib import Path

import pytest

from encoder.errors import HashgrainError, Reason
from encoder.images import roots
from encoder.images.roots import Roots, is_remembered, remember


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "hashgrain" / "made"


def allowed(where, shard, file=None):
    said = None
    try:
        where.check(str(shard), str(file or shard))
    except HashgrainError as err:
        said = err
    assert said is None or (said.reason is Reason.NOT_ALLOWED and str(file or shard) in str(said))
    return said is None


def test_only_what_lies_below_a_named_folder_is_read(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    (tmp_path / "photos/out").symlink_to("/etc")
    (tmp_path / "photos/in").symlink_to(tmp_path / "photos")
    named = Roots.named([tmp_path / "link"], [])
    photos = tmp_path / "photos"
    assert allowed(named, photos / "a.tar")
    assert allowed(named, photos, photos / "in/in/a.jpg")
    assert allowed(named, photos)
    for place in (
        "/etc/passwd",
        "/dev/zero",
        photos / "../a.jpg",
        photos / "out/passwd",
        f"{photos}2/a.jpg",
        "\0",
        "/",
    ):
        assert not allowed(named, photos, place), place
    assert not allowed(Roots(), photos / "a.tar")
    assert allowed(Roots.named(["/"], []), "/etc/passwd")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/a.tar", "file:///etc/passwd", "s3://bucket/a.tar", "FILE:///etc/passwd"]
)
def test_a_url_is_read_by_the_schemes_that_are_named(url):
    scheme = url.partition("://")[0]
    assert not allowed(Roots(), url)
    assert not allowed(Roots.named(["/"], ["ftp"]), url)
    assert allowed(Roots.named([], [scheme]), url)
    assert allowed(Roots.named([], [f"{scheme}://"]), url)


def test_what_this_user_made_is_remembered(state):
    assert not is_remembered("a" * 64)
    remember("a" * 64)
    remember("b" * 64)
    assert is_remembered("a" * 64)
    assert is_remembered("b" * 64)
    assert not is_remembered("a" * 63)
    assert not is_remembered("")
    assert stat.S_IMODE(state.stat().st_mode) == 0o600


def test_the_memory_does_not_grow_for_ever(state, monkeypatch):
    monkeypatch.setattr(roots, "KEPT", 10)
    for number in range(30):
        remember(f"{number:064}")
    assert is_remembered(f"{29:064}")
    assert not is_remembered(f"{0:064}")
    assert len(state.read_text().splitlines()) <= 10


def test_a_memory_that_cannot_be_written_or_read_is_none(state):
    state.parent.mkdir(parents=True)
    state.symlink_to("/dev/null")
    remember("a" * 64)
    assert not is_remembered("a" * 64)
    state.unlink()
    state.write_bytes(b"\xff\xfe")
    assert not is_remembered("a" * 64)


def test_another_user_s_memory_does_not_count(state, monkeypatch):
    remember("a" * 64)
    monkeypatch.setattr("os.geteuid", lambda: Path(state).stat().st_uid + 1)
    assert not is_remembered("a" * 64)

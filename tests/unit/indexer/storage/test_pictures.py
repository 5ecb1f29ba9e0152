"""Pictures of an index that somebody else made are read where the user said; those of one's own as they always were."""

import os
import resource
import shutil
import socket
import threading
import time
from contextlib import suppress
from pickle import dumps, loads

import numpy as np
import pytest

import indexer
from encoder.codes.file import list_code_files
from encoder.errors import HashgrainError, Reason
from encoder.images.limits import Limits
from encoder.images.shards import ShardKind
from encoder.levels import Level
from indexer.build import build
from indexer.relocate import Move, relocate
from indexer.settings import BuildSettings
from indexer.storage import pictures
from tests.support.hostile import reseal_index
from tests.support.pictures import encoded


@pytest.fixture
def made(tmp_path, write_codes):
    """An index that this user built over a folder with one picture."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.png").write_bytes(encoded(1, "PNG"))
    size = len(encoded(1, "PNG"))
    write_codes(
        "a",
        {Level.FINE: np.zeros((1, 1), np.uint8)},
        keys=["a.png"],
        places=[(0, size)],
        shard_path=tmp_path / "photos",
    )
    build(list_code_files([tmp_path / "codes"]), tmp_path / "index", BuildSettings())
    return tmp_path / "index"


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """Be somebody else, who did not build the index."""

    def leave():
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))

    return leave


def refused(index, **options):
    with pytest.raises(HashgrainError) as caught:
        indexer.open(index, **options).image(0)
    return caught.value.reason


def test_the_pictures_of_an_index_that_i_built_are_read(made):
    assert indexer.open(made).image(0) == encoded(1, "PNG")
    relocate(made, [Move(str(made.parent / "photos"), str(made.parent / "moved"))])
    (made.parent / "photos").rename(made.parent / "moved")
    assert indexer.open(made).image(0) == encoded(1, "PNG")


def test_the_pictures_of_a_stranger_s_index_are_not_read_unless_their_folder_is_named(made, elsewhere):
    elsewhere()
    assert refused(made) is Reason.NOT_ALLOWED
    assert refused(made, images_under=[made]) is Reason.NOT_ALLOWED
    opened = indexer.open(made, images_under=[made.parent / "photos"])
    assert opened.image(0) == encoded(1, "PNG")
    hit = opened.query(indexer.ByKey("a.png"), level="fine")[0]
    assert loads(dumps(hit)).image() == encoded(1, "PNG")
    assert loads(dumps(opened)).image(0) == encoded(1, "PNG")


def test_to_change_a_stranger_s_index_does_not_make_it_mine(made, elsewhere):
    elsewhere()
    relocate(made, [Move(str(made.parent / "photos"), str(made.parent / "moved"))])
    (made.parent / "photos").rename(made.parent / "moved")
    assert refused(made) is Reason.NOT_ALLOWED
    assert indexer.open(made, images_under=[made.parent / "moved"]).image(0) == encoded(1, "PNG")


def claim(index, kind, path):
    """Let the index name another shard, by an author who computes all digests again."""

    def edit(content):
        for span in content["segments"][0]["shards"]:
            span |= {"kind": kind, "path": str(path), "relative": None}

    reseal_index(index, edit)


@pytest.mark.parametrize(
    "options", [{}, {"images_under": ["photos"]}, {"images_under": ["photos"], "allow_url": ["s3"]}]
)
@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("tar", "/dev/zero"),
        ("tar", "/etc/passwd"),
        ("files", "/etc"),
        ("files", "photos/../.."),
        ("tar", "file:///etc/passwd"),
        ("tar", "http://127.0.0.1:1/a.tar"),
        ("parquet", "local:///etc/passwd"),
    ],
)
def test_an_index_may_not_name_any_file_of_the_disk_or_url(made, kind, path, options, monkeypatch):
    monkeypatch.chdir(made.parent)
    claim(made, kind, path)
    assert refused(made, **options) is Reason.NOT_ALLOWED


def test_a_fifo_or_device_below_a_root_is_not_waited_for(made):
    folder = made.parent / "photos"
    (folder / "a.png").unlink()
    os.mkfifo(folder / "a.png")
    os.mkfifo(folder / "a.tar")
    started = time.monotonic()
    assert refused(made, images_under=[folder]) is Reason.SHARD_MISSING
    claim(made, "tar", folder / "a.tar")
    assert refused(made, images_under=[folder]) is Reason.SHARD_MISSING
    claim(made, "tar", "/dev/zero")
    assert refused(made, images_under=["/dev"]) is Reason.SHARD_MISSING
    assert time.monotonic() - started < 2


def test_no_more_is_read_than_was_recorded(made):
    folder = made.parent / "photos"
    with (folder / "a.png").open("ab") as file:
        file.truncate(1 << 40)
    assert refused(made) is Reason.SHARD_MISSING


def test_a_stranger_s_index_does_not_raise_the_limits(tmp_path, write_codes):
    write_codes(
        "a", {Level.FINE: np.zeros((1, 1), np.uint8)}, places=[(0, 1 << 40)], shard_path="/", kind=ShardKind.TAR
    )
    build(list_code_files([tmp_path / "codes"]), tmp_path / "index", BuildSettings())
    reseal_index(tmp_path / "index", lambda content: content["limits"].update(max_bytes=1 << 47))
    assert refused(tmp_path / "index", images_under=["/"]) is Reason.SHARD_DAMAGED
    assert refused(tmp_path / "index", images_under=["/"], limits=Limits()) is Reason.SHARD_DAMAGED


@pytest.mark.parametrize("offset", [2**63, 2**64 - 1])
@pytest.mark.parametrize("kind", list(ShardKind))
def test_a_place_beyond_any_file_is_an_error(tmp_path, write_codes, kind, offset, shards_folder):
    shard = next(shards_folder.glob("*.tar"))
    write_codes("a", {Level.FINE: np.zeros((1, 1), np.uint8)}, places=[(offset, 10)], shard_path=shard, kind=kind)
    build(list_code_files([tmp_path / "codes"]), tmp_path / "index", BuildSettings())
    with pytest.raises(HashgrainError) as caught:
        indexer.open(tmp_path / "index").image(0)
    assert caught.value.reason in {Reason.SHARD_DAMAGED, Reason.SHARD_MISSING}


def test_a_silent_server_is_not_waited_for_for_ever(made, monkeypatch):
    monkeypatch.setattr(pictures, "PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        claim(made, "tar", f"http://127.0.0.1:{server.getsockname()[1]}/a.tar")
        started = time.monotonic()
        assert refused(made, allow_url=["http"]) is Reason.SHARD_MISSING
        assert time.monotonic() - started < 10


def endless(server, stop):
    """Answer every request with a part that has no end."""
    while not stop.is_set():
        with suppress(OSError):
            connection, _ = server.accept()
            with connection:
                asked = connection.recv(1 << 16)
                connection.sendall(
                    b"HTTP/1.1 206 Partial Content\r\nAccept-Ranges: bytes\r\nContent-Range: bytes 0-99/100000\r\n\r\n"
                    if asked.startswith(b"GET")
                    else b"HTTP/1.1 200 OK\r\nAccept-Ranges: bytes\r\nContent-Length: 100000\r\n\r\n"
                )
                while asked.startswith(b"GET") and not stop.is_set():
                    connection.sendall(bytes(1 << 20))


def test_a_server_without_end_fills_no_memory(made):
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        answering = threading.Thread(target=endless, args=(server, stop), daemon=True)
        answering.start()
        claim(made, "tar", f"http://127.0.0.1:{server.getsockname()[1]}/a.tar")
        started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert refused(made, allow_url=["http"]) is Reason.SHARD_MISSING
        stop.set()
        answering.join()
    assert time.monotonic() - started < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


def test_links_of_a_generation_are_not_followed(made):
    [places] = made.glob("gen-*/segment-000/places.npy")
    shutil.move(places, made.parent / "places.npy")
    places.symlink_to(made.parent / "places.npy")
    with pytest.raises(HashgrainError) as caught:
        indexer.open(made).image(0)
    assert caught.value.reason is Reason.INDEX_DAMAGED

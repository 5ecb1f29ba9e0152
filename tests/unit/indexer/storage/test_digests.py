import os

import pytest

from encoder.errors import HashgrainError, Reason
from encoder.runtime.publish import sha256_of
from indexer.settings import Verify
from indexer.storage import digests
from indexer.storage.digests import Digests


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "small").write_bytes(b"1" * 10)
    (tmp_path / "large").write_bytes(b"2" * 100)
    return tmp_path


def is_damaged(proof, name):
    try:
        proof.check(name)
    except HashgrainError as err:
        return err.reason is Reason.INDEX_DAMAGED
    return False


def checked(folder, files, mode, monkeypatch):
    monkeypatch.setattr(digests, "QUICK_BYTES", 50)
    proof = Digests(folder, files, mode)
    return [name for name in files if is_damaged(proof, name)], proof.unverified


def listed(folder):
    return {path.name: (path.stat().st_size, sha256_of(path)) for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("mode", "failed", "unverified"),
    [
        (Verify.QUICK, ["small"], {"large": 100}),
        (Verify.FULL, ["large", "small"], {}),
        (Verify.OFF, [], {"large": 100, "small": 10}),
    ],
)
def test_a_mode_says_which_flips_are_noticed(folder, monkeypatch, mode, failed, unverified):
    files = listed(folder)
    assert checked(folder, files, mode, monkeypatch)[0] == []
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    found, by_size = checked(folder, files, mode, monkeypatch)
    assert (sorted(found), by_size) == (failed, unverified)


def test_a_file_of_two_generations_is_read_once(folder, monkeypatch):
    files, other = listed(folder), folder / "other"
    other.mkdir()
    for name in files:
        os.link(folder / name, other / name)
    for place in (folder, other):
        assert checked(place, files, Verify.FULL, monkeypatch) == ([], {})
        monkeypatch.setattr(digests, "sha256_of", None)

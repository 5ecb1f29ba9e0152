import hashlib
import io
import random
import threading

import pytest

from encoder.images.archives.hash_thread import AHEAD, HashThread
from encoder.images.archives.source import CHUNK, HashedFile
from encoder.runtime.telemetry import Stage, Telemetry


def hash_threads():
    return [thread for thread in threading.enumerate() if thread.name == "hash"]


def test_several_digests_share_the_thread_and_are_those_of_hashlib():
    parts, telemetry = [random.Random(seed).randbytes(1000 * seed) for seed in range(1, 30)], Telemetry()
    with HashThread(telemetry) as thread:
        even, odd = thread.sha256(), thread.sha256()
        for number, part in enumerate(parts):
            (odd if number % 2 else even).update(part)
        assert even.hexdigest() == hashlib.sha256(b"".join(parts[::2])).hexdigest()
        assert odd.hexdigest() == hashlib.sha256(b"".join(parts[1::2])).hexdigest()
        odd.update(b"more")
        assert odd.hexdigest() == hashlib.sha256(b"".join(parts[1::2]) + b"more").hexdigest()
    assert telemetry.seconds[Stage.HASH] > 0
    assert not hash_threads()


def test_the_thread_ends_though_nobody_asks_for_the_digest():
    with HashThread(Telemetry()) as thread:
        thread.sha256().update(b"abc")
    assert not hash_threads()


class Late:
    """Looks at bytes as late as a hasher may."""

    def __init__(self):
        self._hash, self._waiting = hashlib.sha256(), []

    def update(self, data):
        self._waiting.append(data)
        if len(self._waiting) > AHEAD:
            self._hash.update(self._waiting.pop(0))

    def hexdigest(self):
        while self._waiting:
            self._hash.update(self._waiting.pop(0))
        return self._hash.hexdigest()


@pytest.mark.parametrize("size", [512, 70_000, CHUNK - 1, CHUNK, 3 * CHUNK + 5])
def test_a_file_is_read_as_it_is_while_its_blocks_are_hashed_late(tmp_path, size):
    data = random.Random(size).randbytes((AHEAD + 3) * CHUNK + 12345)
    path, hasher = tmp_path / "file", Late()
    path.write_bytes(data)
    with io.FileIO(path) as raw:
        file = HashedFile(raw, hasher)
        assert list(iter(lambda: file.read(size), b"")) == [data[at : at + size] for at in range(0, len(data), size)]
    assert hasher.hexdigest() == hashlib.sha256(data).hexdigest()


def test_a_read_that_fails_once_leaves_the_digest_right(tmp_path):
    class Failing(io.FileIO):
        reads = 0

        def read(self, size=-1, /):
            self.reads += 1
            if self.reads == 3:
                raise OSError("no such luck")
            return super().read(size)

    data = random.Random(0).randbytes((AHEAD + 3) * CHUNK)
    path, hasher, failures = tmp_path / "file", Late(), 0
    path.write_bytes(data)
    with Failing(path) as raw:
        file, more = HashedFile(raw, hasher), True
        while more:
            try:
                more = bool(file.read(CHUNK // 2))
            except OSError:
                failures += 1
    assert failures == 1
    assert hasher.hexdigest() == hashlib.sha256(data).hexdigest()

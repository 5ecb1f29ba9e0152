import io
import os

import pytest

from encoder.images.readers.read_whole import ANSWER, LENGTH, NOT_A_FILE, TOO_LARGE, NotAFileError, read_whole, serve


def test_a_file_comes_whole_up_to_a_limit(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_whole(str(path), 5) == (5, b"12345")
    assert read_whole(os.fsencode(path), 4) == (5, None)
    with pytest.raises(NotAFileError):
        read_whole(str(tmp_path), 5)
    with pytest.raises(FileNotFoundError):
        read_whole(str(tmp_path / "gone"), 5)


def test_blocks_of_paths_are_answered_in_order(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").write_bytes(b"abcd")
    os.mkfifo(tmp_path / "c")
    asked, answered = tmp_path / "asked", tmp_path / "answered"
    blocks = [b"".join(os.fsencode(tmp_path / name) + b"\0" for name in names) for names in ("ab", "c", "da")]
    asked.write_bytes(b"".join(LENGTH.pack(len(block)) + block for block in blocks))
    serve(os.open(asked, os.O_RDONLY), os.open(answered, os.O_WRONLY | os.O_CREAT), 3)
    out = io.BytesIO(answered.read_bytes())
    expected = [
        ANSWER.pack(0, 3) + b"abc" + ANSWER.pack(TOO_LARGE, 0),
        ANSWER.pack(NOT_A_FILE, 0),
        ANSWER.pack(2, 0) + ANSWER.pack(0, 3) + b"abc",
    ]
    assert [out.read(*LENGTH.unpack(out.read(LENGTH.size))) for _ in blocks] == expected
    assert out.read() == b""

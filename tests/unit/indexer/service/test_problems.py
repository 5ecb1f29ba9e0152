import json
import time

import pytest

from encoder.errors import HashgrainError, Reason
from indexer.service.lanes import OverloadedError
from indexer.service.problems import STATUS, RefusedError, problem, without_paths


def test_every_reason_has_a_status():
    assert STATUS.keys() == set(Reason)
    assert all(400 <= status < 600 for status in STATUS.values())


def test_an_error_says_what_and_why_as_rfc_9457_has_it():
    answer = problem(HashgrainError(Reason.KEY_UNKNOWN, "key 'x' is not there; give another"))
    assert (answer.status_code, answer.media_type) == (404, "application/problem+json")
    assert json.loads(bytes(answer.body)) == {
        "type": "urn:hashgrain:key-unknown",
        "title": "Not Found",
        "status": 404,
        "detail": "key 'x' is not there; give another",
        "reason": "key-unknown",
    }


def test_what_may_go_better_later_says_when():
    assert problem(OverloadedError("quick", 2)).headers["retry-after"] == "2"
    assert problem(OverloadedError("quick", 2)).status_code == 429
    for reason in (Reason.BUSY, Reason.SLICE_DOWN):
        assert problem(HashgrainError(reason, "not now")).headers["retry-after"] == "1"


def test_a_fault_of_ours_tells_nothing_of_itself(caplog):
    answer = problem(RuntimeError("secret of /etc/shadow"))
    assert answer.status_code == 500
    assert b"secret" not in answer.body
    assert "secret" in caplog.text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("shard /home/me/photos/a.tar is not there", "shard a.tar is not there"),
        ("https://host.example/x/y.tar did not answer", "y.tar did not answer"),
        ("key 'a/b.jpg' is not there", "key 'a/b.jpg' is not there"),
        ("1/2 of 3", "1/2 of 3"),
    ],
)
def test_no_folder_of_the_server_is_named(text, said):
    assert without_paths(text) == said


def test_what_moves_a_cursor_is_shown_as_an_escape_and_much_is_cut():
    body = json.loads(bytes(problem(RefusedError(400, "bad-value", "\x1b[2J\u202e" + "x" * 5000)).body))
    assert body["detail"].startswith("\\x1b[2J\\u202e")
    assert len(body["detail"]) == 1000


def test_a_long_word_in_a_message_takes_no_time():
    began = time.perf_counter()
    for word in ("a" * 60_000, "/" + "a" * 60_000, "a:/" * 20_000, "/a" * 30_000, "a." * 30_000):
        problem(HashgrainError(Reason.KEY_UNKNOWN, f"key {word!r} is not among the rows"))
    assert time.perf_counter() - began < 0.5


def test_an_error_that_was_answered_holds_nothing_of_its_request():
    inner, err = ValueError("inner"), HashgrainError(Reason.IMAGE_REJECTED, "no picture")
    for one in (inner, err):
        try:
            raise one
        except (ValueError, HashgrainError):
            pass
    err.__cause__ = inner
    problem(err)
    assert (err.__traceback__, inner.__traceback__) == (None, None)

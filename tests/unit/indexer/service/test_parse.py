import json

import pytest

from encoder.errors import HashgrainError, Reason
from encoder.levels import Level
from indexer.service.parse import batch_request, picture_request, search_request
from indexer.service.settings import ServeSettings
from indexer.settings import Combine
from indexer.wire import SearchRequest

SETTINGS = ServeSettings()


def refused(body):
    with pytest.raises(HashgrainError) as err:
        search_request(body if isinstance(body, bytes) else json.dumps(body).encode(), SETTINGS)
    assert err.value.reason is Reason.BAD_VALUE
    return str(err.value)


def test_json_becomes_plain_data():
    body = (
        b'{"key": "a", "levels": ["coarse", "fine"], "combine": "cascade", "radii": [8, 24], "k": 5, "where": "x = 1"}'
    )
    assert search_request(body, SETTINGS) == SearchRequest(
        key="a", levels=(Level.COARSE, Level.FINE), combine=Combine.CASCADE, radii=(8, 24), k=5, where="x = 1"
    )


def test_a_query_string_says_the_same():
    asked = picture_request(b"levels=coarse,fine&combine=each&k=7&exact=true&positive=a%2Cb", SETTINGS)
    assert asked == SearchRequest(
        levels=(Level.COARSE, Level.FINE), combine="each", k=7, exact=True, positive=("a", "b")
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"key": "a", "k": 1e400}',
        b'{"key": "a", "max_false": NaN}',
        b'{"key": "a", "recall": Infinity}',
        b'{"key": "a", "k": "10"}',
        b'{"key": "a", "k": true}',
        b'{"key": "a", "unknown": 1}',
        b'{"key": 7}',
        b'{"key": "a", "k": 9' + b"9" * 400 + b"}",
        b"[" * 100_000,
        b'{"key": "\xff"}',
        b'{"key": "\\ud800"}',
        {"key": "a", "level": "none"},
        {"key": "a", "codes": {"fine": "00"}},
        {"negative": ["a"]},
        {"key": "a", "k": 0},
        {"key": "a", "k": 10_001},
        {"key": "a", "k": 9_999, "offset": 2},
        {"key": "a", "k": 2_501, "combine": "each"},
        {"key": "a", "k": 2_000, "offset": 1_334, "combine": "each", "levels": ["fine", "mid", "coarse"]},
        {"key": "a", "offset": -1},
        {"key": "a", "radius": -1},
        {"key": "a", "rerank": 1 << 40},
        {"key": "a", "budgets": [1 << 40]},
        {"key": "a", "where": "x" * 5000},
        {"positive": ["a"] * 101},
        {"key": "a", "levels": ["fine"] * 9},
        {"key": "a", "region": [0, 0, 1]},
    ],
)
def test_what_is_no_request_is_refused_with_a_line(body):
    assert len(refused(body)) < 500


def test_the_message_names_the_field():
    assert "k: " in refused({"key": "a", "k": "ten"})
    assert "nothing" in refused({"key": "a", "nothing": 1})


@pytest.mark.parametrize(
    "query_string",
    [
        b"k=x",
        b"k=1&k=2",
        b"nothing=1",
        b"key=a",
        b"recall=nan",
        b"&".join([b"x=1"] * 65),
        b"&" * 1000,
    ],
)
def test_a_query_string_is_checked_too(query_string):
    with pytest.raises(HashgrainError) as refused:
        picture_request(query_string, SETTINGS)
    assert refused.value.reason is Reason.BAD_VALUE


def test_a_batch_has_a_bound():
    one = {"key": "a"}
    assert len(batch_request(json.dumps({"queries": [one] * 64}).encode(), SETTINGS).queries) == 64
    for queries in ([], [one] * 65, [{"key": "a", "k": -1}]):
        with pytest.raises(HashgrainError):
            batch_request(json.dumps({"queries": queries}).encode(), SETTINGS)

import pytest

from encoder.errors import HashgrainError, Reason
from indexer.service.settings import ServeSettings


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "photos.example"])
def test_an_address_beyond_the_machine_takes_a_token(host):
    with pytest.raises(HashgrainError) as refused:
        ServeSettings(host=host)
    assert refused.value.reason is Reason.BAD_VALUE
    assert ServeSettings(host=host, token="0123456789abcdef").host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_loopback_takes_none(host):
    assert ServeSettings(host=host).token is None


def test_a_token_that_is_guessed_is_none_and_it_is_not_shown():
    with pytest.raises(HashgrainError):
        ServeSettings(token="secret")
    assert "0123456789abcdef" not in repr(ServeSettings(token="0123456789abcdef"))

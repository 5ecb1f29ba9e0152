"""What is said where Ray is not installed."""

import sys

import pytest

from encoder.errors import HashgrainError, Reason
from encoder.runtime.cluster import connected


def test_without_ray_one_line_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(HashgrainError, match=r"pip install 'hashgrain\[ray\]'") as error, connected():
        pass
    assert error.value.reason is Reason.BAD_VALUE

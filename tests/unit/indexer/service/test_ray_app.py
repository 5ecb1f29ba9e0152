"""What an application of Ray Serve is told; tests/ray has the application."""

import pytest

from encoder.errors import HashgrainError, Reason
from indexer.service.ray_app import AppSettings, secret_of


def test_arguments_are_those_of_yaml():
    settings = AppSettings.parse(
        {
            "index": "/data/index",
            "token_file": "/token",
            "slices": 4,
            "replicas": 2,
            "host_names": ["a", "b"],
            "copy_to": "/x",
        }
    )
    assert settings.host_names == ("a", "b")
    plan = settings.plan
    assert (plan.slices, plan.replicas, plan.copy_to, plan.partial) == (4, 2, "/x", False)


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"index": "x"},
        {"index": "x", "token_file": "y", "slice": 2},
        {"index": "x", "token_file": "y", "ingresses": 0},
    ],
)
def test_arguments_that_are_not_known_or_missing_are_told(odd):
    with pytest.raises(HashgrainError) as refused:
        AppSettings.parse(odd)
    assert refused.value.reason is Reason.BAD_VALUE


def test_processes_of_one_token_know_each_other_and_the_token_cannot_be_told():
    assert secret_of("a" * 16) == secret_of("a" * 16) != secret_of("b" * 16)
    assert b"a" * 16 not in secret_of("a" * 16)

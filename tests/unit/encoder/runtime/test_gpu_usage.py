"""What is asked of a GPU's driver while a run goes on."""

import time

import pytest

from encoder.runtime.gpu_usage import watching


def test_the_mean_over_devices_and_time_is_known_afterwards():
    asked = []

    def ask(device):
        asked.append(device)
        return {"cuda:0": 0.5, "cuda:1": 1.0}[device]

    with watching(["cuda:0", "cpu", "cuda:1"], ask, every=0.001) as found:
        while len(asked) < 6:
            time.sleep(0.001)
    assert set(asked) == {"cuda:0", "cuda:1"}
    assert found.mean == pytest.approx(0.75, abs=0.1)
    seen = len(asked)
    time.sleep(0.01)
    assert len(asked) == seen


def test_a_driver_that_does_not_tell_is_no_error():
    def ask(device):
        raise ModuleNotFoundError("pynvml")

    with watching(["cuda:0"], ask, every=0.001) as found:
        time.sleep(0.01)
    assert found.mean is None


def test_nothing_is_asked_of_a_cpu():
    with watching(["cpu"], lambda _: pytest.fail("asked"), every=0.001) as found:
        time.sleep(0.01)
    assert found.mean is None

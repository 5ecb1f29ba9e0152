"""The library that torchvision has loaded is asked, and says no where there is no GPU."""

import re

import pytest
import torch

from encoder.images.decoding import nvjpeg
from encoder.images.decoding.nvjpeg import hardware_status

DEVICE = torch.device("cuda:0")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_library_itself_says_so():
    reason = hardware_status(DEVICE)
    assert reason is not None
    if torch.version.cuda:
        assert re.search(r"\(status \d\)", reason)
    assert "\n" not in reason


def test_a_torchvision_without_nvjpeg_is_told(monkeypatch):
    def missing(name):
        raise LookupError(f"{name} is not loaded")

    monkeypatch.setattr(nvjpeg, "_loaded", missing)
    assert "libnvjpeg is not loaded" in str(hardware_status(DEVICE))


def test_only_what_is_loaded_is_found():
    with pytest.raises(LookupError):
        nvjpeg._loaded("libnothing")
    assert nvjpeg._loaded("libc").startswith("/")


@pytest.mark.gpu
def test_a_gpu_says_yes_or_why_not():
    torch.zeros(1, device="cuda")
    reason = hardware_status(DEVICE)
    assert reason is None or "status" in reason

"""The resize kernel run by Triton's interpreter, on a CPU, instead of being compiled for a GPU."""

import importlib.util
import sys
from types import ModuleType

import pytest

NAME = "encoder.images.decoding.gpu_resize"


def interpret_resize(monkeypatch: pytest.MonkeyPatch, block: int | None = 1 << 12) -> ModuleType:
    """Put a second copy of the module in its place, whose kernel is interpreted, for as long as the test runs.

    Args:
        monkeypatch: of the test.
        block: samples per block of the kernel; the interpreter takes as long for many as for few. None: as on a GPU.
    """
    pytest.importorskip("triton", reason="there is no Triton for this system")
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # read where a kernel is declared
    spec = importlib.util.find_spec(NAME)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if block is not None:
        monkeypatch.setattr(module, "BLOCK", block)
    monkeypatch.setitem(sys.modules, NAME, module)
    monkeypatch.setattr("encoder.images.decoding.gpu_resize", module, raising=False)
    return module

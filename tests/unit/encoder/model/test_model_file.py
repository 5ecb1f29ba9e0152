"""A model file is read without what only training needs, and one that a stranger made is refused before it takes memory."""

import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from encoder.errors import HashgrainError, Reason
from encoder.model.builtin import BUILTIN
from encoder.model.model_file import load_model
from tests.support.hostile import HOSTILE_MODELS, cut, harm_model


@pytest.mark.parametrize("builtin", [False, True])
def test_reading_a_model_and_coding_an_image_import_no_compiler(model_path, builtin):
    path = str(BUILTIN if builtin else model_path)
    script = f"""
import sys
import numpy as np
import encoder

encoder.load({path!r}).encode([np.zeros((80, 60, 3), np.uint8)])
print([name for name in ("torch._dynamo", "torch._inductor", "sympy") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def refused(path):
    """Return why a model file is refused, which takes no time and no memory."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(HashgrainError) as caught:
        load_model(path)
    assert time.monotonic() - began < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10
    assert str(path) in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("harm", HOSTILE_MODELS)
def test_a_model_file_of_a_stranger_is_refused_at_once(model_path, tmp_path, harm):
    path = Path(shutil.copy(model_path, tmp_path / "model.safetensors"))
    load_model(path)
    harm_model(path, HOSTILE_MODELS[harm])
    assert refused(path) is Reason.MODEL_INVALID


def test_a_header_that_is_none_is_refused(model_path, tmp_path):
    data = model_path.read_bytes()
    headers = {
        "deep": (b'{"a":' * 100_000, None),
        "list": (b"[]", None),
        "long": (b"{}", 2**62),
        "over the end": (b"{}", 4000),
        "not text": (b"\xff\xfe", None),
    }
    for name, (header, length) in headers.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes((len(header) if length is None else length).to_bytes(8, "little") + header)
        assert refused(path) is Reason.MODEL_INVALID, name
    for size in (0, 7, 8, 9, 500, len(data) - 1):
        path = Path(shutil.copy(model_path, tmp_path / "cut.safetensors"))
        cut(path, size)
        assert refused(path) is Reason.MODEL_INVALID


def test_pictures_that_take_minutes_are_refused(tmp_path):
    path = Path(shutil.copy(BUILTIN, tmp_path / "model.safetensors"))

    def large(header, _, data):
        header["image_size"] = 2048
        return data

    harm_model(path, large)
    with pytest.raises(HashgrainError, match="a picture of 2048 pixels takes this network"):
        load_model(path)

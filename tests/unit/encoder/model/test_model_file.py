"""A model file is read without what only training needs."""

import subprocess
import sys

import pytest

from encoder.model.builtin import BUILTIN


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

"""torchvision comes without torch's compiler, and the compiler comes when it is wanted."""

import subprocess
import sys

SCRIPT = """
import sys
import torch
from encoder.model.vision import torchvision_models

models = torchvision_models()
assert "torch._dynamo" not in sys.modules, "the compiler was imported"
assert models.get_model("resnet18", weights=None).fc.out_features == 1000
assert models is torchvision_models()

import torchvision
boxes = [torch.tensor([[0.0, 0, 4, 4]])]
assert torchvision.ops.roi_align(torch.ones(1, 3, 8, 8), boxes, 2).shape == (1, 3, 2, 2)
assert torchvision.ops.roi_align.__module__ == "torchvision.ops.roi_align"

compiled = torch.compile(torchvision.ops.box_area, backend="eager")
assert compiled(boxes[0]).tolist() == [16]
assert sys.modules["torch._dynamo"].__file__ is not None
assert sys.modules["torch._dynamo.utils"].is_compile_supported("cpu") in (True, False)
"""

LATE = """
import sys
import torch._dynamo
from encoder.model.vision import torchvision_models

models = torchvision_models()
assert sys.modules["torch._dynamo"] is torch._dynamo
assert models.get_model("alexnet", weights=None) is not None
"""


def run(script):
    return subprocess.run([sys.executable, "-W", "error", "-c", script], check=False, capture_output=True, text=True)


def test_the_compiler_is_imported_when_somebody_compiles_and_not_before():
    done = run(SCRIPT)
    assert done.returncode == 0, done.stderr


def test_a_compiler_that_is_there_stays():
    done = run(LATE)
    assert done.returncode == 0, done.stderr

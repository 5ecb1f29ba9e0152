"""A GPU of which torch knows shapes, types and devices only: what a network does there is checked, nothing is computed."""

import json
import os
import subprocess
import sys
from itertools import chain

import pytest
import torch
from torch import Tensor, nn

from encoder.levels import Level
from encoder.model.backbone import Backbone
from encoder.model.network import HashNetwork
from encoder.model.spec import BackboneSpec, HeadSpec, Normalisation, Pooling

INDUCTOR = "2.15."
"""The versions of torch whose compiler `fake_inductor` knows."""
HEADS = {level: HeadSpec(64) for level in Level}


def network(name, pooling=Pooling.ATTENTION, heads=None, normalisation=Normalisation.UNIT, exits=None):
    """Return a network as it codes on a GPU, folded and in bf16, of tensors without values."""
    with torch.device("meta"):
        net = HashNetwork(Backbone(BackboneSpec(name)), pooling, heads or HEADS, normalisation, exits)
    return net.eval().fold_norms().to_precision(torch.bfloat16)


def fake_module(module: nn.Module, device="cuda:0") -> nn.Module:
    """Move a module to a device inside a `FakeTensorMode`, which does not allow `Module.to`; strides are kept."""

    def fake(tensor: Tensor) -> Tensor:
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)

    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(fake(parameter), parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = fake(buffer)
    assert all(tensor.device.type == "cuda" for tensor in chain(module.parameters(), module.buffers()))
    return module


def cuda_codes(folder, *networks: str) -> dict[str, str]:
    """Return the code that torch's compiler makes for a GPU of each NAME:SIZE, made by one process with its files in `folder`."""
    if not torch.__version__.startswith(INDUCTOR):
        pytest.skip(f"the parts of torch that are replaced are those of {INDUCTOR}x, this is {torch.__version__}")
    command = [sys.executable, "-m", "tests.support.fake_inductor", *networks]
    said = subprocess.run(
        command, env=os.environ | {"TMPDIR": str(folder)}, capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr[-3000:]
    codes: dict[str, str] = json.loads(said.stdout)
    return codes

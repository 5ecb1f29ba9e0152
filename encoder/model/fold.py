"""Batch norms folded into the convolutions before them, for inference: half the passes over a feature map.

By the names of layers, not by tracing: torch.fx patches every module of the process while it traces, so that a forward pass in
another thread fails meanwhile.
"""

from itertools import pairwise

from torch import nn
from torch.nn.utils import fuse_conv_bn_eval

from encoder.model.threeblock import Block

RESIDUAL = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"))
"""Layers of torchvision's residual blocks of which the second reads the first and nothing else does."""


def fold_norms(root: nn.Module) -> None:
    """Fold each batch norm below `root` into the convolution whose output it alone reads; the norm becomes an identity.

    Args:
        root: in eval mode, made of sequences, torchvision's residual blocks and blocks of `threeblock`.
    """
    for module in list(root.modules()):
        for conv_name, norm_name in _neighbours(module):
            conv, norm = getattr(module, conv_name, None), getattr(module, norm_name, None)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(module, norm_name, nn.Identity())


def _neighbours(module: nn.Module) -> list[tuple[str, str]]:
    """Return the names of layers of which the second reads the first."""
    if isinstance(module, nn.Sequential):
        return list(pairwise(name for name, _ in module.named_children()))
    if isinstance(module, Block):
        return [("conv2", "norm2")]  # between conv1 and norm1 stands the pooling
    return list(RESIDUAL)

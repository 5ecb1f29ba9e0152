"""The hash layer as a network has it: from what a level reads to its logits."""

import torch
from torch import Tensor, nn

from encoder.model.spec import Activation, HeadSpec, KernelSpec


class HashHead(nn.Linear):
    """Logits of one level, float32[n, bits] of float32[n, dim]: act(W g + v), or act(W k(g) + v) where there is a kernel.

    It computes what `encoder.hashing.layer.HashLayer` computes; its tensors have the names they have in a model file.

    Args:
        dim: of what the level reads.
        spec: what the layer is.
    """

    def __init__(self, dim: int, spec: HeadSpec) -> None:
        super().__init__(spec.kernel.anchors if spec.kernel else dim, spec.bits)
        self.spec = spec
        if spec.kernel:
            self.register_buffer("anchors", torch.zeros(spec.kernel.anchors, dim))

    def forward(self, features: Tensor) -> Tensor:
        """Apply the layer that was fitted or trained."""
        if kernel := self.spec.kernel:
            features = kernel_values(features, self.get_buffer("anchors"), kernel)
        logits = super().forward(features)
        return torch.sin(logits) if self.spec.activation is Activation.SINE else logits


def kernel_values(features: Tensor, anchors: Tensor, kernel: KernelSpec) -> Tensor:
    """Return k(x) of every row, float32[n, m]: `encoder.hashing.kernel.Kernel` on tensors.

    Args:
        features: float32[n, dim].
        anchors: float32[m, dim].
        kernel: width and neighbours.
    """
    middle = anchors.mean(dim=0)  # distances are the same from everywhere, and least rounded from there
    features, anchors = features - middle, anchors - middle
    squares = features.square().sum(dim=1, keepdim=True) + anchors.square().sum(dim=1)
    exponents = (2 * features @ anchors.T - squares).clamp_max(0) / (2 * kernel.width**2)
    if kernel.neighbours is None:
        return exponents.exp()
    nearest, places = exponents.topk(kernel.neighbours, dim=1)
    return torch.zeros_like(exponents).scatter(1, places, nearest.softmax(dim=1))

"""Backbones cut into three feature stages: torchvision's, under its own parameter names, and a small one of our own."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from encoder.errors import HashgrainError, Reason
from encoder.model.fold import fold_norms
from encoder.model.spec import BackboneSpec
from encoder.model.threeblock import WIDTHS, ThreeBlock
from encoder.model.vision import torchvision_models

RESNETS = (
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "wide_resnet101_2",
    "resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d",
)  # fmt: skip
CONV_STAGE_ENDS = {"alexnet": (8, 10, 12), "vgg16": (16, 23, 30), "vgg16_bn": (23, 33, 43)}
"""Where the last three conv stages of these nets end in torchvision's `features`; pooling opens the next stage."""
BACKBONES = (*RESNETS, *CONV_STAGE_ENDS, "threeblock")


class Backbone(nn.Module):
    """Yields the feature maps of three stages, each computed only when it is needed.

    Args:
        spec: which network; its weights are random until a state dict is loaded into `net`.

    Raises:
        HashgrainError: `bad-value` for a name or option that is not supported.
    """

    def __init__(self, spec: BackboneSpec) -> None:
        super().__init__()
        if spec.name not in BACKBONES:
            raise HashgrainError(
                Reason.BAD_VALUE, f"no backbone is called {spec.name!r}; the backbones are {', '.join(BACKBONES)}"
            )
        if spec.name != "threeblock" and spec.widths:
            raise HashgrainError(Reason.BAD_VALUE, f"{spec.name} has its own widths; leave them out")
        if spec.name == "threeblock":
            trunk = ThreeBlock(spec.widths or WIDTHS)
            self.net: nn.Module = trunk
            self._stages = trunk.stages()
            return
        net: Any = torchvision_models().get_model(spec.name, weights=None)  # Any: its layers are looked up by name
        self.net = net
        if spec.name in RESNETS:
            net.fc = nn.Identity()
            self._stages = _resnet_stages(net, spec)
        elif spec.small_stem or spec.stride_in_1x1:
            raise HashgrainError(Reason.BAD_VALUE, f"{spec.name} has no residual stem; leave the stem options out")
        else:
            net.classifier = nn.Identity()
            ends = CONV_STAGE_ENDS[spec.name]
            self._stages = [net.features[start:end] for start, end in zip((0, *ends[:-1]), ends, strict=True)]

    def forward(self, images: Tensor) -> Iterator[Tensor]:
        """Yield three maps, float[n, channels, height, width], of normalised images, float[n, 3, size, size]."""
        features = images
        for stage in self._stages:
            features = stage(features)
            yield features

    def fold_norms(self) -> None:
        """Fold each batch norm into the convolution whose output it alone reads: for inference, parameters change names."""
        self.net = nn.ModuleList(self._stages)
        fold_norms(self.net)

    def channels(self) -> list[int]:
        """Return the channels of each stage's map, from the last convolution in it."""
        return [_out_channels(stage) for stage in self._stages]


def _out_channels(stage: nn.Module) -> int:
    """Return the width of what a stage puts out; a residual block's downsampling has the same one."""
    return [layer.out_channels for layer in stage.modules() if isinstance(layer, nn.Conv2d)][-1]


def _resnet_stages(net: Any, spec: BackboneSpec) -> list[nn.Module]:
    if spec.small_stem:
        net.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
        net.maxpool = nn.Identity()
    if spec.stride_in_1x1:
        for layer in (net.layer2, net.layer3, net.layer4):
            if not hasattr(layer[0], "conv3"):
                raise HashgrainError(Reason.BAD_VALUE, f"{spec.name} has no 1x1 convolution to put the stride on")
            layer[0].conv1.stride, layer[0].conv2.stride = (2, 2), (1, 1)
    stem = (net.conv1, net.bn1, net.relu, net.maxpool)
    return [nn.Sequential(*stem, net.layer1, net.layer2), net.layer3, net.layer4]

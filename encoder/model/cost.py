"""What a picture costs a trunk: a file of a few bytes could else name a side of pixels that takes a minute and gigabytes."""

from typing import Any

from torch import nn

from encoder.errors import HashgrainError, Reason

MOST_STEPS = 1 << 36
"""Multiplications that one picture may take: 17 times a ResNet-50 at 224 pixels, a ResNet-50 at 900, two seconds of two cores."""
MOST_VALUES = 1 << 24
"""Values of the largest feature map: 64 MiB, a ResNet-50 at 1,024 pixels."""


def check_cost(trunk: nn.Module, side: int) -> None:
    """Refuse a trunk on pictures that are too large for it.

    Args:
        trunk: `Backbone.net`; its layers are counted in the order in which they stand, those of a branch once.
        side: of a picture, in pixels.

    Raises:
        HashgrainError: `bad-value`.
    """
    at, steps, largest = side, 0, 0
    for name, layer in trunk.named_modules():
        if "downsample" in name or not isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            continue  # a way around a block is as large as the block, and its stride is not another one
        kernel, stride, padding = (_first(value) for value in (layer.kernel_size, layer.stride, layer.padding))
        at = (at + 2 * padding - kernel) // stride + 1
        if at < 1:
            raise HashgrainError(
                Reason.BAD_VALUE, f"nothing is left of a picture of {side} pixels at {name}; give a larger side"
            )
        if isinstance(layer, nn.Conv2d):
            steps += at**2 * layer.weight.numel()
            largest = max(largest, at**2 * layer.out_channels)
    if steps > MOST_STEPS or largest > MOST_VALUES:
        raise HashgrainError(
            Reason.BAD_VALUE,
            f"a picture of {side} pixels takes this network {steps / 1e9:,.0f} billion multiplications and {largest / 1e6:,.0f} "
            f"million values at a time, the most are {MOST_STEPS / 1e9:,.0f} and {MOST_VALUES / 1e6:,.0f}; give a smaller side",
        )


def _first(value: Any) -> int:
    """Return the first of two equal numbers, as a layer has them."""
    return int(value[0] if isinstance(value, tuple) else value)

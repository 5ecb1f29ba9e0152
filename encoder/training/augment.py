"""Random changes to batches of pictures; all randomness comes from the generator given, so a step can be repeated.

Pictures are [n, side, side, 3], RGB in 0..255, uint8 or float32.
"""

import io
import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

GREY = 118
"""Fills what is cut out: the mean of ImageNet's pixels, so that normalised it is near 0."""
LUMA = (0.299, 0.587, 0.114)
"""Source: ITU-R BT.601."""


def shift(images: Tensor, pad: int, flips: Tensor, generator: torch.Generator) -> Tensor:
    """Move each picture by up to `pad` pixels each way, mirrored at the border, and flip those that `flips` says.

    Args:
        images: uint8[n, side, side, 3].
        pad: largest move in pixels, below side.
        flips: bool[n].
        generator: of the moves.

    Returns:
        uint8[n, side, side, 3].
    """
    count, side = images.shape[:2]
    moves = torch.randint(-pad, pad + 1, (2, count, 1), generator=generator)
    rows, columns = (_mirrored(torch.arange(side) + move, side) for move in moves)
    columns = torch.where(flips[:, None], columns.flip(1), columns)
    return images[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


def _mirrored(positions: Tensor, side: int) -> Tensor:
    inside = positions.abs()
    return torch.where(inside >= side, 2 * (side - 1) - inside, inside)


def cutout(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Grey out one square of `size` pixels in each picture, its centre anywhere in it.

    Source: DeVries and Taylor, Improved regularization of convolutional neural networks with cutout, 2017.
    """
    count, side = images.shape[:2]
    centres = torch.randint(side, (2, count, 1), generator=generator)
    starts = centres - size // 2
    inside = (torch.arange(side) >= starts) & (torch.arange(side) < starts + size)  # bool[2, n, side]
    hole = inside[0, :, :, None] & inside[1, :, None, :]
    return images.masked_fill(hole[..., None], GREY)


def warp(images: Tensor, side: int, area: tuple[float, float], degrees: float, generator: torch.Generator) -> Tensor:
    """Cut a random part out of each picture, turned and maybe mirrored, and bring it to `side` pixels.

    Args:
        images: [n, any, any, 3].
        side: of the result.
        area: smallest and largest share of the picture's area that is kept.
        degrees: largest turn either way.
        generator: of the choices.

    Returns:
        float32[n, side, side, 3]; what lies outside the picture is its mirror image.
    """
    count = len(images)
    share, turn, right, down = torch.rand(4, count, generator=generator)
    scale = (area[0] + (area[1] - area[0]) * share).sqrt()
    angle = (2 * turn - 1) * math.radians(degrees)
    mirror = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    room = 1 - scale
    rows = [cos * mirror, -sin, (2 * right - 1) * room, sin * mirror, cos, (2 * down - 1) * room]
    theta = torch.stack(rows, dim=1).reshape(count, 2, 3).to(images.device)
    grid = functional.affine_grid(theta, [count, 3, side, side], align_corners=False)
    moved = functional.grid_sample(
        images.permute(0, 3, 1, 2).float(), grid, padding_mode="reflection", align_corners=False
    )
    return moved.permute(0, 2, 3, 1)


def jitter(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Change each picture's brightness, contrast and saturation by up to `strength`, and its hue by half of that.

    Args:
        images: float32[n, side, side, 3].
        strength: 0.3 multiplies by 0.7..1.3; the hue turns by up to strength / 2 radians around the grey axis.
        generator: of the choices.
    """
    count = len(images)
    factors = 1 + strength * (2 * torch.rand(4, count, 1, 1, 1, generator=generator) - 1)
    brightness, contrast, saturation, hue = factors.to(images.device)
    images = images * brightness
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = mean + (images - mean) * contrast
    grey = (images * images.new_tensor(LUMA)).sum(dim=3, keepdim=True)
    colour = (images - grey) * saturation
    angle = (hue - 1) / 2
    axis = images.new_tensor([1.0, 1.0, 1.0]) / math.sqrt(3)  # Rodrigues' turn around the grey axis
    across = torch.linalg.cross(axis.expand_as(colour), colour, dim=3)
    along = axis * (colour @ axis)[..., None]
    turned = colour * angle.cos() + across * angle.sin() + along * (1 - angle.cos())
    changed: Tensor = grey + turned
    return changed.clamp(0, 255)


def blur(images: Tensor, sigma: float, chance: float, generator: torch.Generator) -> Tensor:
    """Blur a share of the pictures with a Gaussian of up to `sigma` pixels."""
    radius = max(1, math.ceil(2 * sigma))
    count = len(images)
    sigmas = sigma * torch.rand(count, 1, generator=generator).clamp_min(0.05)
    sigmas = torch.where(torch.rand(count, 1, generator=generator) < chance, sigmas, torch.full_like(sigmas, 0.05))
    offsets = torch.arange(-radius, radius + 1)
    kernels = torch.exp(-0.5 * (offsets / sigmas) ** 2)
    kernels = (kernels / kernels.sum(dim=1, keepdim=True)).to(images.device)
    planes = images.permute(3, 0, 1, 2)  # colours as the batch, pictures as channels: one kernel a picture
    padded = functional.pad(planes, (radius,) * 4, mode="reflect")
    across = functional.conv2d(padded, kernels[:, None, None, :], groups=count)
    both: Tensor = functional.conv2d(across, kernels[:, None, :, None], groups=count)
    return both.permute(1, 2, 3, 0)


def recompress(images: Tensor, quality: tuple[int, int], chance: float, generator: torch.Generator) -> Tensor:
    """Save a share of the pictures as JPEG and read them again.

    Args:
        images: float32[n, side, side, 3].
        quality: lowest and highest, as Pillow counts it.
        chance: of each picture.
        generator: of the choices.

    Returns:
        float32[n, side, side, 3]; pictures that were not chosen are what they were.
    """
    count = len(images)
    chosen = torch.rand(count, generator=generator) < chance
    qualities = torch.randint(quality[0], quality[1] + 1, (count,), generator=generator)
    out = images.clamp(0, 255)
    pictures = images.round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    for row in chosen.nonzero()[:, 0].tolist():
        file = io.BytesIO()
        Image.fromarray(pictures[row]).save(file, "JPEG", quality=int(qualities[row]))
        out[row] = torch.from_numpy(np.array(Image.open(file))).to(out)
    return out


def view(images: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Return one more picture of each picture, as a re-publisher would make: cut, turned, coloured, blurred, recompressed.

    Args:
        images: uint8[n, any, any, 3].
        side: of the result.
        generator: of the choices.

    Returns:
        float32[n, side, side, 3].
    """
    images = warp(images, side, area=(0.6, 1.0), degrees=12, generator=generator)
    images = jitter(images, 0.35, generator)
    images = blur(images, side / 40, 0.4, generator)
    return recompress(images, (25, 95), 0.5, generator)

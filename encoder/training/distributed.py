"""One training in several processes (torchrun): each runs the trunk on its share of a batch, all see the whole batch's codes.

Features are gathered before the hash layers, so pairs, norms and memories are those of the whole batch, and the result is
that of one process but for the order of floating-point sums.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


@contextmanager
def process_group(device: torch.device) -> Iterator[tuple[int, int]]:
    """Join the group that torchrun started, if it did, and yield (number of this process, processes).

    A GPU becomes the one that is meant where none is named: else every process would take memory and streams of the first.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if processes == 1:
        yield 0, 1
        return
    if device.type == "cuda":
        dist.init_process_group("nccl", device_id=device)
    else:
        dist.init_process_group("gloo")
    try:
        yield dist.get_rank(), processes
    finally:
        dist.destroy_process_group()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, own: Tensor) -> Tensor:
        parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, own.contiguous())
        return torch.cat(parts, dim=1)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        # every process computes the same loss of the same whole batch: its own part of the gradient is complete
        return gradient.chunk(dist.get_world_size(), dim=1)[dist.get_rank()].contiguous()


def gather(own: Tensor, groups: int = 1) -> Tensor:
    """Return the whole batch's features of each process's part, in the order of the processes.

    Args:
        own: float32[groups * n, dim]: for views, all first ones and then all second ones.
        groups: views a picture.

    Returns:
        float32[groups * n * processes, dim], groups one after another.
    """
    if not dist.is_initialized():
        return own
    whole: Tensor = _Gather.apply(own.unflatten(0, (groups, -1)))  # type: ignore[no-untyped-call]
    return whole.flatten(0, 1)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, own: Tensor) -> Tensor:
        total = own.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


class SharedBatchNorm(nn.BatchNorm2d):
    """A batch norm whose batch is that of all processes; torch's own exists for CUDA alone."""

    def forward(self, features: Tensor) -> Tensor:
        """Normalise float[n, C, H, W] by the whole batch's statistics."""
        if not self.training:
            return super().forward(features)
        values = features.float()
        count = values.numel() // values.shape[1] * dist.get_world_size()
        mean = _Sum.apply(values.sum(dim=(0, 2, 3))) / count
        centred = values - mean[:, None, None]
        variance = _Sum.apply(centred.square().sum(dim=(0, 2, 3))) / count
        if self.running_mean is not None and self.running_var is not None and self.momentum is not None:
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(variance * count / max(1, count - 1), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        normed: Tensor = centred * scale[:, None, None] + self.bias[:, None, None]
        return normed.to(features.dtype)


def share_norms(module: nn.Module) -> None:
    """Turn every batch norm of feature maps into a `SharedBatchNorm`, with its parameters and statistics."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            shared = SharedBatchNorm(child.num_features, child.eps, child.momentum)
            shared.load_state_dict(child.state_dict())
            setattr(module, name, shared)
        else:
            share_norms(child)


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Add up each parameter's gradient over the processes, in one message."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not dist.is_initialized() or not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, total in zip(gradients, torch.split(flat, [gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(total.view_as(gradient))

"""A code that teaches another which images are near which."""

import torch
import torch.nn.functional as F
from torch import Tensor

from encoder.training.losses.quantisation import EPSILON


def gram_distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """Return ||rownorm(Us Us') - rownorm(Ut Ut')||^2 / n^2, rownorm bringing each row to length 1.

    Args:
        student: Us, float[n, Ks] logits.
        teacher: Ut, float[n, Kt] logits of the same images; it gets no gradient. Kt may differ from Ks.

    Returns:
        float[], at least 0.

    Source: He et al., Nested hash layer: a plug-and-play module for multiple-length hash code learning, arXiv
    2412.08922, 2024, where the longer of two nested codes teaches the shorter.
    """
    with torch.autocast(student.device.type, enabled=False):
        return (_likeness(student) - _likeness(teacher.detach())).square().mean()


def _likeness(logits: Tensor) -> Tensor:
    return F.normalize(logits @ logits.T, dim=1, eps=EPSILON)

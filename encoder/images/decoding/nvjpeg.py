"""Whether nvJPEG has the hardware decoder here, which torchvision takes silently or does without."""

import torch


def hardware_status(device: torch.device) -> str | None:
    """Return None where nvJPEG decodes JPEGs in hardware, or why it does not, in one line.

    Args:
        device: a CUDA device.
    """
    raise NotImplementedError

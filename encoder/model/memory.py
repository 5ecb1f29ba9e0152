"""How many images fit the memory of a device: before the first one comes, and when it says no."""

from collections.abc import Callable
from typing import Final, TypeVar

import torch

from encoder.errors import HashgrainError, Reason

Result = TypeVar("Result")

MOST_BATCH: Final = 512
"""A larger batch is faster on no GPU that we have figures of, and the first one takes longer to fill."""


def batch_for(free: float, each: float) -> int:
    """Return the power of two, 1 to MOST_BATCH, of images of `each` bytes that fit half of `free` bytes.

    The other half is for pictures that are decoded meanwhile, and for what is not known.
    """
    fitting = max(1, int(free / 2 / max(each, 1)))
    return min(MOST_BATCH, 1 << (fitting.bit_length() - 1))


class Portions:
    """Images in as large portions as the device's memory has room for; what it has said no to once is not tried again.

    Args:
        device: for its name in an error.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.most: int | None = None
        """Images at once; None: any number so far."""

    def of(self, count: int, work: Callable[[slice], Result]) -> list[Result]:
        """Return what `work` makes of each portion of `count` images, in order.

        Raises:
            HashgrainError: `bad-value` when there is no memory for one image.
        """
        made: list[Result] = []
        done, most = 0, self.most or count
        while done < count or not made:
            try:
                made.append(work(slice(done, min(done + most, count))))
                done += most
            except torch.OutOfMemoryError as err:
                most = min(most, count - done) // 2
                if not most:
                    raise no_memory(self.device) from err
                self.most = most
        return made


def no_memory(device: torch.device) -> HashgrainError:
    """Return the error of a device that has no room for a single image."""
    return HashgrainError(Reason.BAD_VALUE, f"device {device} has no memory for one image; free some, or give cpu")

"""The file that a training goes on from after it was cut."""

from pathlib import Path
from typing import Any

import torch

from encoder.errors import HashgrainError, Reason
from encoder.runtime.files import exists
from encoder.runtime.publish import publish


def save_checkpoint(path: Path, digest: str, content: dict[str, Any]) -> None:
    """Write tensors and plain values durably.

    Raises:
        HashgrainError: `write-failed`.
    """
    with publish(path) as partial:
        torch.save({"digest": digest, **content}, partial)


def load_checkpoint(path: Path, digest: str, device: torch.device) -> dict[str, Any] | None:
    """Return what was saved, or None where there is no such file.

    Raises:
        HashgrainError: `exists` when it belongs to other data or settings or cannot be read.
    """
    if not exists(path):
        return None
    try:
        content: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        found = content["digest"]
    except Exception as err:
        raise _unusable(path, f"is not a readable checkpoint ({type(err).__name__})") from err
    if found != digest:
        raise _unusable(path, "is of a training with other images or settings")
    return content


def _unusable(path: Path, why: str) -> HashgrainError:
    return HashgrainError(Reason.EXISTS, f"{path} {why}; delete it to train from the start, or choose another file")

"""Images in, binary codes out: shards, decoding, networks, hash functions and the code files they end in.

    import encoder

    model = encoder.load("model.safetensors")
    encoded = model.encode([Path("photo.jpg"), array])
    encoded.codes["fine"], encoded.logits["fine"]

Importing this loads neither torch nor Pillow nor h5py.
"""

from os import PathLike
from typing import TYPE_CHECKING

from encoder.errors import HashgrainError, Reason
from encoder.levels import Level

if TYPE_CHECKING:
    from encoder.model.image_encoder import ImageEncoder

__all__ = ["HashgrainError", "Level", "Reason", "load"]


def load(path: str | PathLike[str], device: str = "auto", precision: str = "auto") -> "ImageEncoder":
    """Load a model file, ready to encode images.

    Args:
        path: model file, as `encoder fit` and `encoder train` write it.
        device: auto (a GPU where there is one), cpu, cuda or cuda:N.
        precision: of the network: auto (bf16 where the processor has it, else fp32), fp32 or bf16.

    Returns:
        An encoder that any number of threads may share.

    Raises:
        HashgrainError: `model-invalid`, `bad-value` for a device or precision that is not there.
    """
    from pathlib import Path

    from encoder.model.image_encoder import ImageEncoder
    from encoder.model.model_file import load_model
    from encoder.model.spec import parse_precision

    return ImageEncoder(load_model(Path(path)), device, parse_precision(precision))

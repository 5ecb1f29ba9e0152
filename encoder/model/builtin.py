"""The built-in model: a small network trained on CIFAR-100, for a first try where nothing can be downloaded.

Its training record is in the file; `builtin.md` is its model card.
"""

from pathlib import Path

BUILTIN = Path(__file__).with_name("builtin.safetensors")

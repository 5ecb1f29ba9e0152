"""Pictures of queries to codes: several together where they wait, each by itself where it cannot be read."""

import io
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from encoder.bits import Codes, Logits, binarize
from encoder.errors import HashgrainError
from encoder.images.inputs import square_of
from encoder.images.limits import Limits
from encoder.levels import Level
from indexer.index import Index

BATCHES: Final = (1, 2, 4, 8)
"""Pictures in a forward pass: a processor's library prepares itself anew for each number of them, so there are few."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that is to become codes, and the index whose model makes them."""

    index: Index
    content: bytes


@dataclass(frozen=True, slots=True)
class PictureCodes:
    """What became of it, at each level of the index."""

    codes: dict[Level, Codes]
    """uint8[nbits / 8]."""
    logits: dict[Level, Logits]
    """float32[nbits]."""
    decode: float
    """Seconds, of the pictures that were encoded with it."""
    forward: float


class QueryEncoder:
    """The encoder of query pictures; one thread calls it at a time.

    Args:
        limits: what a picture may be.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._decoders = ThreadPoolExecutor(2, "decode")

    def warm(self, index: Index) -> None:
        """Load the model, and pass pictures through it in each number that will come; in the thread that will do it."""
        size = index.encoder.model.config.image_size
        buffer = io.BytesIO()
        Image.effect_noise((2 * size, 2 * size), 64).convert("RGB").save(buffer, "JPEG")
        for count in BATCHES:
            for outcome in self.encode([Picture(index, buffer.getvalue())] * count):
                if isinstance(outcome, Exception):
                    raise outcome

    def encode(self, pictures: Sequence[Picture]) -> list[PictureCodes | Exception]:
        """Return codes and logits of pictures for one index, or why there are none of one."""
        index = pictures[0].index
        size = index.encoder.model.config.image_size
        began = time.perf_counter()
        contents = [each.content for each in pictures]
        decode = self._decoders.map if len(pictures) > 1 else map
        squares = list(decode(lambda content: self._square(content, size), contents))
        decoded = time.perf_counter()
        usable = [square for square in squares if not isinstance(square, HashgrainError)]
        logits = self._logits(index, usable) if usable else {}
        forward = time.perf_counter() - decoded
        outcomes, at = list[PictureCodes | Exception](), 0
        for square in squares:
            if isinstance(square, HashgrainError):
                outcomes.append(square)
                continue
            own = {level: values[at] for level, values in logits.items()}
            codes = {level: binarize(values[None])[0] for level, values in own.items()}
            outcomes.append(PictureCodes(codes, own, decoded - began, forward))
            at += 1
        return outcomes

    def _square(self, content: bytes, size: int) -> npt.NDArray[np.uint8] | HashgrainError:
        try:
            return square_of(content, size, self.limits)
        except HashgrainError as err:
            return err

    def _logits(self, index: Index, squares: Sequence[npt.NDArray[np.uint8]]) -> dict[Level, Logits]:
        """Return float32[n, nbits] by level of up to 8 pictures, padded to a number that the library is prepared for."""
        count = next(size for size in BATCHES if size >= len(squares))
        batch = np.stack([*squares, *[squares[-1]] * (count - len(squares))])
        logits = index.encoder.logits(batch, list(index.manifest.bits))
        return {level: values[: len(squares)] for level, values in logits.items()}

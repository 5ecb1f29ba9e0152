"""Pictures of queries to codes: several together where they wait, each by itself where it cannot be read."""

import io
import time
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from encoder.bits import Codes, Logits, binarize
from encoder.errors import HashgrainError
from encoder.images.inputs import Seen, look
from encoder.images.limits import Limits
from encoder.images.region import Region, RegionMode
from encoder.levels import Level
from encoder.model.image_encoder import boxes_of
from indexer.index import Index
from indexer.service.metrics import Metrics

BATCHES: Final = (1, 2, 4, 8)
"""Pictures in a forward pass: a processor's library prepares itself anew for each number of them, so there are few."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that is to become codes, and the index whose model makes them."""

    index: Index
    content: bytes
    region: Region | None = None
    """The part that is looked for; None: all of it."""
    mode: RegionMode | None = None

    @property
    def group(self) -> Hashable:
        """What pictures have in common that may pass the network together."""
        return self.index.manifest.fingerprint, self.region is None


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
        metrics: who keeps count.
    """

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self.limits, self._metrics = limits, metrics
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
        decode = self._decoders.map if len(pictures) > 1 else map
        looks = list(decode(lambda picture: self._look(picture, size), pictures))
        decoded = time.perf_counter()
        usable = [seen for seen in looks if isinstance(seen, Seen)]
        logits = self._logits(index, usable) if usable else {}
        forward = time.perf_counter() - decoded
        self._metrics.stage("decode", "", decoded - began)
        self._metrics.stage("encode", "", forward)
        outcomes, at = list[PictureCodes | Exception](), 0
        for seen in looks:
            if isinstance(seen, HashgrainError):
                outcomes.append(seen)
                continue
            own = {level: values[at] for level, values in logits.items()}
            codes = {level: binarize(values[None])[0] for level, values in own.items()}
            outcomes.append(PictureCodes(codes, own, decoded - began, forward))
            at += 1
        return outcomes

    def _look(self, picture: Picture, size: int) -> Seen | HashgrainError:
        try:
            return look(picture.content, size, self.limits, picture.region, picture.mode)
        except HashgrainError as err:
            return err

    def _logits(self, index: Index, looks: Sequence[Seen]) -> dict[Level, Logits]:
        """Return float32[n, nbits] by level of up to 8 pictures, padded to a number that the library is prepared for."""
        count = next(size for size in BATCHES if size >= len(looks))
        padded = [*looks, *[looks[-1]] * (count - len(looks))]
        batch = np.stack([seen.pixels for seen in padded])
        logits = index.encoder.logits(batch, list(index.manifest.bits), boxes_of(padded))
        return {level: values[: len(looks)] for level, values in logits.items()}

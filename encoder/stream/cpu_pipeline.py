"""Batches coded on a CPU: whole ones in worker threads, each on one core from the files' bytes to codes."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Self

from encoder.images.decoding.decode import RejectedImage
from encoder.model.image_encoder import Picture
from encoder.runtime.parallel import ordered_map
from encoder.runtime.telemetry import Stage
from encoder.stream.batch import Batch, Uncoded
from encoder.stream.coding import Coding


class CpuPipeline:
    """See `Pipeline`."""

    batch_bytes = 64 << 20
    views = False
    hasher = staticmethod(hashlib.sha256)

    def __init__(self, coding: Coding) -> None:
        self.batch = coding.settings.batch or coding.encoder.batch
        self._coding = coding

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass  # the threads end with `coded`

    def coded(self, batches: Iterable[Batch], /) -> Iterator[Batch]:
        """See `Pipeline.coded`."""
        return ordered_map(self._code, batches, self._coding.settings.workers)

    def _code(self, batch: Batch) -> Batch:
        """Take the codes that are known, decode the other images and code them."""
        encoder, levels, telemetry = self._coding.encoder, self._coding.levels, self._coding.telemetry
        uncoded, pictures = Uncoded(batch, self._coding.known), list[Picture]()
        with telemetry.span(Stage.DECODE):
            seen_of = encoder.pictures([image.data for image in uncoded.images], self._coding.settings.limits)
            for image, seen in zip(uncoded.images, seen_of, strict=True):
                if isinstance(seen, RejectedImage):
                    image.rejected(seen.reject, seen.detail)
                else:
                    pictures.append(seen)
        if not pictures:
            return uncoded.finish({}, levels)
        with telemetry.span(Stage.FORWARD):
            codes = encoder.codes(pictures, levels)
        return uncoded.finish(codes, levels)

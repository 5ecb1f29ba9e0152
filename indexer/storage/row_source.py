"""Where rows come from: what a segment is written of, whether code files, other segments or arrays hold it."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from encoder.bits import Codes
from encoder.codes.label_columns import LabelColumn
from encoder.codes.strings import TextColumn
from encoder.images.labels.values import LabelKind
from encoder.levels import Level
from indexer.storage.manifest import ShardSpan


class RowSource(Protocol):
    """Rows in order, of which each part is read when it is wanted; it may be asked again."""

    @property
    def rows(self) -> int:
        """How many."""
        ...

    @property
    def bits(self) -> Mapping[Level, int]:
        """Bits of a code by level."""
        ...

    def codes(self, level: Level, start: int, stop: int) -> Codes:
        """Return uint8[stop - start, nbits / 8], the codes of rows start:stop."""
        ...

    def keys(self) -> TextColumn:
        """Return the key of each row."""
        ...

    def places(self) -> npt.NDArray[np.uint64]:
        """Return uint64[rows, 2]: offset and size in bytes of each image in its shard."""
        ...

    def label_fields(self) -> Mapping[str, LabelKind]:
        """Return the kind of each label that there is."""
        ...

    def label(self, name: str) -> LabelColumn:
        """Return one of these labels over the rows."""
        ...

    def spans(self) -> list[ShardSpan]:
        """Return which shards the rows came from; rows are counted from 0."""
        ...

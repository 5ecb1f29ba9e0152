"""Hits as JSON, those of a whole batch at once: keys, labels and shards come by columns, and no object is made per hit."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from encoder.images.labels.values import Labels, as_json
from indexer.answer import Found
from indexer.opened import Opened
from indexer.wire import as_text

Places = npt.NDArray[np.int64]
"""int64[n], which of a query's rows go out."""


def hits_of(index: Opened, found: Sequence[Found], places: Sequence[Places], offset: int) -> list[str]:
    """Return the hits of queries as a list of `WireHit` in JSON each: what `Hit` has, without what reads its picture.

    Args:
        index: where they were found.
        found: what each query came to.
        places: of each query, those of its rows that go out.
        offset: hits before the first one of each query.
    """
    rows = [one.ranked.rows[of] for one, of in zip(found, places, strict=True)]
    said = index.describe(np.concatenate(rows))
    texts = {shard: as_text(shard) for shard in set(said.shards)}
    each = zip(said.keys, said.labels, map(texts.__getitem__, said.shards), strict=True)
    return [_hits(one, of, offset, each) for one, of in zip(found, places, strict=True)]


def _hits(found: Found, places: Places, offset: int, each: Iterator[tuple[str, Labels, str]]) -> str:
    """Return the hits of one query, whose keys, labels and shards come next."""
    ranked = found.ranked
    by_level = {level: values[places].tolist() for level, values in ranked.distances.items()}
    rows, distances = ranked.rows[places].tolist(), by_level[found.level]
    more = [""] * len(rows)
    if ranked.scores is not None:
        more = [f',"score":{as_text(score)}' for score in ranked.scores[places].astype(np.float64).tolist()]
    if len(by_level) > 1:
        several = ({level: values[at] for level, values in by_level.items()} for at in range(len(rows)))
        more = [f'{text},"distances":{as_text(one)}' for text, one in zip(more, several, strict=True)]
    hits = [
        f'{{"key":{as_text(key)},"row":{row},"rank":{rank},"distance":{distance},'
        f'"labels":{as_text(as_json(labels)) if labels else "{}"},"shard":{shard}{rest}}}'
        for rank, (row, distance, rest, (key, labels, shard)) in enumerate(
            zip(rows, distances, more, each, strict=False),
            offset + 1,  # `each` goes on with the next query
        )
    ]
    return f"[{','.join(hits)}]"

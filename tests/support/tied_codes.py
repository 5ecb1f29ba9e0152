"""Codes of which many are equally far from a query, and files of them."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from indexer.engines.faiss_cpu import FlatIndex
from indexer.engines.faiss_file import write_flat


@st.composite
def collections(draw):
    """Codes and queries; few distinct bytes, so that ties, which real codes are full of, are the rule here."""
    size = draw(st.sampled_from([1, 3, 4, 8, 16, 32]))
    alphabet = st.sampled_from([0, 1, 3, 255])
    codes = draw(hnp.arrays(np.uint8, (draw(st.integers(0, 40)), size), elements=alphabet))
    queries = draw(hnp.arrays(np.uint8, (draw(st.integers(1, 4)), size), elements=alphabet))
    return codes, queries


def anew(path):
    """Return a path at which there is nothing any more: of an example before."""
    path.unlink(missing_ok=True)
    return path


def flat_of(folder, codes):
    path = anew(folder / "level.faiss")
    write_flat(path, 8 * codes.shape[1], len(codes), [codes[:5], codes[5:]])
    return FlatIndex(path)

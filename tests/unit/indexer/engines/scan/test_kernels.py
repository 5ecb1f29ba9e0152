"""What crosses the border between Python and the compiled functions."""

import numpy as np
import pytest
from numba import types
from numba.core.dispatcher import Dispatcher

from indexer.engines.scan import driver as running
from indexer.engines.scan import kernels
from indexer.engines.scan.kernels import QueryBatch, no_candidates
from indexer.row_mask import row_set
from indexer.settings import BuildSettings, Dedupe, Engine, IndexKind, SearchSettings
from tests.support.level_indexes import sub_index


def words(number):
    return np.uint64(number)


def test_a_record_that_comes_back_goes_in_again_as_what_it_was():
    batch = QueryBatch(np.zeros((2, 1), np.uint64), np.empty(0, np.uint64), *map(words, (3, 65, 64, 300)))
    parts: tuple[object, ...] = no_candidates(batch, words(1))
    assert all(isinstance(part, np.ndarray) and part.dtype == np.uint64 for part in parts)


@pytest.mark.parametrize("words_per_thread", [1, running.WORDS_PER_THREAD], ids=["threads", "one-thread"])
def test_no_kernel_is_compiled_for_signed_numbers_nor_for_arrays_with_gaps(tmp_path, monkeypatch, words_per_thread):
    monkeypatch.setattr(running, "WORDS_PER_THREAD", words_per_thread)
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (600, 8), dtype=np.uint8)
    builds = [
        BuildSettings(kind, nlist=nlist, dedupe=Dedupe.OFF)
        for kind, nlist in ((IndexKind.IVF, 8), (IndexKind.FLAT, None))
    ]
    index = sub_index(tmp_path, [codes[:500], codes[500:]], builds)
    for rows in (None, row_set(rng.random(600) < 0.5)):
        for effort in ({"exact": True}, {"nprobe": 2}):
            for k, radius in ((10, None), (None, 20), (5, 20)):
                for queries in (1, 40):
                    index.search(codes[:queries], SearchSettings(k, radius, engine=Engine.SCAN, **effort), rows)
    running_kernels = {name: each for name, each in vars(kernels).items() if isinstance(each, Dispatcher)}
    signatures = {name: each.nopython_signatures for name, each in running_kernels.items()}
    for name, known in signatures.items():
        for signature in known:
            for argument in flat(signature.args):
                assert argument not in types.signed_domain or isinstance(argument, types.IntegerLiteral), (
                    name,
                    signature,
                )
                assert not isinstance(argument, types.Array) or argument.layout == "C", (name, signature)


def flat(arguments):
    """Records by their fields; of a tuple that stands for a width only its length matters."""
    for each in arguments:
        if isinstance(each, types.NamedTuple):
            yield from flat(each.types)
        elif not isinstance(each, types.BaseTuple):
            yield each

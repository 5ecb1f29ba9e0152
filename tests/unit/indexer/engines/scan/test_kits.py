"""What is loaded before there is a query is what queries call."""

from collections.abc import Iterable, Iterator
from typing import Any

import numba
import numpy as np
import pytest
from numba import types
from numba.core.dispatcher import Dispatcher

from indexer.engines.kit import Kind, Kit
from indexer.engines.scan import driver as running
from indexer.engines.scan import kernels
from indexer.engines.scan.kits import _calls, compile_kit, kits_for, load
from indexer.engines.scan.weighted import search_weighted
from indexer.matches import Bounds
from indexer.row_mask import row_set
from indexer.settings import BuildSettings, Dedupe, Engine, IndexKind, SearchSettings
from tests.support.level_indexes import sub_index

KITS = [Kit(kind, words) for kind in (Kind.FLAT, Kind.LISTS) for words in (1, 2, 4, 8, 16)] + [Kit(Kind.SUMS, 0)]


@pytest.mark.parametrize("words_per_thread", [1, running.WORDS_PER_THREAD], ids=["threads", "one-thread"])
def test_searches_call_nothing_that_is_in_no_kit(tmp_path, monkeypatch, words_per_thread):
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
        search_weighted([index.weighted(3), index.weighted(1)], index.rows, [codes[:2]] * 2, Bounds(9, rows=rows))
    known = {(call.__name__, tuple(map(numba.typeof, arguments))) for kit in KITS for call, arguments in _calls(kit)}
    entries = {call.__name__ for kit in KITS for call, _ in _calls(kit)}
    assert entries == {name for name, each in vars(kernels).items() if is_entry(each)}
    for name in entries:
        for signature in getattr(kernels, name).signatures:
            assert (name, signature) in known


def is_entry(kernel):
    return isinstance(kernel, Dispatcher) and not kernel.targetoptions.get("no_cpython_wrapper")


def test_no_kernel_takes_signed_numbers_or_arrays_with_gaps():
    for kit in KITS:
        for _, arguments in _calls(kit):
            for each in flat(map(numba.typeof, arguments)):
                assert each not in types.signed_domain
                assert not isinstance(each, types.Array) or each.layout == "C"


def flat(arguments: Iterable[Any]) -> Iterator[Any]:
    """Records by their fields; of a tuple that stands for a width only its length matters."""
    for each in arguments:
        if isinstance(each, types.BaseNamedTuple):
            types_of: Any = each
            yield from flat(types_of)
        elif not isinstance(each, types.BaseTuple):
            yield each


def test_what_was_compiled_is_loaded_by_the_next():
    kit = Kit(Kind.FLAT, 1)
    compile_kit(kit)
    assert load(kit)


def test_kits_are_those_of_all_code_sizes_once():
    assert kits_for([64, 64, 48, 128]) == [Kit(Kind.LISTS, 1), Kit(Kind.LISTS, 2), Kit(Kind.SUMS, 0)]

"""The inner loops of the scan, compiled by numba on first use and kept on disk. Knows addresses and bits, not indexes.

A code is handled as `len(width)` words of 64 bits: `width` is a tuple because the length of a tuple is known when a
function is compiled, so each word count gets loops of its own, unrolled and vectorised (vpopcntq where the machine has
it). Every number is uint64: signed indexes cost a wrap-around check, and mixing both kinds gives floats.

All compiled functions are in this one file: numba compiles a cached function again only when its own file has changed.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

Word = np.uint64
Words = npt.NDArray[np.uint64]
Width = tuple[int, ...]
"""A tuple as long as a code has words."""
P = ParamSpec("P")
R = TypeVar("R")

BLOCK: Final = Word(256)
"""Rows compared at once: their words stay in the level-1 cache for all queries."""
REACH: Final = Word(1024)
"""Rows compared at once where they lie: a block of them is looked at again only if one is near enough."""
ROW_BITS: Final = Word(48)
"""A candidate is one number, distance << ROW_BITS | row: the order of these numbers is the order of the answers."""
ZERO, ONE, TWO, FIVE, SIX, EIGHT = (Word(number) for number in (0, 1, 2, 5, 6, 8))
THIRTY_ONE, THIRTY_TWO, SIXTY_THREE, SIXTY_FOUR = (Word(number) for number in (31, 32, 63, 64))
ALL: Final = Word(2**64 - 1)

STRETCH_FIELDS: Final = 4
CODES, IDS, FIRST_ROW, ROWS = range(STRETCH_FIELDS)
"""Columns of a stretch of codes that follow one another in memory: address of the codes; address of their int64 ids, or 0
where the position is the id; what is added to an id to give the row; number of codes."""
JOB_FIELDS: Final = 5
STRETCH, START, STOP, ASKED_START, ASKED_STOP = range(JOB_FIELDS)
"""Columns of a job: a stretch, positions start:stop in it, and which part of `asked` names the queries that want them."""


class Work(NamedTuple):
    """Codes and who wants them."""

    stretches: Words
    """uint64[s, STRETCH_FIELDS]."""
    jobs: Words
    """uint64[j, JOB_FIELDS]."""
    asked: Words
    """uint64[], numbers of queries."""
    queries: Words
    """uint64[nq, len(width)], padded with zeros."""
    counts: Words
    """Bit r & 63 of word r >> 6 says whether row r counts, with one word to spare; empty: all rows count."""


class Kept(NamedTuple):
    """The candidates of each query so far."""

    keys: Words
    """uint64[nq, capacity], distance << ROW_BITS | row."""
    sizes: Words
    """uint64[nq], how many."""
    limits: Words
    """uint64[nq], candidates are nearer than this."""
    tallies: Words
    """uint64[nq, 8 * code size + 2], candidates so far by distance."""
    within: Words
    """uint64[nq], candidates that were no farther than limit - ties."""
    k: Word
    """Candidates needed of each query; 0: all below the limit."""
    ties: Word
    """1 if rows do not come in order: one that comes later may precede another at the same distance. Else 0."""


class Wanted(NamedTuple):
    """Queries and what they want."""

    queries: Words
    """As in `Work`."""
    counts: Words
    """As in `Work`."""
    k: Word
    """As in `Kept`."""
    limit: Word
    """Answers are nearer than this."""
    farthest: Word
    """Largest distance there can be."""
    capacity: Word
    """Room for candidates of a query, at least k + BLOCK."""


class Levels(NamedTuple):
    """Codes of the same rows at several levels."""

    codes: Words
    """uint64[levels, segments, STRETCH_FIELDS], the codes of each segment."""
    entries: Words
    """uint64[levels, segments], address of uint32[rows], which code is each row's; 0 where codes are in row order."""
    sizes: Words
    """uint64[levels], bytes of a code."""
    words: Words
    """uint64[levels], the first of each level's words in a query."""
    factors: Words
    """uint64[words], what a bit that differs in each word adds."""


class Block(NamedTuple):
    """Codes copied for comparison."""

    planes: Words
    """uint64[len(width) * BLOCK]: word w of all codes stands together, at w * BLOCK. Distances of neighbouring codes come
    out of neighbouring lanes this way, and nothing is ever added up across a vector."""
    places: Words
    """uint64[BLOCK], how far the position of each code is from the block's start."""
    distances: Words
    """uint64[BLOCK], from the query that was measured last."""


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile on first call, without the interpreter lock; kept on disk if there is any place for it."""
    try:
        return cast("Callable[P, R]", numba.njit(nogil=True, cache=True)(function))
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return cast("Callable[P, R]", numba.njit(nogil=True)(function))


def instruction(function: Callable[..., Any]) -> Callable[..., Word]:
    """Make a function that numba has no word for, from the LLVM code it stands for."""
    return cast("Callable[..., Word]", intrinsic(function))


up_to = cast("Callable[[Word], Iterable[Word]]", range)


@instruction
def count_ones(_: Any, word: Any) -> Any:
    """Return the number of bits set."""
    return types.uint64(word), lambda _, builder, __, args: builder.ctpop(args[0])


@instruction
def trailing_zeros(_: Any, word: Any) -> Any:
    """Return the position of the lowest bit set in a word that is not 0."""
    return types.uint64(word), lambda _, builder, __, args: builder.cttz(args[0], ir.IntType(1)(1))


def _load(builder: Any, bits: int, address: Any, offset: Any) -> Any:
    """Load an unsigned number that need not be aligned."""
    base = builder.inttoptr(address, ir.IntType(8).as_pointer())
    pointer = builder.bitcast(builder.gep(base, [offset]), ir.IntType(bits).as_pointer())
    return builder.load(pointer, align=1)


@instruction
def load_word(_: Any, address: Any, offset: Any) -> Any:
    """Return the 8 bytes at an offset from an address."""
    return types.uint64(address, offset), lambda _, builder, __, args: _load(builder, 64, *args)


@instruction
def load_byte(_: Any, address: Any, offset: Any) -> Any:
    """Return the byte at an offset from an address, as a word."""
    return types.uint64(address, offset), lambda _, builder, __, args: builder.zext(
        _load(builder, 8, *args), ir.IntType(64)
    )


@instruction
def load_half(_: Any, address: Any, offset: Any) -> Any:
    """Return the 4 bytes at an offset from an address, as a word."""
    return types.uint64(address, offset), lambda _, builder, __, args: builder.zext(
        _load(builder, 32, *args), ir.IntType(64)
    )


@compiled
def load_part(address: Word, offset: Word, end: Word, size: Word) -> Word:
    """Return `size` < 8 bytes as a word, reading nothing from offset `end` on."""
    if offset + EIGHT <= end:
        return load_word(address, offset) & (ALL >> (SIXTY_FOUR - EIGHT * size))
    word = ZERO
    for byte in up_to(size):
        word |= load_byte(address, offset + byte) << (EIGHT * byte)
    return word


@compiled
def copy_whole(planes: Words, stretch: Words, start: Word, rows: Word, width: Width) -> None:
    """Copy codes start:start + rows of exactly len(width) words into planes that begin where the first is to go."""
    words = Word(len(width))
    for row in up_to(rows):
        for word in up_to(words):
            planes[word * BLOCK + row] = load_word(stretch[CODES], EIGHT * ((start + row) * words + word))


@compiled
def copy_padded(planes: Words, stretch: Words, start: Word, rows: Word, size: Word) -> None:
    """Copy codes of any other size; the planes are zeros where a code has no bytes."""
    codes, whole, rest = stretch[CODES] + start * size, size // EIGHT, size % EIGHT
    for word in up_to(whole):
        for row in up_to(rows):
            planes[word * BLOCK + row] = load_word(codes, row * size + EIGHT * word)
    if rest:
        end = (stretch[ROWS] - start) * size
        for row in up_to(rows):
            planes[whole * BLOCK + row] = load_part(codes, row * size + EIGHT * whole, end, rest)


@compiled
def copy(planes: Words, stretch: Words, start: Word, rows: Word, size: Word, width: Width) -> None:
    """Copy codes start:start + rows into planes that begin where the first is to go."""
    if size == EIGHT * Word(len(width)):
        copy_whole(planes, stretch, start, rows, width)
    else:
        copy_padded(planes, stretch, start, rows, size)


@compiled
def row_at(stretch: Words, position: Word) -> Word:
    """Return the row of the code at a position."""
    return Word(stretch[FIRST_ROW] + (load_word(stretch[IDS], EIGHT * position) if stretch[IDS] else position))


@compiled
def counted(counts: Words, stretch: Words, start: Word, rows: Word) -> Word:
    """Return a bit for each of up to 64 codes from `start`: does its row count?"""
    if stretch[IDS]:
        bits = ZERO
        for at in up_to(rows):
            row = row_at(stretch, start + at)
            bits |= ((counts[row >> SIX] >> (row & SIXTY_THREE)) & ONE) << at
        return bits
    row = row_at(stretch, start)
    shift = row & SIXTY_THREE
    low, high = counts[row >> SIX] >> shift, (counts[(row >> SIX) + ONE] << ONE) << (SIXTY_THREE - shift)
    return Word((low | high) & (ALL >> (SIXTY_FOUR - rows)))


@compiled
def gather(block: Block, job: Words, start: Word, work: Work, size: Word, width: Width) -> tuple[Word, Word]:
    """Fill the block with the next codes of a job whose rows count.

    Returns:
        Codes taken, at most BLOCK; the position after the last one looked at.
    """
    stretch = work.stretches[job[STRETCH]]
    if not len(work.counts):
        rows = min(BLOCK, job[STOP] - start)
        copy(block.planes, stretch, start, rows, size, width)
        return rows, start + rows
    taken, position = ZERO, start
    while position < job[STOP] and taken + SIXTY_FOUR <= BLOCK:
        rows = min(SIXTY_FOUR, job[STOP] - position)
        bits = counted(work.counts, stretch, position, rows)
        if bits == ALL:
            copy(block.planes[taken:], stretch, position, rows, size, width)
            for at in up_to(rows):
                block.places[taken + at] = position - start + at
            taken += rows
        else:
            while bits:
                one = position + trailing_zeros(bits)
                copy(block.planes[taken:], stretch, one, ONE, size, width)
                block.places[taken] = one - start
                taken += ONE
                bits &= bits - ONE
        position += rows
    return taken, position


@compiled
def distance(planes: Words, at: Word, query: Words, width: Width) -> Word:
    """Return the bits that differ between a query and the code at `at` of a block."""
    bits = ZERO
    for word in up_to(Word(len(width))):
        bits += count_ones(planes[word * BLOCK + at] ^ query[word])
    return bits


@compiled
def lowest(planes: Words, rows: Word, query: Words, width: Width) -> Word:
    """Return the smallest distance of a block; codes that an earlier block left behind may make it smaller."""
    best = ALL
    for at in up_to((rows + SIXTY_THREE) & ~SIXTY_THREE):
        best = min(best, distance(planes, at, query, width))
    return best


@compiled
def distance_in_place(stretch: Words, position: Word, query: Words, width: Width) -> Word:
    """Return the bits that differ between a query and a code of exactly len(width) words."""
    words, bits = Word(len(width)), ZERO
    for word in up_to(words):
        bits += count_ones(load_word(stretch[CODES], EIGHT * (position * words + word)) ^ query[word])
    return bits


@compiled
def lowest_in_place(stretch: Words, start: Word, rows: Word, query: Words, width: Width) -> Word:
    """Return the smallest distance of codes start:start + rows where they lie."""
    best = ALL
    for at in up_to(rows):
        best = min(best, distance_in_place(stretch, start + at, query, width))
    return best


@compiled
def first_near(stretch: Words, start: Word, stop: Word, query: Words, limit: Word, width: Width) -> Word:
    """Return where the first REACH of codes start:stop begins that has one nearer than a limit; `stop` where none has."""
    while start < stop and lowest_in_place(stretch, start, min(REACH, stop - start), query, width) >= limit:
        start += min(REACH, stop - start)
    return start


@compiled
def measure(block: Block, rows: Word, query: Words, width: Width) -> None:
    """Write down all distances of a block: in a loop of its own, which vectorises."""
    for at in up_to(rows):
        block.distances[at] = distance(block.planes, at, query, width)


@compiled
def measure_in_place(block: Block, stretch: Words, start: Word, rows: Word, query: Words, width: Width) -> None:
    """Write down the distances of codes start:start + rows where they lie."""
    for at in up_to(rows):
        block.distances[at] = distance_in_place(stretch, start + at, query, width)


@compiled
def tighten(kept: Kept, query: Word, bits: Word) -> None:
    """Count a candidate, and lower the limit as long as k candidates remain."""
    tally, last = kept.tallies[query], kept.limits[query] - kept.ties
    tally[bits] += ONE
    kept.within[query] += ONE
    while kept.within[query] - tally[last] >= kept.k:
        kept.within[query] -= tally[last]
        last -= ONE
    kept.limits[query] = last + kept.ties


@compiled
def admit(block: Block, rows: Word, stretch: Words, start: Word, kept: Kept, query: Word) -> None:
    """Keep the codes of a block that are nearer than the query's limit, 32 codes at a time if there are any among them."""
    for part in up_to((rows + THIRTY_ONE) >> FIVE):
        first = part << FIVE
        last = min(first + THIRTY_TWO, rows)
        nearest = ALL
        for at in up_to(THIRTY_TWO):
            nearest = min(nearest, block.distances[first + at])
        if nearest >= kept.limits[query]:
            continue
        at = first
        while at < last:
            bits = block.distances[at]
            if bits < kept.limits[query]:
                kept.keys[query, kept.sizes[query]] = bits << ROW_BITS | row_at(stretch, start + block.places[at])
                kept.sizes[query] += ONE
                if kept.k:
                    tighten(kept, query, bits)
            at += ONE


@compiled
def drop(kept: Kept, query: Word) -> None:
    """Drop the candidates of a query that k others precede by their distance alone."""
    end, size = (kept.limits[query] - kept.ties + ONE) << ROW_BITS, ZERO
    for at in up_to(kept.sizes[query]):
        key = kept.keys[query, at]
        kept.keys[query, size] = key
        size += ONE if key < end else ZERO
    kept.sizes[query] = size


@compiled
def roomier(kept: Kept, query: Word) -> Kept:
    """Make room for a block: drop candidates of a query, all but the k best if need be, or double the room of all queries."""
    if kept.k:
        drop(kept, query)
        if kept.sizes[query] + BLOCK > Word(kept.keys.shape[1]):
            kept.keys[query, : kept.sizes[query]].sort()
            kept.sizes[query] = kept.k
        return kept
    keys = np.empty((kept.keys.shape[0], 2 * kept.keys.shape[1]), Word)
    for each in up_to(Word(len(kept.sizes))):  # what no candidate has filled is not touched, and takes no memory
        keys[each, : kept.sizes[each]] = kept.keys[each, : kept.sizes[each]]
    return Kept(keys, kept.sizes, kept.limits, kept.tallies, kept.within, kept.k, kept.ties)


@compiled
def scan_in_place(block: Block, job: Words, work: Work, kept: Kept, width: Width) -> Kept:
    """Compare the codes of a job where they lie; all of them count, and each is exactly len(width) words."""
    stretch, start = work.stretches[job[STRETCH]], job[START]
    asked = work.asked[job[ASKED_START] : job[ASKED_STOP]]
    while start < job[STOP]:
        stop = job[STOP] if len(asked) == 1 else min(start + REACH, job[STOP])  # what all have seen leaves the cache
        for query in asked:
            words, at = work.queries[query], start
            while at < stop:
                at = first_near(stretch, at, stop, words, kept.limits[query], width)
                reach = min(at + REACH, stop)
                while at < reach:
                    rows = min(BLOCK, reach - at)
                    if lowest_in_place(stretch, at, rows, words, width) < kept.limits[query]:
                        if kept.sizes[query] + rows > Word(kept.keys.shape[1]):
                            kept = roomier(kept, query)
                        measure_in_place(block, stretch, at, rows, words, width)
                        admit(block, rows, stretch, at, kept, query)
                    at += rows
        start = stop
    return kept


@compiled
def scan(work: Work, kept: Kept, size: Word, width: Width) -> Kept:
    """Compare the codes of each job with the queries that want them, and keep candidates.

    Args:
        work: the jobs.
        kept: candidates of earlier jobs; capacity is at least k + BLOCK. Changed: once k candidates of a query are known,
            its limit is the distance of the k-th, plus `ties`.
        size: bytes of a code, at most 8 * len(width).
        width: as many elements as a padded code has words.

    Returns:
        `kept`, with more room if it needed more.
    """
    limits = kept.limits
    block = Block(np.zeros(Word(len(width)) * BLOCK, Word), np.arange(BLOCK, dtype=Word), np.empty(BLOCK, Word))
    whole = not len(work.counts) and size == EIGHT * Word(len(width))
    for job in work.jobs:
        stretch, asked, start = work.stretches[job[STRETCH]], work.asked[job[ASKED_START] : job[ASKED_STOP]], job[START]
        if whole and (len(asked) == 1 or len(width) == 1):  # a copy pays when it is read more than once
            kept = scan_in_place(block, job, work, kept, width)
            continue
        while start < job[STOP]:
            rows, after = gather(block, job, start, work, size, width)
            for query in asked:
                if lowest(block.planes, rows, work.queries[query], width) >= limits[query]:
                    continue
                if kept.sizes[query] + rows > Word(kept.keys.shape[1]):
                    kept = roomier(kept, query)
                measure(block, rows, work.queries[query], width)
                admit(block, rows, stretch, start, kept, query)
            start = after
    return kept


@compiled
def sum_up(planes: Words, rows: Word, query: Words, factors: Words, distances: Words) -> Word:
    """Write down a sum of a block's bits that differ, each word's times its factor, and return the smallest."""
    distances[:] = ZERO
    for word in up_to(Word(len(factors))):
        plane, asked, factor = planes[word * BLOCK : (word + ONE) * BLOCK], query[word], factors[word]
        for at in up_to(BLOCK):
            distances[at] += factor * count_ones(plane[at] ^ asked)
    best = ALL
    for at in up_to(rows):
        best = min(best, distances[at])
    return best


@compiled
def copy_levels(planes: Words, levels: Levels, segment: Word, start: Word, rows: Word) -> None:
    """Copy the codes of rows start:start + rows of a segment, the words of one level after those of another."""
    for level in up_to(Word(len(levels.sizes))):
        of_level, source = planes[levels.words[level] * BLOCK :], levels.codes[level, segment]
        entries, size = levels.entries[level, segment], levels.sizes[level]
        if entries:
            for at in up_to(rows):
                copy_padded(of_level[at:], source, load_half(entries, (start + at) << TWO), ONE, size)
        else:
            copy_padded(of_level, source, start, rows, size)


@compiled
def any_counted(counts: Words, stretch: Words, start: Word, rows: Word) -> bool:
    """Tell whether any of the rows start:start + rows counts."""
    for first in range(start, start + rows, SIXTY_FOUR):
        if counted(counts, stretch, Word(first), min(SIXTY_FOUR, start + rows - Word(first))):
            return True
    return False


@compiled
def leave_out(distances: Words, counts: Words, first_row: Word, rows: Word) -> None:
    """Put rows that do not count out of reach."""
    for at in up_to(rows):
        row = first_row + at
        if not (counts[row >> SIX] >> (row & SIXTY_THREE)) & ONE:
            distances[at] = ALL


@compiled
def scan_sums(work: Work, kept: Kept, levels: Levels) -> Kept:
    """Compare each row of each job at several levels with the queries that want it, and keep candidates.

    Args:
        work: the jobs; stretches are of rows, without codes, in row order.
        kept: as in `scan`, with sums in the place of distances.
        levels: where the codes of each row are.
    """
    limits = kept.limits
    block = Block(
        np.zeros(Word(len(levels.factors)) * BLOCK, Word), np.arange(BLOCK, dtype=Word), np.empty(BLOCK, Word)
    )
    for job in work.jobs:
        stretch, asked, start = work.stretches[job[STRETCH]], work.asked[job[ASKED_START] : job[ASKED_STOP]], job[START]
        while start < job[STOP]:
            rows = min(BLOCK, job[STOP] - start)
            if len(work.counts) and not any_counted(work.counts, stretch, start, rows):
                start += rows
                continue
            copy_levels(block.planes, levels, job[STRETCH], start, rows)
            for query in asked:
                if sum_up(block.planes, rows, work.queries[query], levels.factors, block.distances) >= limits[query]:
                    continue
                if len(work.counts):
                    leave_out(block.distances, work.counts, row_at(stretch, start), rows)
                if kept.sizes[query] + rows > Word(kept.keys.shape[1]):
                    kept = roomier(kept, query)
                admit(block, rows, stretch, start, kept, query)
            start += rows
    return kept


@compiled
def settled(kept: Kept, k: Word) -> Words:
    """Return uint64[nq, k]: the smallest candidates of each query in order, ALL where there are fewer."""
    best = np.full((len(kept.sizes), k), ALL)
    for query in up_to(Word(len(kept.sizes))):
        if kept.k:
            drop(kept, query)
        size = kept.sizes[query]
        kept.keys[query, :size].sort()
        best[query, : min(size, k)] = kept.keys[query, : min(size, k)]
    return best


@compiled
def grouped(stretches: Words, probed: Words, first: Word, last: Word) -> tuple[Words, Words]:
    """Bring together the queries that want the same stretch: jobs and `asked` of columns first:last of `probed`.

    Args:
        stretches: as in `Work`.
        probed: uint64[nq, stretches a query wants].
        first: column.
        last: column after the last.
    """
    pairs, count = np.empty(Word(len(probed)) * (last - first), Word), ZERO
    for query in up_to(Word(len(probed))):
        for at in up_to(last - first):
            pairs[count] = probed[query, first + at] << THIRTY_TWO | query
            count += ONE
    if len(probed) > 1:
        pairs.sort()
    jobs, asked, count = np.empty((len(pairs), JOB_FIELDS), Word), np.empty(len(pairs), Word), ZERO
    for at in up_to(Word(len(pairs))):
        number, asked[at] = pairs[at] >> THIRTY_TWO, pairs[at] & (ALL >> THIRTY_TWO)
        if not at or number != pairs[at - ONE] >> THIRTY_TWO:
            job = jobs[count]
            job[STRETCH], job[START], job[STOP], job[ASKED_START] = number, ZERO, stretches[number, ROWS], at
            count += ONE
        jobs[count - ONE, ASKED_STOP] = at + ONE
    return jobs[:count], asked


@compiled
def fresh(wanted: Wanted, ties: Word) -> Kept:
    """Return room for candidates, none so far."""
    queries = Word(len(wanted.queries))
    return Kept(
        np.empty((queries, wanted.capacity), Word),
        np.zeros(queries, Word),
        np.full(queries, wanted.limit),
        np.zeros((queries, wanted.farthest + TWO), Word),
        np.zeros(queries, Word),
        wanted.k,
        ties,
    )


@compiled
def scan_all(stretches: Words, wanted: Wanted, size: Word, width: Width) -> Kept:
    """Keep candidates among all codes, in one thread; stretches are in row order."""
    jobs, asked = np.zeros((len(stretches), JOB_FIELDS), Word), np.arange(len(wanted.queries)).astype(Word)
    for number in up_to(Word(len(stretches))):
        job = jobs[number]
        job[STRETCH], job[STOP], job[ASKED_STOP] = number, stretches[number, ROWS], len(asked)
    return scan(Work(stretches, jobs, asked, wanted.queries, wanted.counts), fresh(wanted, ZERO), size, width)


@compiled
def ask(stretches: Words, wanted: Wanted, size: Word, width: Width) -> Words:
    """Return uint64[nq, k], the smallest candidates of all codes, in one thread; stretches are in row order."""
    return settled(scan_all(stretches, wanted, size, width), wanted.k)


@compiled
def choose(kept: Kept, query: Word, first: Word, chosen: Words) -> None:
    """Write the rows of the k smallest candidates, more by `first` each, into uint64[k]: the smallest first, others in any order.

    Nothing is sorted: candidates at the same distance have come in row order.
    """
    drop(kept, query)
    limit, keys, count, nearest = kept.limits[query], kept.keys[query, : kept.sizes[query]], ZERO, ZERO
    for key in keys:
        count += ONE if key >> ROW_BITS < limit else ZERO
    ties, count = kept.k - count, ZERO
    for key in keys:
        if key >> ROW_BITS == limit:
            if not ties:
                continue
            ties -= ONE
        chosen[count] = key
        if key < chosen[nearest]:
            nearest = count
        count += ONE
    chosen[ZERO], chosen[nearest] = chosen[nearest], chosen[ZERO]
    for at in up_to(count):
        chosen[at] = first + (chosen[at] & (ALL >> (SIXTY_FOUR - ROW_BITS)))


@compiled
def nearest_lists(centroids: Words, nprobes: Words, queries: Words, farthest: Word, size: Word, width: Width) -> Words:
    """Return uint64[nq, sum of nprobes], the lists of each segment with the smallest (distance, number), the nearest first.

    Args:
        centroids: uint64[s, STRETCH_FIELDS], those of each segment; lists are numbered over all segments.
        nprobes: uint64[s], lists wanted of each segment, as many as it has or fewer.
        queries: as in `Work`.
        farthest: as in `Wanted`.
        size: bytes of a code.
        width: as in `scan`.
    """
    probed = np.empty((Word(len(queries)), nprobes.sum()), Word)
    column, before = ZERO, ZERO
    for segment in up_to(Word(len(centroids))):
        nprobe = nprobes[segment]
        wanted = Wanted(queries, np.empty(0, Word), nprobe, farthest + ONE, farthest, TWO * nprobe + TWO * BLOCK)
        kept = scan_all(centroids[segment : segment + ONE], wanted, size, width)
        for query in up_to(Word(len(queries))):
            choose(kept, query, before, probed[query, column : column + nprobe])
        column += nprobe
        before += centroids[segment, ROWS]
    return probed


@compiled
def ask_lists(members: Words, probed: Words, wanted: Wanted, size: Word, width: Width) -> Words:
    """Return uint64[nq, k], the smallest candidates of the lists that each query probes, in one thread.

    The first list of each query comes before all others: what is found there spares most candidates of the rest.
    """
    kept, lists = fresh(wanted, ONE), Word(probed.shape[1])
    for first, last in ((ZERO, ONE), (ONE, lists)):
        jobs, asked = grouped(members, probed, first, last)
        kept = scan(Work(members, jobs, asked, wanted.queries, wanted.counts), kept, size, width)
    return settled(kept, wanted.k)


@compiled
def ask_nearest(centroids: Words, members: Words, nprobes: Words, wanted: Wanted, size: Word, width: Width) -> Words:
    """Return uint64[nq, k], the smallest candidates of the lists nearest to each query, in one thread."""
    probed = nearest_lists(centroids, nprobes, wanted.queries, wanted.farthest, size, width)
    return ask_lists(members, probed, wanted, size, width)

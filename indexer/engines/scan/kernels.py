"""The inner loops of the scan, compiled by numba on first use and kept on disk. Knows addresses and bits, not indexes.

Python calls an `entry`. What entries call is compiled into each of them.

A code is handled as `len(width)` words of 64 bits: `width` is a tuple because the length of a tuple is known when a
function is compiled, so each word count gets loops of its own, unrolled and vectorised (vpopcntq where the machine has
it). Every number is uint64: signed indexes cost a wrap-around check, and mixing both kinds gives floats.

This one file holds all compiled functions and all that is compiled into them, records, constants and instructions, too: numba makes
a cached function again only when its own file has changed, and would go on with old code for a record whose fields changed places.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from indexer.engines.scan.kernel_cache import KernelCache

Word = np.uint64
Words = npt.NDArray[np.uint64]
Sizes = npt.NDArray[np.int64]
TopK = tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], Sizes]
"""int64[nq, k] rows and int32[nq, k] distances, and int64[nq], how many of them there are."""
Width = tuple[int, ...]
"""A tuple as long as a code has words."""
NJIT: Final[Any] = numba.njit
"""Its types know fewer options than it has."""
P = ParamSpec("P")
R = TypeVar("R")

STEP: Final = Word(64)
"""Codes compared at once: a bit each makes a word."""
TILE: Final = Word(4096)
"""Words of codes that all queries see before the next: 32 KB, which stay in the cache."""
AHEAD: Final = Word(2048)
"""Bytes from what is compared to what memory is asked for: 10 % less time than leaving it to the processor (docs/LOG.md)."""
WORTH_COPYING: Final = Word(8)
"""Queries that save as much by codes in lanes as the copy costs."""
BLOCK: Final = Word(256)
"""Rows whose sums are made at once."""
ROW_BITS: Final = Word(48)
"""A candidate is one number, distance << ROW_BITS | row: the order of these numbers is the order of the answers."""
ZERO, ONE, TWO, THREE, SIX, SEVEN, EIGHT = (Word(number) for number in (0, 1, 2, 3, 6, 7, 8))
THIRTY_TWO, SIXTY_THREE, SIXTY_FOUR = (Word(number) for number in (32, 63, 64))
ALL: Final = Word(2**64 - 1)

EXTENT_FIELDS: Final = 4
CODES, IDS, FIRST_ROW, ROWS = range(EXTENT_FIELDS)
"""Columns of an extent of codes that follow one another in memory: address of the codes; address of their int64 ids, or 0
where the position is the id; what is added to an id to give the row; number of codes."""
JOB_FIELDS: Final = 5
EXTENT, START, STOP, QUERIES_START, QUERIES_STOP = range(JOB_FIELDS)
"""Columns of a job: an extent, positions start:stop in it, and which part of `query_ids` names the queries that want them."""
TERMS: Final = 2
K, TIES = range(TERMS)
"""Terms of candidates: how many are needed of each query, 0 for all below the limit; and 1 if rows do not come in order, so that
one that comes later may precede another at the same distance, else 0."""


# records: what crosses from Python to the kernels --------------------------------------------------------------------
# A record that kernels return holds arrays alone: a number would come back as Python's int, and go in again as a signed one.


class ScanPlan(NamedTuple):
    """Codes, and the queries that each of them is compared with."""

    extents: Words
    """uint64[s, EXTENT_FIELDS]."""
    jobs: Words
    """uint64[j, JOB_FIELDS]."""
    query_ids: Words
    """uint64[], numbers of queries."""
    queries: Words
    """uint64[nq, len(width)], padded with zeros."""
    mask: Words
    """Bit r & 63 of word r >> 6 says whether row r is eligible, with one word to spare; empty: all rows are."""


class Candidates(NamedTuple):
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
    terms: Words
    """uint64[TERMS], what holds for all queries."""


class QueryBatch(NamedTuple):
    """Queries and their bounds."""

    queries: Words
    """As in `ScanPlan`."""
    mask: Words
    """As in `ScanPlan`."""
    k: Word
    """Column K of `Candidates.terms`."""
    limit: Word
    """Answers are nearer than this."""
    farthest: Word
    """Largest distance there can be."""
    capacity: Word
    """Room for candidates of a query, at least k + BLOCK."""


class LevelCodes(NamedTuple):
    """Codes of the same rows at several levels."""

    codes: Words
    """uint64[levels, segments, EXTENT_FIELDS], the codes of each segment."""
    entries: Words
    """uint64[levels, segments], address of uint32[rows], which code is each row's; 0 where codes are in row order."""
    sizes: Words
    """uint64[levels], bytes of a code."""
    words: Words
    """uint64[levels], the first of each level's words in a query."""
    factors: Words
    """uint64[words], what a bit that differs in each word adds."""


class Piece(NamedTuple):
    """Codes that follow one another, padded to whole words."""

    extent: Word
    """Where they come from."""
    start: Word
    """Position of the first."""
    rows: Word
    """How many."""
    seen: Word
    """Codes at the front, fewer than STEP, that are skipped: a piece before this one had them."""
    codes: Word
    """Address of the first; memory can be read to the end of the last step."""
    row: Word
    """Of the first, where rows follow one another, too."""
    mask: Word
    """Address of `ScanPlan.mask` in that case, if not all rows are eligible; else 0."""
    in_lanes: bool
    """See `Lanes`."""
    ahead: bool
    """Ask for what follows: no query has seen these codes yet, so they come from far."""


# instructions: what numba has no word for ----------------------------------------------------------------------------


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile for other compiled functions alone: what Python needs to call it is left out, and it is kept as a part of those."""
    return cast("Callable[P, R]", NJIT(no_cpython_wrapper=True, no_cfunc_wrapper=True)(function))


def entry(function: Callable[P, R]) -> Callable[P, R]:
    """Compile for Python on first call, to run without the interpreter lock, and keep it on disk."""
    dispatcher = NJIT(nogil=True, no_cfunc_wrapper=True)(function)
    dispatcher._cache = KernelCache(function)  # what `cache=True` sets
    return cast("Callable[P, R]", dispatcher)


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


# vectors: 64 codes compared at once, in place or in lanes ------------------------------------------------------------


class Lanes:
    """Instructions for eight words at a time; narrower machines take as many steps as they need.

    Codes lie in rows, as FAISS has them: a register holds 8 words of the codes that follow one another. The words of a code are in
    neighbouring lanes then, which no instruction adds up; but one shuffle brings the even lanes of two registers together, and one
    the odd ones. Or they lie in lanes, eight codes together: word 0 of each, word 1 of each, ... Then there is nothing to shuffle.
    """

    BYTE: Final = ir.IntType(8)
    INDEX: Final = ir.IntType(32)
    WORD: Final = ir.IntType(64)
    WORDS: Final = ir.VectorType(WORD, 8)
    HALVES: Final = ir.VectorType(INDEX, 16)

    def __init__(self, builder: Any, words: int, *, rows: bool) -> None:
        self.builder, self.words, self.rows = builder, words, rows
        kind = ir.FunctionType(self.WORDS, [self.WORDS])
        self.count_ones = builder.module.declare_intrinsic("llvm.ctpop.v8i64", fnty=kind)

    def shuffled(self, one: Any, other: Any, lanes: Sequence[int]) -> Any:
        """Take lanes of two registers; those of the other are numbered from 8."""
        return self.builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(self.INDEX, 8), lanes))

    def repeated(self, values: Sequence[Any]) -> Any:
        """Return a register of 1, 2, 4 or 8 words over and over."""
        none = lanes = ir.Constant(self.WORDS, ir.Undefined)
        for at, value in enumerate(values):
            lanes = self.builder.insert_element(lanes, value, ir.Constant(self.INDEX, at))
        return self.shuffled(lanes, none, [at % len(values) for at in range(8)])

    def query(self, address: Any) -> list[Any]:
        """Return the registers that those of codes are compared with, in turn."""
        values = [_load(self.builder, 64, address, ir.Constant(self.WORD, 8 * at)) for at in range(self.words)]
        together = 8 if self.rows else 1
        return [self.repeated(values[at : at + together]) for at in range(0, self.words, together)]

    def differences(self, address: Any, offset: int, query: Sequence[Any]) -> Any:
        """Return in each lane the bits that differ in as many registers as the query has."""
        base, bits = self.builder.inttoptr(address, self.BYTE.as_pointer()), None
        for number, register in enumerate(query):
            place = self.builder.gep(base, [ir.Constant(self.WORD, offset + 64 * number)])
            words = self.builder.load(self.builder.bitcast(place, self.WORDS.as_pointer()), align=1)
            ones = self.builder.call(self.count_ones, [self.builder.xor(words, register)])
            bits = ones if bits is None else self.builder.add(bits, ones)
        return bits

    def distances(self, address: Any, first: int, query: Sequence[Any]) -> tuple[Any, list[int]]:
        """Return the distances of eight codes from `first` on, and which lane has which code's."""
        parts = [
            self.differences(address, 8 * self.words * first + 64 * number, query)
            for number in range(0, self.words, len(query))
        ]
        owners = [[(8 * number + lane) // len(parts) for lane in range(8)] for number in range(len(parts))]
        unit = 1
        while len(parts) > 1:
            firsts = [side + at + lane for at in range(0, 8, 2 * unit) for side in (0, 8) for lane in range(unit)]
            seconds = [lane + unit for lane in firsts]
            pairs = [(parts[at], parts[at + 1]) for at in range(0, len(parts), 2)]
            parts = [self.builder.add(self.shuffled(*pair, firsts), self.shuffled(*pair, seconds)) for pair in pairs]
            owners = [[(owners[at] + owners[at + 1])[lane] for lane in firsts] for at in range(0, len(owners), 2)]
            unit *= 2
        return parts[0], owners[0]

    def nearer(self, one: Any, other: Any) -> Any:
        """Return the smaller distance of each lane: of 32 bits, which all machines compare, and the upper ones are zeros."""
        one, other = (self.builder.bitcast(each, self.HALVES) for each in (one, other))
        return self.builder.bitcast(
            self.builder.select(self.builder.icmp_unsigned("<", one, other), one, other), self.WORDS
        )

    def below(self, distances: Any, limit: Any) -> Any:
        """Return a word, a bit for each lane: is its distance less than the limit?"""
        below = self.builder.icmp_signed("<", distances, self.repeated([limit]))
        return self.builder.zext(self.builder.bitcast(below, self.BYTE), self.WORD)

    def any_near(self, address: Any, query: Any, limit: Any) -> Any:
        """Return 0 if none of STEP codes is nearer than a limit."""
        registers, nearest = self.query(query), None
        for first in range(0, int(STEP), 8):
            distances, _ = self.distances(address, first, registers)
            nearest = distances if nearest is None else self.nearer(nearest, distances)
        return self.below(nearest, limit)

    def which_near(self, address: Any, query: Any, limit: Any) -> Any:
        """Return a bit for each of STEP codes: is it nearer than a limit?"""
        registers, bits = self.query(query), ir.Constant(self.WORD, 0)
        for first in range(0, int(STEP), 8):
            distances, owners = self.distances(address, first, registers)
            in_order = self.shuffled(distances, distances, [owners.index(code) for code in range(8)])
            bits = self.builder.or_(bits, self.builder.shl(self.below(in_order, limit), ir.Constant(self.WORD, first)))
        return bits


def comparison(ask: Callable[..., Any], *, rows: bool) -> Callable[..., Word]:
    """Make an instruction of what `Lanes` asks STEP codes from an address: are they nearer than a limit to the query at another?"""

    def generate(_: Any, codes: Any, query: Any, limit: Any, width: Any) -> Any:
        return types.uint64(codes, query, limit, width), lambda _, builder, __, args: ask(
            Lanes(builder, len(width), rows=rows), *args[:3]
        )

    return instruction(generate)


any_near_in_rows, any_near_in_lanes = (comparison(Lanes.any_near, rows=rows) for rows in (True, False))
which_near_in_rows, which_near_in_lanes = (comparison(Lanes.which_near, rows=rows) for rows in (True, False))


@instruction
def prefetch(_: Any, address: Any) -> Any:
    """Ask for the memory at an address, which need not be there."""

    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        place, flag = Lanes.BYTE.as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [place, flag, flag, flag])
        function = builder.module.declare_intrinsic("llvm.prefetch.p0", fnty=kind)
        read, keep, data = (ir.Constant(flag, value) for value in (0, 3, 1))
        builder.call(function, [builder.inttoptr(args[0], place), read, keep, data])
        return args[0]

    return types.uint64(address), generate


# codes and rows ------------------------------------------------------------------------------------------------------


@compiled
def address_of(words: Words) -> Word:
    """Return where an array's memory begins; the array has to outlive what is done with that."""
    return Word(words.ctypes.data)


@compiled
def distance(piece: Piece, at: Word, query: Word, width: Width) -> Word:
    """Return the bits that differ between a code of a piece and the query at an address."""
    words, bits = Word(len(width)), ZERO
    for word in up_to(words):
        place = ((at >> THREE) * words + word) << THREE | (at & SEVEN) if piece.in_lanes else at * words + word
        bits += count_ones(load_word(piece.codes, EIGHT * place) ^ load_word(query, EIGHT * word))
    return bits


@compiled
def copy_to_lanes(lanes: Words, extent: Words, start: Word, count: Word, size: Word, width: Width) -> None:
    """Copy codes from `start` on, eight together, padded with the zeros that are there."""
    codes, whole, rest = extent[CODES] + start * size, size // EIGHT, size % EIGHT
    end = (extent[ROWS] - start) * size
    for row in up_to(count):
        to, source = (row >> THREE) * EIGHT * Word(len(width)) + (row & SEVEN), row * size
        for word in up_to(whole):
            lanes[to + EIGHT * word] = load_word(codes, source + EIGHT * word)
        if rest:
            lanes[to + EIGHT * whole] = load_part(codes, source + EIGHT * whole, end, rest)


@compiled
def row_at(extent: Words, position: Word) -> Word:
    """Return the row of the code at a position."""
    return Word(extent[FIRST_ROW] + (load_word(extent[IDS], EIGHT * position) if extent[IDS] else position))


@compiled
def mask_from(mask: Word, row: Word) -> Word:
    """Return a bit for each of 64 rows from `row` on: is it eligible?"""
    shift, low = row & SIXTY_THREE, EIGHT * (row >> SIX)
    return load_word(mask, low) >> shift | (load_word(mask, low + EIGHT) << ONE) << (SIXTY_THREE - shift)


@compiled
def eligible(mask: Words, extent: Words, start: Word, among: Word) -> Word:
    """Return the bits of `among`, one for each of 64 codes from `start`, whose rows are eligible."""
    if not extent[IDS]:
        return among & mask_from(address_of(mask), row_at(extent, start))
    left, bits = among, ZERO
    while left:
        row = row_at(extent, start + trailing_zeros(left))
        there = row >> SIX < Word(len(mask))  # ids are only believed as far as memory goes
        bits |= left & (ZERO - left) if there and (mask[row >> SIX] >> (row & SIXTY_THREE)) & ONE else ZERO
        left &= left - ONE
    return bits


@compiled
def up_to_step(rows: Word) -> Word:
    """Return the next multiple of STEP."""
    return Word((rows + SIXTY_THREE) & ~SIXTY_THREE)


@compiled
def low_bits(count: Word) -> Word:
    """Return as many bits set as there are, but 64 at most and 1 at least."""
    return ALL >> (SIXTY_FOUR - min(SIXTY_FOUR, count))


# flat: every code of a piece against a query -------------------------------------------------------------------------


@compiled
def next_near(piece: Piece, step: Word, query: Word, limit: Word, width: Width) -> Word:
    """Return the first step from `step` on with a code nearer to the query at an address than a limit, or one beyond the piece.

    Steps of which no row is eligible are left out where that is known at once.
    """
    size = EIGHT * Word(len(width))
    while step << SIX < piece.rows:
        at = step << SIX
        if not piece.mask or mask_from(piece.mask, piece.row + at) & low_bits(piece.rows - at):
            codes = piece.codes + at * size
            if piece.in_lanes:
                near = any_near_in_lanes(codes, query, limit, width)
            else:
                if piece.ahead:
                    for line in up_to(size):
                        prefetch(codes + AHEAD + line * SIXTY_FOUR)
                near = any_near_in_rows(codes, query, limit, width)
            if near:
                break
        step += ONE
    return step


@compiled
def keep_near(
    piece: Piece, step: Word, plan: ScanPlan, candidates: Candidates, number: Word, width: Width
) -> Candidates:
    """Keep the codes of a piece that are near enough to a query; `step` is what `next_near` found first."""
    extent, size = plan.extents[piece.extent], EIGHT * Word(len(width))
    query = address_of(plan.queries) + number * size
    while step << SIX < piece.rows:
        if candidates.sizes[number] + STEP > Word(candidates.keys.shape[1]):
            candidates = make_room(candidates, number)
        first = step << SIX
        if piece.in_lanes:
            near = which_near_in_lanes(piece.codes + first * size, query, candidates.limits[number], width)
        else:
            near = which_near_in_rows(piece.codes + first * size, query, candidates.limits[number], width)
        near &= low_bits(piece.rows - first) & (ALL if first else ALL << piece.seen)
        if len(plan.mask):
            near = eligible(plan.mask, extent, piece.start + first, near)
        while near:
            at = first + trailing_zeros(near)
            keep(candidates, number, distance(piece, at, query, width), row_at(extent, piece.start + at))
            near &= near - ONE
        step = next_near(piece, step + ONE, query, candidates.limits[number], width)
    return candidates


# candidates: what is kept, how near the next has to be, what is dropped ----------------------------------------------


@compiled
def tighten(candidates: Candidates, query: Word, bits: Word) -> None:
    """Count a candidate, and lower the limit as long as k candidates remain."""
    k, ties = candidates.terms[K], candidates.terms[TIES]
    tally, last = candidates.tallies[query], candidates.limits[query] - ties
    tally[bits] += ONE
    candidates.within[query] += ONE
    while candidates.within[query] - tally[last] >= k:
        candidates.within[query] -= tally[last]
        last -= ONE
    candidates.limits[query] = last + ties


@compiled
def keep(candidates: Candidates, query: Word, bits: Word, row: Word) -> None:
    """Keep a candidate if it is nearer than the query's limit."""
    if bits < candidates.limits[query]:
        candidates.keys[query, candidates.sizes[query]] = bits << ROW_BITS | row
        candidates.sizes[query] += ONE
        if candidates.terms[K]:
            tighten(candidates, query, bits)


@compiled
def drop(candidates: Candidates, query: Word) -> None:
    """Drop the candidates of a query that k others precede by their distance alone."""
    farthest, size = candidates.limits[query] - candidates.terms[TIES], ZERO
    for at in up_to(candidates.sizes[query]):
        key = candidates.keys[query, at]
        candidates.keys[query, size] = key
        size += ONE if key >> ROW_BITS <= farthest else ZERO
    candidates.sizes[query] = size


@compiled
def make_room(candidates: Candidates, query: Word) -> Candidates:
    """Make room for a block: drop candidates of a query, all but the k best if need be, or double the room of all queries."""
    if candidates.terms[K]:
        drop(candidates, query)
        if candidates.sizes[query] + BLOCK > Word(candidates.keys.shape[1]):
            candidates.keys[query, : candidates.sizes[query]].sort()
            candidates.sizes[query] = candidates.terms[K]
        return candidates
    keys = np.empty((candidates.keys.shape[0], 2 * candidates.keys.shape[1]), Word)
    for each in up_to(Word(len(candidates.sizes))):  # what no candidate has filled is not touched, and takes no memory
        for at in up_to(
            candidates.sizes[each]
        ):  # an assignment of slices would compile numba's message for another length, 2 s
            keys[each, at] = candidates.keys[each, at]
    return Candidates(
        keys, candidates.sizes, candidates.limits, candidates.tallies, candidates.within, candidates.terms
    )


# scan: the jobs of a plan --------------------------------------------------------------------------------------------


@compiled
def prefetch_job(extents: Words, job: Words, size: Word) -> None:
    """Ask for the memory that a job begins with."""
    first = extents[job[EXTENT], CODES] + job[START] * size
    for line in range(ZERO, min(AHEAD, (job[STOP] - job[START]) * size), SIXTY_FOUR):
        prefetch(first + line)


@entry
def scan(plan: ScanPlan, candidates: Candidates, size: Word, width: Width) -> Candidates:
    """Compare the codes of each job with the queries that want them, and keep candidates.

    Args:
        plan: the jobs.
        candidates: those of earlier jobs; capacity is at least k + BLOCK. Changed: once k candidates of a query are known,
            its limit is the distance of the k-th, plus `ties`.
        size: bytes of a code, at most 8 * len(width).
        width: as many elements as a padded code has words, a power of two.

    Returns:
        `candidates`, with more room if it needed more.
    """
    most = max(STEP, TILE // Word(len(width)))
    lanes = np.zeros(most * Word(len(width)), Word)
    for number in up_to(Word(len(plan.jobs))):
        job = plan.jobs[number]
        extent, query_ids, start = (
            plan.extents[job[EXTENT]],
            plan.query_ids[job[QUERIES_START] : job[QUERIES_STOP]],
            job[START],
        )
        if number + ONE < Word(len(plan.jobs)):
            prefetch_job(plan.extents, plan.jobs[number + ONE], size)
        in_place = size == EIGHT * Word(len(width)) and (len(width) == 1 or len(query_ids) < WORTH_COPYING)
        mask = ZERO if extent[IDS] or not len(plan.mask) else address_of(plan.mask)
        while start < job[STOP]:
            rows, seen = min(most, job[STOP] - start), ZERO
            if in_place and start + up_to_step(rows) > extent[ROWS]:  # nothing is read beyond the last code
                if rows > STEP:
                    rows &= ~SIXTY_THREE
                elif extent[ROWS] >= STEP:
                    seen = start + STEP - extent[ROWS]
                    start, rows = start - seen, rows + seen
            if in_lanes := not in_place or start + up_to_step(rows) > extent[ROWS]:
                copy_to_lanes(lanes, extent, start, rows, size, width)
            codes = address_of(lanes) if in_lanes else extent[CODES] + start * size
            row = extent[FIRST_ROW] + start
            for query in query_ids:
                piece = Piece(job[EXTENT], start, rows, seen, codes, row, mask, in_lanes, query == query_ids[ZERO])
                words = address_of(plan.queries) + query * EIGHT * Word(len(width))
                step = next_near(piece, ZERO, words, candidates.limits[query], width)
                if step << SIX < rows:
                    candidates = keep_near(piece, step, plan, candidates, query, width)
            start += rows
    return candidates


# weighted: several levels of the same rows ---------------------------------------------------------------------------


@compiled
def sum_up(planes: Words, rows: Word, query: Words, factors: Words, distances: Words) -> Word:
    """Write down a sum of a block's bits that differ, each word's times its factor, and return the smallest."""
    distances[:] = ZERO
    for word in up_to(Word(len(factors))):
        plane, of_query, factor = planes[word * BLOCK : (word + ONE) * BLOCK], query[word], factors[word]
        for at in up_to(BLOCK):
            distances[at] += factor * count_ones(plane[at] ^ of_query)
    best = ALL
    for at in up_to(rows):
        best = min(best, distances[at])
    return best


@compiled
def copy_planes(planes: Words, extent: Words, start: Word, rows: Word, size: Word) -> None:
    """Copy codes into planes of BLOCK, one for each word; they are zeros where a code has no bytes."""
    codes, whole, rest = extent[CODES] + start * size, size // EIGHT, size % EIGHT
    for word in up_to(whole):
        for row in up_to(rows):
            planes[word * BLOCK + row] = load_word(codes, row * size + EIGHT * word)
    if rest:
        end = (extent[ROWS] - start) * size
        for row in up_to(rows):
            planes[whole * BLOCK + row] = load_part(codes, row * size + EIGHT * whole, end, rest)


@compiled
def copy_levels(planes: Words, levels: LevelCodes, segment: Word, start: Word, rows: Word) -> None:
    """Copy the codes of rows start:start + rows of a segment, the words of one level after those of another."""
    for level in up_to(Word(len(levels.sizes))):
        of_level, source = planes[levels.words[level] * BLOCK :], levels.codes[level, segment]
        entries, size = levels.entries[level, segment], levels.sizes[level]
        if entries:
            for at in up_to(rows):
                copy_planes(of_level[at:], source, load_half(entries, (start + at) << TWO), ONE, size)
        else:
            copy_planes(of_level, source, start, rows, size)


@compiled
def any_eligible(mask: Words, extent: Words, start: Word, rows: Word) -> bool:
    """Return whether any of the rows start:start + rows is eligible."""
    for first in range(start, start + rows, SIXTY_FOUR):
        if eligible(mask, extent, Word(first), low_bits(start + rows - Word(first))):
            return True
    return False


@compiled
def exclude(distances: Words, mask: Words, first_row: Word, rows: Word) -> None:
    """Put rows that are not eligible out of reach."""
    for at in up_to(rows):
        row = first_row + at
        if not (mask[row >> SIX] >> (row & SIXTY_THREE)) & ONE:
            distances[at] = ALL


@entry
def scan_weighted(plan: ScanPlan, candidates: Candidates, levels: LevelCodes) -> Candidates:
    """Compare each row of each job at several levels with the queries that want it, and keep candidates.

    Args:
        plan: the jobs; extents are of rows, without codes, in row order.
        candidates: as in `scan`, with sums in the place of distances.
        levels: where the codes of each row are.
    """
    planes, sums = np.zeros(Word(len(levels.factors)) * BLOCK, Word), np.empty(BLOCK, Word)
    for job in plan.jobs:
        extent, query_ids, start = (
            plan.extents[job[EXTENT]],
            plan.query_ids[job[QUERIES_START] : job[QUERIES_STOP]],
            job[START],
        )
        while start < job[STOP]:
            rows = min(BLOCK, job[STOP] - start)
            if len(plan.mask) and not any_eligible(plan.mask, extent, start, rows):
                start += rows
                continue
            copy_levels(planes, levels, job[EXTENT], start, rows)
            for query in query_ids:
                if sum_up(planes, rows, plan.queries[query], levels.factors, sums) >= candidates.limits[query]:
                    continue
                if len(plan.mask):
                    exclude(sums, plan.mask, row_at(extent, start), rows)
                if candidates.sizes[query] + rows > Word(candidates.keys.shape[1]):
                    candidates = make_room(candidates, query)
                for at in up_to(rows):
                    if sums[at] < candidates.limits[query]:
                        keep(candidates, query, sums[at], row_at(extent, start + at))
            start += rows
    return candidates


# answers and jobs ----------------------------------------------------------------------------------------------------


@entry
def smallest(candidates: Candidates, k: Word) -> Words:
    """Return uint64[nq, k]: the smallest candidates of each query in order, ALL where there are fewer."""
    best = np.full((len(candidates.sizes), k), ALL)
    for query in up_to(Word(len(candidates.sizes))):
        if candidates.terms[K]:
            drop(candidates, query)
        size = candidates.sizes[query]
        candidates.keys[query, :size].sort()
        for at in up_to(min(size, k)):
            best[query, at] = candidates.keys[query, at]
    return best


@entry
def unpack_keys(keys: Words) -> TopK:
    """Return what uint64[nq, k] candidates say: ALL is none."""
    rows, distances = np.empty(keys.shape, np.int64), np.empty(keys.shape, np.int32)
    sizes = np.zeros(len(keys), np.int64)
    for query in up_to(Word(keys.shape[0])):
        for at in up_to(Word(keys.shape[1])):
            key = keys[query, at]
            rows[query, at], distances[query, at] = key & (ALL >> (SIXTY_FOUR - ROW_BITS)), key >> ROW_BITS
            sizes[query] += key != ALL
    return rows, distances, sizes


@compiled
def counting_sort(pairs: Words, extents: Word) -> Words:
    """Return pairs of an extent and a query by extent; queries stay in the order they have."""
    ends, ordered = np.zeros(extents + ONE, Word), np.empty(len(pairs), Word)
    for pair in pairs:
        ends[(pair >> THIRTY_TWO) + ONE] += ONE
    for number in up_to(extents):
        ends[number + ONE] += ends[number]
    for pair in pairs:
        ordered[ends[pair >> THIRTY_TWO]] = pair
        ends[pair >> THIRTY_TWO] += ONE
    return ordered


@entry
def group_by_extent(extents: Words, probed: Words, first: Word, last: Word) -> tuple[Words, Words]:
    """Bring together the queries that want the same extent: jobs and `query_ids` of columns first:last of `probed`.

    Args:
        extents: as in `ScanPlan`.
        probed: uint64[nq, extents a query wants].
        first: column.
        last: column after the last.
    """
    pairs, count = np.empty(Word(len(probed)) * (last - first), Word), ZERO
    for query in up_to(Word(len(probed))):
        for at in up_to(last - first):
            pairs[count] = probed[query, first + at] << THIRTY_TWO | query
            count += ONE
    if len(probed) > 1:
        pairs = counting_sort(pairs, Word(len(extents)))
    jobs, query_ids, count = np.empty((len(pairs), JOB_FIELDS), Word), np.empty(len(pairs), Word), ZERO
    for at in up_to(Word(len(pairs))):
        number, query_ids[at] = pairs[at] >> THIRTY_TWO, pairs[at] & (ALL >> THIRTY_TWO)
        if not at or number != pairs[at - ONE] >> THIRTY_TWO:
            job = jobs[count]
            job[EXTENT], job[START], job[STOP], job[QUERIES_START] = number, ZERO, extents[number, ROWS], at
            count += ONE
        jobs[count - ONE, QUERIES_STOP] = at + ONE
    return jobs[:count], query_ids


@entry
def no_candidates(batch: QueryBatch, ties: Word) -> Candidates:
    """Return room for candidates, none so far."""
    queries, terms = Word(len(batch.queries)), np.empty(TERMS, Word)
    terms[K], terms[TIES] = batch.k, ties
    return Candidates(
        np.empty((queries, batch.capacity), Word),
        np.zeros(queries, Word),
        np.full(queries, batch.limit),
        np.zeros((queries, batch.farthest + TWO), Word),
        np.zeros(queries, Word),
        terms,
    )


# entry points that need no second thread -----------------------------------------------------------------------------


@compiled
def scan_all(extents: Words, batch: QueryBatch, size: Word, width: Width) -> Candidates:
    """Keep candidates among all codes, in one thread; extents are in row order."""
    jobs, query_ids = np.zeros((len(extents), JOB_FIELDS), Word), np.arange(len(batch.queries)).astype(Word)
    for number in up_to(Word(len(extents))):
        job = jobs[number]
        job[EXTENT], job[STOP], job[QUERIES_STOP] = number, extents[number, ROWS], len(query_ids)
    return scan(ScanPlan(extents, jobs, query_ids, batch.queries, batch.mask), no_candidates(batch, ZERO), size, width)


@entry
def top_k(extents: Words, batch: QueryBatch, size: Word, width: Width) -> TopK:
    """Return the k nearest of all codes, in one thread; extents are in row order."""
    return unpack_keys(smallest(scan_all(extents, batch, size, width), batch.k))


@compiled
def select_smallest(candidates: Candidates, query: Word, first: Word, chosen: Words) -> None:
    """Write the rows of the k smallest candidates, more by `first` each, into uint64[k]: the smallest first, others in any order.

    Nothing is sorted: candidates at the same distance have come in row order.
    """
    drop(candidates, query)
    limit, keys, count, nearest = (
        candidates.limits[query],
        candidates.keys[query, : candidates.sizes[query]],
        ZERO,
        ZERO,
    )
    for key in keys:
        count += ONE if key >> ROW_BITS < limit else ZERO
    ties, count = candidates.terms[K] - count, ZERO
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


@entry
def nearest_lists(centroids: Words, nprobes: Words, queries: Words, farthest: Word, size: Word, width: Width) -> Words:
    """Return uint64[nq, sum of nprobes], the lists of each segment with the smallest (distance, number), the nearest first.

    Args:
        centroids: uint64[s, EXTENT_FIELDS], those of each segment; lists are numbered over all segments. Where one has the memory
            of the segment before, that one's lists are its lists, too.
        nprobes: uint64[s], lists wanted of each segment, as many as it has or fewer.
        queries: as in `ScanPlan`.
        farthest: as in `QueryBatch`.
        size: bytes of a code.
        width: as in `scan`.
    """
    column, before = ZERO, ZERO
    for nprobe in nprobes:  # numba's own sum takes a second to compile
        column += nprobe
    probed = np.empty((Word(len(queries)), column), Word)
    column = ZERO
    for segment in up_to(Word(len(centroids))):
        nprobe, same = nprobes[segment], False
        if segment:
            earlier = segment - ONE
            same = centroids[segment, CODES] == centroids[earlier, CODES] and nprobe == nprobes[earlier]
        if same:
            for query in up_to(Word(len(queries))):
                for at in up_to(nprobe):
                    probed[query, column + at] = probed[query, column + at - nprobe] + centroids[segment, ROWS]
            column += nprobe
            before += centroids[segment, ROWS]
            continue
        batch = QueryBatch(queries, np.empty(0, Word), nprobe, farthest + ONE, farthest, TWO * nprobe + TWO * BLOCK)
        candidates = scan_all(centroids[segment : segment + ONE], batch, size, width)
        for query in up_to(Word(len(queries))):
            select_smallest(candidates, query, before, probed[query, column : column + nprobe])
        column += nprobe
        before += centroids[segment, ROWS]
    return probed


@compiled
def top_k_of_lists(members: Words, probed: Words, batch: QueryBatch, size: Word, width: Width) -> TopK:
    """Return the k nearest of the lists that each query probes, in one thread.

    The first list of each query comes before all others: what is found there spares most candidates of the rest.
    """
    candidates, lists = no_candidates(batch, ONE), Word(probed.shape[1])
    for first, last in ((ZERO, ONE), (ONE, lists)):
        jobs, query_ids = group_by_extent(members, probed, first, last)
        candidates = scan(ScanPlan(members, jobs, query_ids, batch.queries, batch.mask), candidates, size, width)
    return unpack_keys(smallest(candidates, batch.k))


@entry
def top_k_of_nearest_lists(
    centroids: Words, members: Words, nprobes: Words, batch: QueryBatch, size: Word, width: Width
) -> TopK:
    """Return the k nearest of the lists nearest to each query, in one thread."""
    probed = nearest_lists(centroids, nprobes, batch.queries, batch.farthest, size, width)
    return top_k_of_lists(members, probed, batch, size, width)

"""The options of a query by name, as a program and the command line give them, and what they come to."""

from collections.abc import Collection, Iterable, Sequence
from typing import TypedDict, cast

from encoder.enum_names import named
from encoder.errors import HashgrainError, Reason
from encoder.levels import Level, level_list, parse_level
from indexer.settings import Combine, CombineSettings, Engine, LevelSettings, SearchSettings, whole

K = 10
"""Hits of a query that says neither k nor radius."""


class QueryOptions(TypedDict, total=False):
    """Options of `Index.query`; all may be left out, and None is as if left out but for `k`."""

    level: Level | str | None
    """Which code is compared; default: fused, or the only level there is."""
    k: int | None
    """Most hits; default: 10, or with a radius all within it. None: no limit, which takes a radius."""
    radius: int | None
    """Largest Hamming distance in bits, inclusive."""
    max_false: float | None
    """Nothing farther than the calibrated cut-off of so many unrelated images per query (0.01); one level, or a cascade."""
    where: str | None
    """Filter that rows must pass, see docs/FILTERS.md."""
    levels: Sequence[Level | str] | None
    """Several levels instead of one, in the order of a cascade."""
    combine: Combine | str | None
    """How several levels become one order: cascade (default), sum or rrf."""
    weights: Sequence[int] | None
    """Of each of `levels`, for sum and rrf; default: 1 each."""
    budgets: Sequence[int] | None
    """Rows that each level of a cascade but the last leaves over."""
    radii: Sequence[int] | None
    """Largest distance at each level of a cascade, in bits: then every row within all of them is found."""
    rerank: int | None
    """Order the nearest so many by how sure the query is of each bit; images only, one level."""
    explain: bool
    """With one level: report the distance at every level, not only at that one."""
    exclude_self: bool
    """A query by key leaves its own row out."""
    nprobe: int | None
    """Inverted lists to probe."""
    recall: float | None
    """Share of the nearest that is to be found, 0..1, as `indexer tune` measured it."""
    exact: bool
    """Compare every code, also where there are inverted lists."""
    engine: Engine | str | None
    """Who compares: auto (default), scan, faiss or gpu."""


def plan(options: QueryOptions, has: Collection[Level]) -> LevelSettings | CombineSettings:
    """Return what options come to on an index that has certain levels.

    Raises:
        TypeError: an option that does not exist.
        HashgrainError: `bad-value`, `level-unknown`.
    """
    if unknown := options.keys() - QueryOptions.__annotations__:
        raise TypeError(f"query() got an unexpected keyword argument {min(unknown)!r}")
    radius = options.get("radius")
    search = SearchSettings(
        k=options.get("k", K if radius is None else None),
        radius=radius,
        where=options.get("where"),
        nprobe=options.get("nprobe"),
        recall=options.get("recall"),
        exact=options.get("exact", False),
        engine=Engine.AUTO if (engine := options.get("engine")) is None else named(Engine, engine, "engine"),
    )
    exclude_self, max_false = options.get("exclude_self", False), options.get("max_false")
    if (several := options.get("levels")) is not None:
        levels = level_list(several)
        _refuse(options, ("level", "rerank"), f"left out: {', '.join(levels)} are combined")
        how = named(Combine, options.get("combine") or Combine.CASCADE, "combine")
        return CombineSettings(
            how,
            tuple(levels),
            search,
            weights=_numbers(options, "weights"),
            budgets=_numbers(options, "budgets"),
            radii=_numbers(options, "radii"),
            exclude_self=exclude_self,
            max_false=max_false,
        )
    _refuse(options, ("combine", "weights", "budgets", "radii"), "left out, or levels that are to be combined")
    chosen = chosen_level(options.get("level"), has)
    return LevelSettings(chosen, search, options.get("rerank"), options.get("explain", False), exclude_self, max_false)


def chosen_level(level: Level | str | None, has: Collection[Level]) -> Level:
    """Return the level that was named, else fused, or the only one there is."""
    only = next(iter(has)) if len(has) == 1 else Level.FUSED
    return only if level is None else parse_level(level)


def _numbers(options: QueryOptions, name: str) -> tuple[int, ...]:
    values = options.get(name)
    return () if values is None else tuple(whole(name, value, 0) for value in cast("Iterable[int]", values))


def _refuse(options: QueryOptions, names: Sequence[str], expected: str) -> None:
    for name in names:
        if (value := options.get(name)) is not None:
            raise HashgrainError(Reason.BAD_VALUE, f"{name}: {value}; expected {expected}")

"""What the search lanes run: queries that agree in how to search to answers in bytes, as one batch."""

import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from operator import attrgetter
from typing import Any, Final, TypeAlias

import numpy as np

from encoder.bits import Codes
from encoder.errors import HashgrainError, Reason
from encoder.images.labels.values import as_json
from encoder.levels import Level
from indexer.answer import Found
from indexer.index import Index
from indexer.options import K, QueryOptions
from indexer.query import KEY_PREFIX, ByCode, ByExamples, ByKey, name_of
from indexer.service.encoding import PictureCodes
from indexer.service.hits import Places, hits_of
from indexer.service.metrics import Metrics
from indexer.service.parse import answers_of
from indexer.service.settings import ServeSettings
from indexer.settings import Engine
from indexer.wire import SearchRequest, as_text

QUICK_HITS: Final = 1000
"""Hits of a query up to which it is done with others of its kind in the quick lane."""
MOST_TOGETHER: Final = 32_000
"""Hits of queries of one request that are looked up together."""
EACH: Final = "each"
OPTIONS: Final = (
    "level",
    "levels",
    "combine",
    "weights",
    "budgets",
    "radii",
    "rerank",
    "k",
    "offset",
    "radius",
    "max_false",
    "where",
    "explain",
    "exclude_self",
    "nprobe",
    "recall",
    "exact",
    "histogram",
)
"""Fields that say how to search: queries that agree in them are searched as one batch."""
_HOW: Final = attrgetter(*OPTIONS)

Start: TypeAlias = ByKey | ByCode | ByExamples


@dataclass(slots=True, eq=False)
class Task:
    """One query, as a search lane gets it."""

    index: Index
    request: SearchRequest
    query: Start
    began: float
    """`time.perf_counter` when the request came."""
    ms: dict[str, float] = field(default_factory=dict)
    """Time by stage, so far."""
    row: int = -1
    """Of a query by key, once it has been looked up."""
    since: float = field(default_factory=time.perf_counter)
    """When it was ready to be searched."""


def query_of(asked: SearchRequest, picture: PictureCodes | None) -> Start:
    """Return what is looked for.

    Args:
        asked: the request.
        picture: what became of its picture, or of the region of a row's; None: it has neither.

    Raises:
        HashgrainError: `bad-value` for codes that are not hexadecimal.
    """
    start: ByKey | ByCode | None = None
    if picture is not None:
        name = "picture" if asked.key is None else f"{KEY_PREFIX}{asked.key}"
        start = ByCode(picture.codes, name, picture.logits)
    elif asked.key is not None:
        start = ByKey(asked.key)
    elif asked.codes is not None:
        start = ByCode({level: _code(level, text) for level, text in asked.codes.items()})
    if asked.positive or asked.negative:
        return ByExamples(asked.positive, asked.negative, start)
    if start is None:
        raise HashgrainError(Reason.BAD_VALUE, "nothing is looked for; expected a key, codes, positive, or a picture")
    return start


def group_of(index: Index, asked: SearchRequest) -> Hashable:
    """Return what queries have in common that may be searched together."""
    return (id(index), *_HOW(asked))


def _code(level: Level, text: str) -> Codes:
    try:
        return np.frombuffer(bytes.fromhex(text), np.uint8)
    except ValueError:
        raise HashgrainError(
            Reason.BAD_VALUE, f"codes.{level}: {text[:40]!r}; expected hexadecimal digits, two per byte"
        ) from None


def is_heavy(asked: SearchRequest) -> bool:
    """Tell a query that may take long by what it asks, so that it holds up no quick one."""
    hits = K if asked.k is None and asked.radius is None else asked.k
    return bool(
        hits is None
        or hits + asked.offset > QUICK_HITS
        or (asked.rerank or 0) > QUICK_HITS
        or (asked.levels and asked.combine != EACH)
        or asked.positive
        or asked.negative
        or asked.histogram
        or _own(asked) is not None
    )


def _own(asked: SearchRequest) -> str | None:
    """Return the key of the row that a region is of, which is left out of its own hits."""
    return asked.key if asked.region is not None and asked.exclude_self else None


def options_of(asked: SearchRequest, level: Level | None, settings: ServeSettings) -> QueryOptions:
    """Return the options of `Index.query` for a request, at one level or at several that are combined."""
    k = asked.k if asked.k is not None else K if asked.radius is None else most_within(asked, settings)
    options: QueryOptions = {
        "k": k + asked.offset + (_own(asked) is not None),
        "radius": asked.radius,
        "where": asked.where,
        "explain": asked.explain,
        "exclude_self": asked.exclude_self,
        "nprobe": asked.nprobe,
        "recall": asked.recall,
        "max_false": asked.max_false,
        "exact": asked.exact,
        "engine": Engine.SCAN,
    }
    if asked.levels and asked.combine != EACH:
        options |= {"levels": asked.levels, "combine": asked.combine}
        options |= {"weights": asked.weights, "budgets": asked.budgets, "radii": asked.radii}
    else:
        options |= {"level": level or asked.level, "rerank": asked.rerank}
    return options


def most_within(asked: SearchRequest, settings: ServeSettings) -> int:
    """Return how many hits an answer has at most that is asked for by a radius alone."""
    return max(1, settings.most_hits // answers_of(asked) - asked.offset)


class Searcher:
    """What the search lanes run.

    Args:
        settings: of the service.
        metrics: who keeps count.
    """

    def __init__(self, settings: ServeSettings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics

    def run(self, tasks: Sequence[Task]) -> list[bytes | Exception]:
        """Answer queries that agree in index and options as one batch; one that cannot be answered fails by itself."""
        outcomes: list[bytes | Exception | None] = [None] * len(tasks)
        known = list[int]()
        for at, task in enumerate(tasks):
            try:
                _check(task)
                known.append(at)
            except HashgrainError as err:
                outcomes[at] = err
        if known:
            for at, outcome in zip(known, self._together([tasks[at] for at in known]), strict=True):
                outcomes[at] = outcome
        return [outcome for outcome in outcomes if outcome is not None]

    def run_batches(self, batches: Sequence[Sequence[Task]]) -> list[bytes | Exception]:
        """Answer queries that came in one request; one that cannot be answered fails all of them."""
        answers = list[bytes | Exception]()
        for tasks in batches:
            outcomes = self._few(tasks)
            failed = next((one for one in outcomes if isinstance(one, Exception)), None)
            bodies = [one for one in outcomes if isinstance(one, bytes)]
            answers.append(failed or b'{"responses":[' + b",".join(bodies) + b"]}")
        return answers

    def _few(self, tasks: Sequence[Task]) -> list[bytes | Exception]:
        """Answer queries of one request, so many at a time that their hits are not many; stop where they come to too much."""
        asked = tasks[0].request
        hits = answers_of(asked) * ((options_of(asked, None, self._settings)["k"] or 1) + 1)
        together = max(1, MOST_TOGETHER // hits)
        outcomes, size = list[bytes | Exception](), 0
        for start in range(0, len(tasks), together):
            outcomes += (these := self.run(tasks[start : start + together]))
            size += sum(len(one) for one in these if isinstance(one, bytes))
            if size > self._settings.most_answer:
                return [_too_much(len(tasks), self._settings.most_answer)]
        return outcomes

    def _together(self, tasks: Sequence[Task]) -> list[bytes | Exception]:
        try:
            return list(self._answered(tasks))
        except HashgrainError as err:
            return [err] if len(tasks) == 1 else [outcome for task in tasks for outcome in self._together([task])]

    def _answered(self, tasks: Sequence[Task]) -> list[bytes]:
        index, asked = tasks[0].index, tasks[0].request
        began = time.perf_counter()
        queries: list[Any] = [task.query for task in tasks]
        each = (asked.levels or tuple(index.manifest.bits)) if asked.combine == EACH else (None,)
        with index.snapshot.missed() as missing:
            answers = [index.rows_batch(queries, **options_of(asked, level, self._settings)) for level in each]
            found = time.perf_counter()
            of_levels = [self._answers(tasks, of_level) for of_level in answers]
            names = _queries(index, tasks)
        live = index.manifest.live
        partial = {"partial": True, "missing": sorted(missing)} if missing else {}
        bodies = []
        for task, query, *of_task in zip(tasks, names, *of_levels, strict=True):
            task.ms["search"] = 1e3 * (found - began)
            task.ms["wait"] = 1e3 * (began - task.since)
            now = time.perf_counter()
            ms = task.ms | {"hits": 1e3 * (now - found), "total": 1e3 * (now - task.began)}
            body = {
                "generation": index.generation,
                "rows": live,
                "query": query,
                "ms": {name: round(value, 3) for name, value in ms.items()},
                "batch": len(tasks),
            } | partial
            bodies.append(_with("answers", f"[{','.join(of_task)}]", body).encode("ascii"))
        last = str(_last_level(index, asked)) if each == (None,) else EACH
        self._metrics.stage("wait", last, *(task.ms["wait"] / 1e3 for task in tasks))
        self._metrics.stage("search", last, found - began)
        self._metrics.stage("hits", last, time.perf_counter() - found)
        return bodies

    def _answers(self, tasks: Sequence[Task], found: Sequence[Found]) -> list[str]:
        """Return the answers at one level, or at several that were combined, as they go out."""
        places = [self._places(task, one) for task, one in zip(tasks, found, strict=True)]
        hits = hits_of(tasks[0].index.snapshot, found, places, tasks[0].request.offset)
        return [
            _with("hits", of_task, _answer(task, one)) for task, one, of_task in zip(tasks, found, hits, strict=True)
        ]

    def _places(self, task: Task, found: Found) -> Places:
        """Return which of the rows that were found go out."""
        asked, rows = task.request, found.ranked.rows
        places = np.arange(len(rows))
        if (own := _own(asked)) is not None:
            most = options_of(asked, found.level, self._settings)["k"]
            places = places[rows != task.index.find(own)][: (most or 1) - 1]
        return places[asked.offset :]


def _answer(task: Task, found: Found) -> dict[str, Any]:
    """Return what an answer has beside its hits."""
    asked = task.request
    body: dict[str, Any] = {"level": found.level, "searched": found.searched, "eligible": found.eligible}
    if found.ranked.survivors:
        body["survivors"] = found.ranked.survivors
    if found.cutoff is not None:
        within = found.nearest is not None and found.nearest <= found.cutoff.radius
        body |= {"cutoff": asdict(found.cutoff), "nothing_similar": not len(found.ranked.rows) and not within}
        body |= {} if found.nearest is None else {"nearest": found.nearest}
    if asked.histogram and (code := _code_of(task, found.level)) is not None:
        body["histogram"] = task.index.snapshot.histogram(found.level, code, asked.where).tolist()
    return body


def _with(name: str, text: str, body: dict[str, Any]) -> str:
    """Return an object in JSON that has one more field, which is JSON already."""
    return f'{{"{name}":{text},{as_text(body)[1:]}'


def _too_much(queries: int, most: int) -> HashgrainError:
    return HashgrainError(
        Reason.BAD_VALUE,
        f"{queries} queries have answers of over {most:,} bytes together; ask for fewer hits, or less at a time",
    )


def _code_of(task: Task, level: Level) -> Codes | None:
    """Return the code of a query at a level; None: it has none of its own."""
    query = task.query.start if isinstance(task.query, ByExamples) else task.query
    if isinstance(query, ByKey):
        of_row: Codes = task.index.codes(level, np.array([task.index.find(query.key)]))[0]
        return of_row
    by_level: dict[Level, Codes] = (
        dict(query.code) if isinstance(query, ByCode) and isinstance(query.code, Mapping) else {}
    )
    return by_level.get(level)


def _check(task: Task) -> None:
    """Raise what is wrong with one query alone, so that it does not fail the others of its batch."""
    match task.query:
        case ByKey(key):
            task.row = task.index.find(key)
        case ByCode(code) if isinstance(code, Mapping):
            bits = task.index.manifest.bits
            for level, values in code.items():
                if level in bits and len(values) != bits[level] // 8:
                    raise HashgrainError(
                        Reason.BAD_VALUE,
                        f"codes.{level}: {8 * len(values)} bits; expected {bits[level]}, {bits[level] // 4} digits",
                    )


def _queries(index: Index, tasks: Sequence[Task]) -> list[dict[str, Any]]:
    """Return what an answer says of its query: its name, its codes at every level, and labels where it is a row."""
    rows = {at: task.row for at, task in enumerate(tasks) if task.row >= 0}
    numbers = np.fromiter(rows.values(), np.int64, len(rows))
    codes = {level: index.codes(level, numbers) for level in index.manifest.bits} if rows else {}
    of_rows = {at: number for number, at in enumerate(rows)}
    said = []
    for at, task in enumerate(tasks):
        one: dict[str, Any] = {"name": name_of(task.query)}
        if at in rows:
            one["codes"] = {level: values[of_rows[at]].tobytes().hex() for level, values in codes.items()}
            one["labels"] = as_json(index.labels(rows[at]))
        else:
            start = task.query.start if isinstance(task.query, ByExamples) else task.query
            given = start.code if isinstance(start, ByCode) and isinstance(start.code, Mapping) else {}
            one["codes"] = {level: code.tobytes().hex() for level, code in given.items()}
        said.append(one)
    return said


def _last_level(index: Index, asked: SearchRequest) -> Level:
    """Return the level whose distances an answer has."""
    if asked.levels:
        return asked.levels[-1]
    has = tuple(index.manifest.bits)
    return asked.level or (has[0] if len(has) == 1 else Level.FUSED)

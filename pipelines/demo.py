"""The main job from end to end, on pictures it draws itself or on the user's own: `make demo`.

draw and train on a part (or take SHARDS) -> encode -> build flat and IVF -> search at every level -> score each level at
every level's question -> a page of queries and hits.
"""

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from encoder.codes.file import SUFFIX, open_codes
from encoder.errors import HashgrainError, Reason
from encoder.hashing.fit_model import FitSettings, fit
from encoder.images.classes import class_indices
from encoder.images.expand import expand
from encoder.images.labels.values import Labels
from encoder.levels import Level, parse_bits
from encoder.model.builtin import BUILTIN
from encoder.model.spec import BackboneSpec
from encoder.runtime.console import progress, result, run
from encoder.runtime.publish import make_folder
from encoder.stream.job import encode
from encoder.stream.report import EncodeReport
from encoder.stream.settings import EncodeSettings
from encoder.training.job import CHECKPOINT, train
from indexer.build import build
from indexer.index import Index
from indexer.matches import Matches
from indexer.page.page import Result, save_page
from indexer.query import parse_query
from indexer.settings import BuildSettings, IndexKind, SearchSettings
from pipelines.drawn.collection import draw_shards
from pipelines.drawn.lesson import LABELS, lesson
from pipelines.evaluation.protocols import Split
from pipelines.evaluation.scoring import GRADED, counted, score

K = 10
SCORED = 500
"""Queries that the scores are taken over, at most."""
SHOWN = 8
"""Queries on the page."""
SHOWN_HITS = 8
"""Hits of each, a row of them."""
REPEATS = 5
"""Times that each search is timed; what counts is the median."""
RANKED = 5_000
"""Rows that scores are taken over, at most."""
GRADE = "mAHP@250"
"""The measure of the fused level's question: of its 250 ranks a class of the drawn pictures fills a half, its kind the rest."""
CHANCE = "by chance"

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)


@dataclass(frozen=True, slots=True)
class Questions:
    """Queries to score by: what each is, what it is about, and its own row if it is in the index."""

    names: list[str]
    """As `indexer query` takes them."""
    codes: dict[Level, np.ndarray[tuple[int, int], np.dtype[np.uint8]]]
    labels: list[Labels]
    rows: list[int]
    """-1 where the picture is not in the index."""


@app.command()
def demo(
    shards: Annotated[
        list[str] | None, typer.Argument(help="Your own image shards.", show_default="drawn pictures")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Weights of a ResNet-50 to fit ITQ on (none: untrained), in the place of the built-in model.",
            show_default=False,
        ),
    ] = None,
    bits: Annotated[
        str | None, typer.Option(help="With --weights: bits of every level (32) or by level (fine=64,fused=128).")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of everything the demo makes.")] = Path("demo"),
) -> None:
    """Run the main job on drawn pictures or your own, and show what it finds."""
    if bits and not weights:
        raise HashgrainError(Reason.BAD_VALUE, "--bits is for a model that is fitted; give --weights, or leave it out")
    make_folder(out)
    clock = dict[str, float]()
    if shards:
        result(f"1. taking your images: {' '.join(shards)}")
        model, queries = BUILTIN, None
    else:
        shards, queries = _drawn(out, clock)
        model = out / "model.safetensors"
    if weights:
        model = _fitted(shards, weights, bits, out / "fitted.safetensors", clock)
    elif queries:
        _train(shards[0], model, clock)
    else:
        result("2. the model is the built-in one: a small network trained on CIFAR-100, which sees 32 x 32 pixels")
    result("3. encoding: an image becomes one code per level")
    with _timed("encoding", clock):
        report = _encode(shards, model, out / "codes")
    rejects, rate = report.rejects.total(), report.encoded / max(report.seconds, 1e-9)
    result(f"   {report.seen:,} images seen = {report.rows:,} rows + {rejects:,} rejects")
    result(f"   {rate:.0f} images/s from shard to code file")
    if not report.rows:
        raise HashgrainError(Reason.BAD_VALUE, f"{' '.join(shards)} hold no image that can be coded; give others")
    result("4. building the index: for each level all codes (flat), and inverted lists of them (ivf)")
    with _timed("index", clock):
        settings = BuildSettings(kind=IndexKind.IVF, overwrite=True)
        built = build(_code_files(shards, out / "codes"), out / "index", settings)
    result(f"   {built.rows:,} rows, {built.bytes / 1e6:.1f} MB in {out / 'index'}")
    index = Index(out / "index")
    with _timed("search", clock):
        questions = _held_out(queries, model, out) if queries else _from_index(index)
        which = (
            "pictures of things that were not trained on" if queries else "rows of the index, without each one itself"
        )
        result(f"5. searching the {K} nearest to each of {len(questions.names):,} queries, level by level: {which}")
        result("   loading the search first; where it never ran, it is compiled, which takes up to a minute")
        _load(index, questions)
        _print_times(index, questions)
        _print_scores(index, questions)
    page = out / "page.html"
    result(f"6. writing a page of {min(SHOWN, len(questions.names))} queries and their hits, with the pictures: {page}")
    with _timed("page", clock):
        _write_page(page, index, questions)
    result(f"   try one: .venv/bin/indexer query '{questions.names[0]}' --index {out / 'index'} --level fine")
    result(f"   look around, with a page in your browser: .venv/bin/indexer serve {out / 'index'}")
    parts = ", ".join(f"{name} {seconds:.0f}" for name, seconds in clock.items())
    result(f"   seconds: {parts}; {sum(clock.values()):.0f} in all")


@contextmanager
def _timed(name: str, clock: dict[str, float]) -> Iterator[None]:
    started = time.perf_counter()
    yield
    clock[name] = time.perf_counter() - started


def _drawn(out: Path, clock: dict[str, float]) -> tuple[list[str], Path]:
    """Return the shards that are drawn, those to train on first, and the folder of the queries."""
    result(
        "1. drawing pictures: kinds of things, classes of each kind, instances of each class, views of each instance"
    )
    folder = out / "drawn"
    with _timed("drawing", clock), progress("   drawing") as advance:
        draw_shards(folder, progress=lambda done, of: advance(done, of, f"{done:,} pictures"))
    return [str(folder / "train"), str(folder / "more")], folder / "queries"


def _train(shards: str, model: Path, clock: dict[str, float]) -> None:
    result("2. training hash layers on a part of them, on top of the built-in network, which has only seen photos")
    import torch

    # a small network gains little by a second thread, and loses much where other programs are busy; the result is then the
    # same with any number of cores
    torch.set_num_threads(1)
    model.with_name(model.name + CHECKPOINT).unlink(missing_ok=True)  # of an earlier demo, which may have drawn others
    with _timed("training", clock), progress("   training") as advance:
        report = train(
            expand([shards]), lesson(), model, lambda at: advance(at.share, 1, f"{at.rate:.0f} images/s", at.left)
        )
    result(f"   {report.images:,} pictures; of the things that will ask, none is among them")


def _fitted(shards: Sequence[str], weights: str, bits: str | None, model: Path, clock: dict[str, float]) -> Path:
    result(f"2. fitting ITQ hash functions on features of a ResNet-50 (weights {weights})")
    settings = FitSettings(BackboneSpec("resnet50"), weights, bits=parse_bits(bits), sample=1500)
    with _timed("fitting", clock), progress("   fitting") as advance:
        fit(expand(shards), settings, model, lambda done, of: advance(done, of, f"{done:,} images"))
    return model


def _encode(shards: Sequence[str], model: Path, out: Path, title: str = "encoding") -> EncodeReport:
    with progress(f"   {title}") as advance:
        return encode(expand(shards), model, out, EncodeSettings(overwrite=True), lambda at: at.show(advance))


def _code_files(shards: Sequence[str], folder: Path) -> list[Path]:
    """Return the code files of shards: those of an earlier demo may lie beside them."""
    return [folder / f"{shard.name}{SUFFIX}" for shard in expand(shards)]


def _held_out(folder: Path, model: Path, out: Path) -> Questions:
    """Take pictures that are not in the index: encode their folder like any other."""
    _encode([str(folder)], model, out / "query-codes", "encoding the queries")
    names, labels = list[str](), list[Labels]()
    codes: dict[Level, list[np.ndarray[tuple[int, int], np.dtype[np.uint8]]]] = {level: [] for level in Level}
    for path in _code_files([str(folder)], out / "query-codes"):
        with open_codes(path, proven=True) as file:
            names += [str(folder / key) for key in file.keys()]  # noqa: SIM118  a column, not a dict
            fields = {name: file.label(name).to_list() for name in file.label_fields()}
            labels += [
                {name: value for name, values in fields.items() if (value := values[row]) is not None}
                for row in range(file.header.rows)
            ]
            for level in Level:
                codes[level].append(file.codes(level))
    chosen = np.random.default_rng(0).permutation(len(names))[:SCORED].tolist()
    joined = {level: np.concatenate(parts)[chosen] for level, parts in codes.items()}
    return Questions([names[at] for at in chosen], joined, [labels[at] for at in chosen], [-1] * len(chosen))


def _from_index(index: Index) -> Questions:
    """Take rows of the index at random."""
    rows = _some_rows(index)[:SCORED]
    codes = {level: index.codes(level, np.array(rows)) for level in Level}
    return Questions([f"key:{index.key(row)}" for row in rows], codes, [index.labels(row) for row in rows], rows)


def _some_rows(index: Index) -> list[int]:
    rows: list[int] = np.random.default_rng(0).permutation(index.ntotal)[:RANKED].tolist()
    return rows


def _load(index: Index, questions: Questions) -> None:
    """Search once by every way that is timed later: maps the files, and loads or makes the scan if it will answer."""
    for level in Level:
        for exact in (True, False):
            index.search(level, questions.codes[level], SearchSettings(K + 1, exact=exact))


def _print_times(index: Index, questions: Questions) -> None:
    """Print what a search of the default level takes, and what lists miss."""
    exact, flat_ms = _ask(index, Level.FUSED, questions, exact=True)
    listed, ivf_ms = _ask(index, Level.FUSED, questions, exact=False)
    recall = np.mean([np.isin(truth.rows, mine.rows).mean() for truth, mine in zip(exact, listed, strict=True)])
    result(
        f"   fused: {flat_ms:.3f} ms per query, all in one call; by inverted lists {ivf_ms:.3f} ms and {recall:.0%} of the same"
    )


def _print_scores(index: Index, questions: Questions) -> None:
    """Print how well each level answers every question, and where a level is not the best at its own."""
    rows = np.sort(_some_rows(index))
    labels = [index.labels(row) for row in rows.tolist()]
    drawn = set(LABELS.values()) <= labels[0].keys()
    fields = list(LABELS.values()) if drawn else _shared_fields(labels)
    if not fields:
        return
    scores = _scores(index, rows, labels, questions, fields)
    columns = [*fields, GRADED]
    best = {column: max((scores[level][column], level) for level in Level)[1] for column in columns}
    titles = [f"{level}: {field}" for level, field in LABELS.items()] + ["fused: all three"] if drawn else columns
    result("")
    result(
        f"   how well each level ranks {len(rows):,} pictures for {len(questions.names):,} queries; * is the best of a column"
    )
    result("   100% is a perfect order: all pictures with the query's own label before all others (mAP);")
    result(f"   {titles[-1]}: the more labels they share the nearer to the front ({GRADE})")
    result("")
    result("   level     " + "".join(f"{title:>18}" for title in titles))
    for name, row in scores.items():
        result(
            f"   {name:10}" + "".join(f"{row[of]:>16.1%} {'*' if best[of] == name else ' '}" for of in columns).rstrip()
        )
    for level, column in zip(Level, columns, strict=False):
        if drawn and best[column] is not level:
            result(f"   {level} is not the best at its own question here: {best[column]} is.")
    result("")


def _scores(
    index: Index,
    rows: np.ndarray[tuple[int], np.dtype[np.int64]],
    labels: Sequence[Labels],
    questions: Questions,
    fields: Sequence[str],
) -> Mapping[str, Mapping[str, float]]:
    """Return the mean average precision of each label, and the graded measure, by level and of random codes."""
    asked = len(questions.names)
    both = [*questions.labels, *labels]
    classes = np.stack([class_indices([of.get(field) for of in both])[0] for field in fields], axis=1)
    own = None if min(questions.rows) < 0 else np.searchsorted(rows, questions.rows)
    split = Split(np.arange(asked), np.arange(asked, len(both)), own, np.array([], np.int64))
    codes = {level: np.concatenate([questions.codes[level], index.codes(level, rows)]) for level in Level}
    found = dict[str, Mapping[str, float]]()
    chance = np.random.default_rng(0).integers(0, 256, (len(both), 8), dtype=np.uint8)
    for name, values in [*codes.items(), (CHANCE, chance)]:
        means = score(counted(values, classes, split), fields, None, coded=True).means
        found[name] = {field: means[field]["mAP"] for field in fields} | {GRADED: means[GRADED][GRADE]}
    return found


def _shared_fields(labels: Sequence[Labels]) -> list[str]:
    """Return the label fields that all rows have and some share, finest first; a name beside its number says nothing new."""
    counts = {field: len({of.get(field) for of in labels}) for field in labels[0] if all(field in of for of in labels)}
    fields = sorted((field for field in counts if counts[field] < len(labels)), key=counts.__getitem__, reverse=True)
    return [field for field in fields if not any(field == f"{other}_name" for other in fields)]


def _ask(index: Index, level: Level, questions: Questions, *, exact: bool) -> tuple[list[Matches], float]:
    """Return the top ten of each question, without itself, and milliseconds per query."""
    settings, own, seconds = SearchSettings(K, exact=exact), np.array(questions.rows), list[float]()
    for _ in range(REPEATS):
        started = time.perf_counter()
        answers = index.search(level, questions.codes[level], settings, own)
        seconds.append(time.perf_counter() - started)
    return answers, statistics.median(seconds) * 1e3 / len(answers)


def _write_page(path: Path, index: Index, questions: Questions) -> None:
    """Show the first queries at every level, each without itself."""
    names = questions.names[:SHOWN]
    queries = [parse_query(name) for name in names]
    answers = {
        level: index.query_batch(queries, level=level, k=SHOWN_HITS, exact=True, exclude_self=True) for level in Level
    }
    results = [
        Result(query, {level: of[at] for level, of in answers.items()}, questions.labels[at])
        for at, query in enumerate(queries)
    ]
    save_page(path, index, results, title="What the demo found")


def main() -> None:
    """Run the demo."""
    run(app, "demo")


if __name__ == "__main__":
    main()

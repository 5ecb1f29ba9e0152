"""The main job from end to end, on pictures it draws itself or on the user's own: `make demo`.

draw (or take SHARDS) -> encode -> build flat and IVF -> search at every level -> score -> a page of queries and hits.
"""

import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from encoder.codes.file import SUFFIX, open_codes
from encoder.errors import HashgrainError, Reason
from encoder.hashing.fit_model import FitSettings, fit
from encoder.images.expand import expand
from encoder.images.labels import Labels
from encoder.levels import Level, parse_bits
from encoder.model.builtin import BUILTIN
from encoder.model.spec import BackboneSpec
from encoder.runtime.console import progress, result, run
from encoder.runtime.publish import make_folder
from encoder.stream.job import encode
from encoder.stream.report import EncodeReport
from encoder.stream.settings import EncodeSettings
from indexer.build import build
from indexer.index import Index
from indexer.matches import Matches
from indexer.page.page import Result, save_page
from indexer.query import parse_query
from indexer.settings import BuildSettings, IndexKind, SearchSettings
from pipelines.drawn.collection import draw_shards

K = 10
SCORED = 500
"""Queries that the scores are taken over, at most."""
SHOWN = 8
"""Queries on the page."""
SHOWN_HITS = 8
"""Hits of each, a row of them."""
REPEATS = 5
"""Times that each search is timed; what counts is the median."""
LABELLED = 5_000
"""Rows that labels are counted over, at most."""

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
    held_out: Path | None = None
    if not shards:
        result(
            "1. drawing pictures: kinds of things, classes of each kind, instances of each class, views of each instance"
        )
        drawn, held_out = out / "shards", out / "queries"
        with progress("   drawing") as advance:
            draw_shards(drawn, held_out, progress=lambda done, of: advance(done, of, f"{done:,} pictures"))
        shards = [str(drawn)]
    else:
        result(f"1. taking your images: {' '.join(shards)}")
    model = _fitted(shards, weights, bits, out) if weights else BUILTIN
    if not weights:
        result("2. the model is the built-in one: a small network trained on CIFAR-100, which sees 32 x 32 pixels")
    result("3. encoding: an image becomes one code per level")
    report = _encode(shards, model, out / "codes")
    rejects, rate = report.rejects.total(), report.encoded / max(report.seconds, 1e-9)
    result(f"   {report.seen:,} images seen = {report.rows:,} rows + {rejects:,} rejects")
    result(f"   {rate:.0f} images/s from shard to code file")
    if not report.rows:
        raise HashgrainError(Reason.BAD_VALUE, f"{' '.join(shards)} hold no image that can be coded; give others")
    result("4. building the index: for each level all codes (flat), and inverted lists of them (ivf)")
    built = build(_code_files(shards, out / "codes"), out / "index", BuildSettings(kind=IndexKind.IVF, overwrite=True))
    result(f"   {built.rows:,} rows, {built.bytes / 1e6:.1f} MB in {out / 'index'}")
    index = Index(out / "index")
    questions = _held_out(held_out, model, out) if held_out else _from_index(index)
    which = "pictures that are not in the index" if held_out else "rows of the index, leaving each one itself out"
    result(f"5. searching the {K} nearest to each of {len(questions.names):,} queries, level by level: {which}")
    result("   loading the search first; where it never ran, it is compiled, which takes up to a minute")
    _load(index, questions)
    _print_scores(index, questions)
    page = out / "page.html"
    result(f"6. writing a page of {min(SHOWN, len(questions.names))} queries and their hits, with the pictures: {page}")
    _write_page(page, index, questions)
    result(f"   try one: .venv/bin/indexer query '{questions.names[0]}' --index {out / 'index'} --level fine")


def _fitted(shards: Sequence[str], weights: str, bits: str | None, out: Path) -> Path:
    result(f"2. fitting ITQ hash functions on features of a ResNet-50 (weights {weights})")
    model = out / "model.safetensors"
    settings = FitSettings(BackboneSpec("resnet50"), weights, bits=parse_bits(bits), sample=1500)
    with progress("   fitting") as advance:
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
    chosen = np.random.default_rng(0).permutation(index.ntotal)[:SCORED]
    codes, rows = {level: index.codes(level, chosen) for level in Level}, chosen.tolist()
    return Questions([f"key:{index.key(row)}" for row in rows], codes, [index.labels(row) for row in rows], rows)


def _load(index: Index, questions: Questions) -> None:
    """Search once by every way that is timed later: maps the files, and loads or makes the scan if it will answer."""
    for level in Level:
        for exact in (True, False):
            index.search(level, questions.codes[level], SearchSettings(K + 1, exact=exact))


def _print_scores(index: Index, questions: Questions) -> None:
    """Print, per level, how many of the top ten share each label, and what IVF costs and misses."""
    fields = _shared_fields(index)
    result("")
    if fields:
        result(f"   {', '.join(fields)}: share of the {K} nearest that have the query's own label")
    result(
        "   flat: every code is compared; ivf: those in the nearest lists; recall: share of flat's hits that ivf finds"
    )
    result(f"   ms: per query, all {len(questions.names):,} in one call, encoded and loaded; median of {REPEATS} calls")
    result("")
    result("   level    " + "".join(f"{field:>14}" for field in fields) + "     flat ms   ivf ms   ivf recall")
    for level in Level:
        exact, flat_ms = _ask(index, level, questions, exact=True)
        listed, ivf_ms = _ask(index, level, questions, exact=False)
        recall = np.mean([np.isin(truth.rows, mine.rows).mean() for truth, mine in zip(exact, listed, strict=True)])
        shares = "".join(f"{_agreement(index, exact, questions, field):>14.1%}" for field in fields)
        result(f"   {level:9}{shares}{flat_ms:12.3f}{ivf_ms:9.3f}{recall:13.1%}")
    bounds = [_bounds(index, questions.labels, field) for field in fields]
    result("   by chance" + "".join(f"{chance:>14.1%}" for chance, _ in bounds))
    result("   at most  " + "".join(f"{best:>14.1%}" for _, best in bounds))
    result("")


def _shared_fields(index: Index) -> list[str]:
    """Return the label fields that rows agree on, coarsest first; a name beside its number says nothing new."""
    labels = [index.labels(row) for row in _some_rows(index)]
    values = {field: [of.get(field) for of in labels] for of in labels[:1] for field in of}
    counts = {field: len(set(column)) for field, column in values.items()}
    fields = sorted((field for field in counts if counts[field] < len(labels)), key=counts.__getitem__)
    return [field for field in fields if not any(field == f"{other}_name" for other in fields)]


def _some_rows(index: Index) -> list[int]:
    rows: list[int] = np.random.default_rng(1).permutation(index.ntotal)[:LABELLED].tolist()
    return rows


def _ask(index: Index, level: Level, questions: Questions, *, exact: bool) -> tuple[list[Matches], float]:
    """Return the top ten of each question, without itself, and milliseconds per query."""
    settings, own, seconds = SearchSettings(K, exact=exact), np.array(questions.rows), list[float]()
    for _ in range(REPEATS):
        started = time.perf_counter()
        answers = index.search(level, questions.codes[level], settings, own)
        seconds.append(time.perf_counter() - started)
    return answers, statistics.median(seconds) * 1e3 / len(answers)


def _agreement(index: Index, answers: Sequence[Matches], questions: Questions, field: str) -> float:
    same = [
        index.labels(row).get(field) == labels.get(field)
        for found, labels in zip(answers, questions.labels, strict=True)
        for row in found.rows.tolist()
    ]
    return float(np.mean(same))


def _bounds(index: Index, labels: Sequence[Labels], field: str) -> tuple[float, float]:
    """Return how often a random row has a question's label, and the most that the top ten can have."""
    rows = _some_rows(index)
    counts = Counter(index.labels(row).get(field) for row in rows)
    shares = np.array([counts[of.get(field)] / len(rows) for of in labels])
    return float(shares.mean()), float(np.minimum(shares * index.ntotal, K).mean() / K)


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

"""Scores of a model's codes that can be believed: `make evaluate`.

encode both parts (or take codes) -> refuse leaks -> split by the protocol -> ask with copies, look at the bits -> rank by
every level's codes and by the baselines, score -> a table, report.json, report.md and plots.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from encoder.bits import Logits
from encoder.errors import HashgrainError, Reason
from encoder.images.classes import check_fields, fields_for, parse_label_map
from encoder.levels import Level, parse_bits
from encoder.runtime import console
from encoder.runtime.publish import make_folder
from pipelines.evaluation.baselines import Images, Ranking, learned_from, random_codes, read_images, standardise
from pipelines.evaluation.copies import CopyRecall
from pipelines.evaluation.figures import draw
from pipelines.evaluation.health import CodeHealth
from pipelines.evaluation.probes import check_health, logits_of, recall_copies
from pipelines.evaluation.protocols import (
    PROTOCOLS,
    Indices,
    Pool,
    Preset,
    Split,
    pool_of,
    refuse_leaks,
    split,
    trained_on,
    twins,
)
from pipelines.evaluation.report import Counted, Report, Row, as_table, summary, write_report
from pipelines.evaluation.scoring import GRADED_METRICS, TIES, binary_metrics, counted, score
from pipelines.evaluation.subject import Progress, Source, Subject, fields_of, open_subject, silent

SHOWN = 1_000
"""Queries that are copied, at most."""
REAL_QUERIES = 1_000
"""Queries that real-valued features are scored on, at most: each may have as many distances as the database has rows."""
CLASS_LEVELS = (Level.MID, Level.COARSE)
"""The levels that are scored by labels, the finest first."""

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)


@dataclass(frozen=True, slots=True)
class EvaluateSettings:
    """What to evaluate, shards and a model or codes that were made before, and how."""

    preset: Preset
    model: Path | None = None
    """None: the copy that stands beside the codes, if there is one."""
    test: Source = field(default_factory=Source)
    train: Source = field(default_factory=Source)
    labels: tuple[str, ...] = ()
    """Label fields, the finest first; none: `fine` and `coarse` as far as the test images have them, else their only one."""
    out: Path = Path("evaluation")
    bits: tuple[int, ...] = ()
    """Lengths that label-free hash functions are fitted at, beside each level's own."""
    at: int | None = None
    """Ranks that mean average precision counts; None: the whole database."""
    with_train: bool = False
    """`unseen-classes`: training images of those classes are queries and database, too."""
    prefix_keys: bool = False
    """Put "SHARD/" before each key, for shards whose keys start over."""
    device: str = "auto"
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class _Trial:
    """What every stage goes by once it is settled who asks whom."""

    settings: EvaluateSettings
    subject: Subject
    pool: Pool
    given: Split
    shown: Indices
    """Some of the queries, by row of the pool: their pictures are looked at, too."""
    images: Images | None
    """None where not all images are at hand."""


def evaluate(settings: EvaluateSettings, progress: Progress = silent) -> Report:
    """Evaluate a model by a protocol and write the report into `settings.out`.

    Args:
        settings: what and how.
        progress: shows how far each stage is; `encoder.runtime.console.progress` on a command line.

    Raises:
        HashgrainError: `leak`, `duplicate-keys`, `bad-value`, `codes-mismatch`, `model-mismatch`, and what encoding or
            reading codes raises.
    """
    started = time.monotonic()
    settings = replace(settings, labels=_labels(settings))
    make_folder(settings.out)
    trial = _settle(settings, progress)
    copies, health, alike = _probe(trial, progress)
    rows = _rank(trial, progress)
    report = Report(
        preset=settings.preset,
        protocol=PROTOCOLS[settings.preset].says,
        model=_description(trial),
        labels=settings.labels,
        counted=_counted(trial),
        r=settings.at or len(trial.given.database) - (trial.given.own_rows is not None),
        seed=settings.seed,
        ties=TIES,
        formulas={metric.name: metric.formula for metric in (*binary_metrics(settings.at), *GRADED_METRICS)},
        rows=rows,
        copies=copies,
        health=health,
        alike=alike,
        notes=_notes(trial, rows),
        seconds=time.monotonic() - started,
    )
    write_report(report, settings.out, draw(report, settings.out))
    return report


def _labels(settings: EvaluateSettings) -> tuple[str, ...]:
    """Return the label fields to score by, before anything is encoded."""
    if not settings.test.shards and not settings.test.codes:
        return settings.labels  # what is missing then is told by whoever misses it
    found = fields_of(settings.test)
    check_fields(settings.labels, found)
    labels = settings.labels or tuple(fields_for(None, found).values())
    if not labels:
        raise HashgrainError(Reason.FIT_IMPOSSIBLE, "the test images have no labels to score by; give some that do")
    return labels


def _settle(settings: EvaluateSettings, progress: Progress) -> _Trial:
    """Get the codes, refuse leaks, and only then look at an image."""
    from encoder.stream.settings import EncodeSettings

    sources = {"test": settings.test, "train": settings.train}
    how = EncodeSettings(device=settings.device, prefix_keys=settings.prefix_keys, overwrite=True)
    subject = open_subject(sources, settings.model, settings.labels, settings.out / "codes", how, progress)
    coded = [name for name, source in (("test", settings.test), ("training", settings.train)) if source.codes]
    refuse_leaks(settings.preset, subject.test, subject.train, subject.record, coded)
    pool = pool_of(subject.test, subject.train)
    left_out = subject.record.get("classes_left_out", ())
    given = split(settings.preset, pool, left_out, with_train=settings.with_train)
    shown = given.sample(SHOWN, settings.seed).queries
    if subject.encoder is None:
        return _Trial(settings, subject, pool, given, shown, None)
    with progress("reading features") as advance:
        images = read_images(
            subject.encoder, subject.shards, shown, settings.out,
            lambda done: advance(done, len(pool), f"{done:,} images"),
        )  # fmt: skip
    if len(images.digests) != len(pool):
        raise HashgrainError(
            Reason.SHARD_DAMAGED,
            f"the shards hold {len(images.digests):,} images, {len(pool):,} when they were encoded; run it again",
        )
    return _Trial(settings, subject, pool, given, shown, images)


def _probe(
    trial: _Trial, progress: Progress
) -> tuple[dict[Level, CopyRecall], dict[Level, CodeHealth], dict[str, float]]:
    """Ask with copies of the shown queries, and look at the bits of all codes that take part."""
    taking_part = np.union1d(trial.given.queries, trial.given.database)
    codes = {level: of_level[taking_part] for level, of_level in trial.pool.codes.items()}
    copies, logits, seed = dict[Level, CopyRecall](), dict[Level, Logits](), trial.settings.seed
    if trial.subject.encoder is not None and trial.images is not None:
        pictures, rows = trial.images.pictures, np.searchsorted(taking_part, trial.shown)
        with progress("asking with copies") as advance:
            copies = recall_copies(trial.subject.encoder, pictures, rows, codes, seed, advance)
        logits = logits_of(trial.subject.encoder, pictures)
    health, alike = check_health(codes, logits, seed)
    return copies, health, alike


def _rank(trial: _Trial, progress: Progress) -> list[Row]:
    """Score the model's codes, level by level, then everything they are compared with."""
    pool, given, settings = trial.pool, trial.given, trial.settings
    bits = {level: 8 * codes.shape[1] for level, codes in pool.codes.items()}
    plan: list[Callable[[], Ranking]] = [
        partial(Ranking, "model", level, bits[level], codes) for level, codes in pool.codes.items()
    ]
    plan.append(partial(random_codes, len(pool), max(bits.values()), settings.seed))
    if trial.images is not None and len(given.fitting):
        for features in trial.images.features.values():
            standardise(features, given.fitting)
        lengths = {level: sorted({own, *settings.bits}) for level, own in bits.items()}
        plan += learned_from(trial.images.features, pool.classes[:, 0], given.fitting, lengths, settings.seed)
    rows = list[Row]()
    with progress("ranking and scoring") as advance:
        for make in plan:
            rows.append(_scored(make(), trial))
            advance(len(rows), len(plan), f"{rows[-1].method} {rows[-1].level or ''}")
    return rows


def _scored(ranking: Ranking, trial: _Trial) -> Row:
    if ranking.values is None:
        return Row(ranking.method, ranking.level, ranking.nbits, None, ranking.note)
    coded, queries, note = ranking.nbits is not None, len(trial.given.queries), ranking.note
    asked = trial.given if coded else trial.given.sample(REAL_QUERIES, trial.settings.seed)
    if len(asked.queries) < queries:
        note = f"{len(asked.queries):,} of the {queries:,} queries, drawn at random"
    blocks = counted(ranking.values, trial.pool.classes, asked)
    scores = score(blocks, trial.settings.labels, trial.settings.at, coded=coded)
    return Row(ranking.method, ranking.level, ranking.nbits, scores, note)


def _description(trial: _Trial) -> dict[str, str]:
    """Say which model it is, as far as that is known."""
    subject = trial.subject
    known = {"fingerprint": min(subject.test.models)}
    if subject.model is not None:
        config = subject.model.config
        known |= {"backbone": config.backbone.name, "image size": str(config.image_size)}
        known |= {"weights": str(config.record.get("weights", "unknown"))}
    if subject.encoder is not None:
        known |= {"file": str(trial.settings.model), "precision": str(subject.encoder.precision)}
    return known


def _counted(trial: _Trial) -> Counted:
    given = trial.given
    classes = trial.pool.classes[np.union1d(given.queries, given.database)]
    return Counted(
        queries=len(given.queries),
        database=len(given.database),
        classes={name: len(np.unique(classes[:, column])) for column, name in enumerate(trial.settings.labels)},
        rejects=trial.subject.rejects,
        twins=None if trial.images is None else twins(trial.images.digests, given),
    )


def _notes(trial: _Trial, rows: Sequence[Row]) -> list[str]:
    """Say what a reader would otherwise have to guess."""
    subject, record = trial.subject, trial.subject.record
    told: dict[str, list[str]] = {}
    for row in rows:
        told.setdefault(row.note, []).append(f"{row.method} {row.level or ''}".strip())
    notes = [f"{', '.join(names)}: {note}" for note, names in told.items() if note]
    if "shards" not in record:
        notes.append("the model's record names no training shards, so whether it has seen the test images is not known")
    elif subject.train and (known := trained_on(record) & set(subject.train.shards)):
        notes.append(f"the model was trained on {len(known)} of the {len(subject.train.shards)} training shards")
    if "shards" in record and not subject.test.shards:
        notes.append(
            "the test codes do not say what shards they are of, so whether the model has seen these is not known"
        )
    if (left_out := record.get("classes_left_out")) and not PROTOCOLS[trial.settings.preset].unseen:
        notes.append(f"the model was not trained on {len(left_out)} of the classes, unlike the class-id baseline")
    if subject.encoder is None:
        notes.append("some codes came without their images: no copies, and no baselines of their features")
    elif not len(trial.given.fitting):
        notes.append("no training images that baselines may learn from: give --train")
    return notes


@app.command()
def main_command(  # noqa: PLR0913, PLR0917 - one argument an option
    preset: Annotated[Preset, typer.Argument(help="Which images are queries, and which are the database.")],
    model: Annotated[
        Path | None, typer.Option(help="Model file.", show_default="with codes, the copy beside them")
    ] = None,
    test: Annotated[list[str] | None, typer.Option(help="Test shards: quote globs, or repeat the option.")] = None,
    train: Annotated[list[str] | None, typer.Option(help="Training shards, likewise.")] = None,
    queries: Annotated[list[Path] | None, typer.Option(help="Codes or an index, in the place of --test.")] = None,
    database: Annotated[list[Path] | None, typer.Option(help="The same in the place of --train.")] = None,
    label: Annotated[
        str | None,
        typer.Option(
            help="Label of the class: FIELD, or with that of its kind mid=FIELD,coarse=FIELD.",
            show_default="mid=fine,coarse=coarse, or the only one",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("evaluation"),
    bits: Annotated[
        str | None, typer.Option(help="More lengths of the label-free codes (16,32).", show_default="each level's own")
    ] = None,
    at: Annotated[int | None, typer.Option(min=1, help="R of mAP.", show_default="the whole database")] = None,
    with_train: Annotated[
        bool, typer.Option("--with-train", help="unseen-classes: training images of those classes take part.")
    ] = False,
    prefix_keys: Annotated[bool, typer.Option("--prefix-keys", help='Put "SHARD/" before each key.')] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
) -> None:
    """Score a model's codes and their baselines by a protocol that refuses leaks.

    Example: python -m pipelines.evaluate full --model model.safetensors --test 'test-*.tar' --train 'train-*.tar'
    """
    fields = parse_label_map(label) if label else {}
    if fields and not fields.keys() & set(CLASS_LEVELS):
        raise HashgrainError(
            Reason.BAD_VALUE,
            f"--label {label!r} names no class; give FIELD, mid=FIELD, coarse=FIELD or mid=FIELD,coarse=FIELD",
        )
    settings = EvaluateSettings(
        preset=preset,
        model=model,
        test=Source(test or (), queries or ()),
        train=Source(train or (), database or ()),
        labels=tuple(dict.fromkeys(fields[level] for level in CLASS_LEVELS if level in fields)),
        out=out,
        bits=tuple(parse_bits(length)[Level.FUSED] for length in (bits.split(",") if bits else ())),
        at=at,
        with_train=with_train,
        prefix_keys=prefix_keys,
        device=device,
        seed=seed,
    )
    report = evaluate(settings, console.progress)
    for line in (f"{report.preset}: {report.protocol}", *summary(report), "", *as_table(report), ""):
        console.result(line)
    console.result(f"everything: {out / 'report.md'}, {out / 'report.json'}")


def main() -> None:
    """Run the evaluation."""
    console.run(app, "evaluate", {preset: {Reason.FIT_IMPOSSIBLE: "--label"} for preset in Preset})


if __name__ == "__main__":
    main()

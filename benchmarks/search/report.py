"""Results to tables and plots."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.search.cases import ENOUGH, READ, K, Results
from encoder.evaluation.plots import Curve, save_time_by_rows

GOALS = {
    64: {64: 5.0, 128: 4.0, 256: 3.0},
    1: {64: 3.0, 128: 2.0, 256: 1.5},
}
"""By batch and bits: how many times FAISS's better mode is to be beaten at ten million codes."""


def write_report(done: Results, path: Path) -> str:
    """Write the tables to `path` and the plot beside it, and return the tables."""
    sections = [
        section
        for part, lines in {
            "exact": _exact,
            "lists": _lists,
            "peers": _peers,
            "growth": _growth,
            "start": _start,
        }.items()
        if done.get(part)
        for section in ("", *lines(list(done[part].values())))
    ]
    machine = ", ".join(f"{name} {value}" for name, value in done["machine"]["machine"].items() if value)
    text = "\n".join([f"Machine: {machine}.", *sections, ""])
    path.write_text(text)
    if done.get("growth"):
        _plot(list(done["growth"].values()), path.with_name(f"{path.stem}-growth.svg"))
    return text


def _table(*head: str) -> list[str]:
    return ["", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _exact(cases: list[Any]) -> Iterator[str]:
    yield "### Exact, every code looked at (ms per query)"
    yield from _table(
        "codes", "bits", "k", "batch", "hashgrain", "FAISS heap", "FAISS counting", "times", "share of bare read"
    )
    for case in cases:
        ms = case["ms"]
        ours, heap, counting = ms["hashgrain flat"], ms["FAISS flat, heap"], ms["FAISS flat, counting"]
        share = f"{ms[READ] / ours:.0%}" if READ in ms else ""
        yield _row(
            _codes(case), case["bits"], case["k"], case["batch"], f"{ours:.3f}", f"{heap:.3f}", f"{counting:.3f}",
            f"**{min(heap, counting) / ours:.1f}**", share,
        )  # fmt: skip
    others = [case for case in cases if case["beside"]]
    if others:
        yield from _table("codes", "bits", "k", "batch", "hashgrain", "usearch exact", "times", "LanceDB flat", "times")
        for case in others:
            ours, usearch, lance = (
                case["beside"][name] for name in ("hashgrain flat", "usearch exact", "LanceDB flat")
            )
            yield _row(
                _codes(case), case["bits"], case["k"], case["batch"], f"{ours:.3f}",
                f"{usearch:.3f}", f"{usearch / ours:.1f}", f"{lance:.3f}", f"{lance / ours:.1f}",
            )  # fmt: skip
    differ = sorted({f"{name} ({_codes(case)}, {case['bits']} bits)" for case in cases for name in case["differ"]})
    yield ""
    yield f"Distances differ from hashgrain's: {', '.join(differ) or 'none'}."


def _lists(cases: list[Any]) -> Iterator[str]:
    yield f"### The same inverted lists (ms per query), recall@{K} of {ENOUGH} or, where no number of lists up to half has it, the most"
    yield from _table("codes", "bits", "nlist", "nprobe", "recall", "batch", "hashgrain", "FAISS", "times")
    for case in cases:
        ours, theirs = case["ms"]["hashgrain IVF"], case["ms"]["FAISS IVF"]
        yield _row(
            _codes(case), case["bits"], case["nlist"], case["nprobe"], f"{case['recall']:.3f}", case["batch"],
            f"{ours:.4f}", f"{theirs:.4f}", f"**{theirs / ours:.1f}**",
        )  # fmt: skip


def _peers(cases: list[Any]) -> Iterator[str]:
    yield f"### Other systems at recall@{K} of {ENOUGH} (ms per query; hashgrain: the quicker of flat and lists)"
    yield from _table("codes", "bits", "system", "effort", "recall", "batch", "system", "hashgrain", "by", "times")
    for case in cases:
        for batch, ms in case["ms"].items():
            mine = {name: taken for name, taken in ms.items() if name.startswith("hashgrain")}
            best = min(mine, key=lambda name: mine[name])
            reached = f"{case['recall']:.3f}" if case["recall"] >= ENOUGH else f"{case['recall']:.3f} only"
            yield _row(
                _codes(case), case["bits"], case["peer"], case["effort"], reached, batch, f"{ms[case['peer']]:.4f}",
                f"{mine[best]:.4f}", best.removeprefix("hashgrain "), f"**{ms[case['peer']] / mine[best]:.1f}**",
            )  # fmt: skip


def _growth(cases: list[Any]) -> Iterator[str]:
    yield "### Growth: 64 bits, clustered (ms per query)"
    yield from _table(
        "codes",
        "nlist",
        "nprobe",
        "recall",
        "flat, 1",
        "lists, 1",
        "flat, 64",
        "lists, 64",
        "bytes per code, flat",
        "lists",
    )
    for case in sorted(cases, key=lambda case: case["rows"]):
        flat, lists = case["bytes"].values()
        times = (case["ms"][batch][f"hashgrain {kind}"] for batch in ("1", "64") for kind in ("flat", "IVF"))
        yield _row(
            f"{case['rows']:,}", case["nlist"], case["nprobe"], f"{case['recall']:.3f}",
            *(f"{time:.4f}" for time in times), f"{flat:.1f}", f"{lists:.1f}",
        )  # fmt: skip
    fitted = ", ".join(f"{name} n^{exponent:.2f}" for name, exponent in _exponents(cases).items())
    yield ""
    yield f"Fitted from a million codes on: {fitted}."


def _exponents(cases: list[Any]) -> dict[str, float]:
    """Return the slope of log time over log rows, least squares, of searches over a million codes or more."""
    large = [case for case in cases if case["rows"] >= 1_000_000]
    if len(large) < 2:
        return {}
    rows = np.log([case["rows"] for case in large])
    return {
        f"{kind}, batch of {batch}": float(
            np.polyfit(rows, np.log([case["ms"][batch][f"hashgrain {kind}"] for case in large]), 1)[0]
        )
        for batch in ("1", "64")
        for kind in ("flat", "IVF")
    }


def _plot(cases: list[Any], path: Path) -> None:
    cases = sorted(cases, key=lambda case: case["rows"])
    rows = [case["rows"] for case in cases]
    curves = [
        Curve(
            f"{'lists' if kind == 'IVF' else kind}, {'one query' if batch == '1' else f'batch of {batch}'}",
            rows,
            [case["ms"][batch][f"hashgrain {kind}"] for case in cases],
        )
        for kind in ("flat", "IVF")
        for batch in ("1", "64")
    ]
    save_time_by_rows(path, curves, "Time per query by codes (64 bits, clustered)")


def _start(cases: list[Any]) -> Iterator[str]:
    yield "### First answer of a process on a mapped index (s, whole process)"
    ways = list(cases[0]["seconds"])
    yield from _table("rows", *ways)
    for case in cases:
        yield _row(f"{case['rows']:,}", *(f"{case['seconds'][way]:.2f}" for way in ways))


def _codes(case: Any) -> str:
    return (
        f"{case['rows'] // 1_000_000} M {case['spread']}"
        if case["rows"] >= 1_000_000
        else f"{case['rows']:,} {case['spread']}"
    )

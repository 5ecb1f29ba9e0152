"""Tables of what was measured."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def write_report(done: dict[str, Any], path: Path) -> str:
    """Write the tables as markdown and return them."""
    text = f"Machine: {done['machine']}.\n"
    for part, tabulate in (("roofline", _roofline), ("memory", _memory), ("peers", _peers), ("start", _start)):
        if part in done:
            text += "\n" + tabulate(done[part])
    path.write_text(text)
    return text


def _roofline(cases: dict[str, Any]) -> str:
    rows = []
    for name, case in cases.items():
        limits, rate = case["limits"], statistics.median(case["rates"])
        shares = ", ".join(f"{stage} {share:.0%}" for stage, share in case["shares"].items())
        milliseconds = [f"{1e3 * limits[part]:.2f}" for part in ("forward", "decode")]
        reached = [f"{limits['images']:.1f}", f"{rate:.1f}", f"**{rate / limits['images']:.1%}**"]
        rows.append([name, f"{case['images']:,}", *milliseconds, *reached, f"{limits['read'] / 1e6:,.0f}", shares])
    header = ["network, photos", "images", "forward, ms", "decode, ms", "roofline, images/s", "encode", "reaches"]
    return "### Against the roofline (CPU ms per image; images/s)\n\n" + _table(
        [*header, "bare read, MB/s", "time of threads"], rows
    )


def _memory(cases: dict[str, Any]) -> str:
    rows = [
        [name, f"{case['images']:,}", f"{case['rejects']:,}", f"{case['slope']:+.1f} ± {case['error']:.1f}"]
        + [f"{case[at]:,.0f}" for at in ("first", "last", "peak")]
        for name, case in cases.items()
    ]
    header = ["network", "images", "rejected", "slope, MB per 100,000", "MB after a fifth", "at the end", "peak"]
    return "### Resident memory\n\n" + _table(header, rows)


def _peers(cases: dict[str, Any]) -> str:
    rows = []
    for name, case in cases.items():
        ours = statistics.median(case["rates"]["encode"])
        rows.append([name, "encode", "", f"{ours:.1f}", ""])
        for way, rates in case["rates"].items():
            if way != "encode":
                theirs = statistics.median(rates)
                rows.append(
                    [name, f"loop over {way}", str(case["workers"][way]), f"{theirs:.1f}", f"**{ours / theirs:.2f}**"]
                )
    return "### Beside what a user would write (images/s)\n\n" + _table(
        ["network", "way", "workers", "images/s", "encode is"], rows
    )


def _start(cases: dict[str, float]) -> str:
    rows = [[name, f"{seconds:.2f}"] for name, seconds in cases.items()]
    return "### Starting (s, whole process)\n\n" + _table(["what", "first code file, or help"], rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)

"""The table at the end: every figure by stage, then what failed."""

from collections.abc import Sequence

from benchmarks.gpu_check.driver import DONE, Outcome


def table_of(outcomes: Sequence[Outcome]) -> str:
    """Return Markdown."""
    lines = ["| stage | measured | figure |", "|---|---|---|"]
    for outcome in outcomes:
        for found in outcome.results:
            mark = "" if found.get("holds", True) else " **does not hold**"
            lines.append(f"| {outcome.stage} | {found['measured']} | {_shown(found['value'])} {found['unit']}".rstrip())
            lines[-1] += f"{mark} |"
        lines.append(f"| {outcome.stage} | {outcome.ended} | {outcome.seconds:.1f} s |")
    failed = [f"failed: {each.stage}: {each.ended}: {each.last}" for each in outcomes if each.ended != DONE]
    return "\n".join([*lines, "", *(failed or ["every stage is done"])])


def _shown(value: float | str) -> str:
    if isinstance(value, str):
        return value.replace("|", "/")
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"

"""Write docs/INPUTS.md from what comes out of real runs: `make docs`.

A test runs each case and compares its line with what stands there. A case that this machine cannot try keeps its line.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.inputs.case import Case
from tests.support.inputs.groups import GROUPS
from tests.support.inputs.run import run_case

PAGE = Path(__file__).parent / "INPUTS.md"
HEADER = """# What can be brought, and what comes out

Each line is a real run of `encoder encode` on a small collection, with the model that comes with the program; where an index is
named, `indexer build` ran, too. What came out is written from code files, index and messages, by a test that also holds it against
what a reasonable user expects (`tests/support/inputs/`); `make docs` writes this page.

A row is an image that has a code. A rejected image has none, for the reason given. What is skipped is neither an image nor the
labels of one. Where no exit code is given it is 0. How to name collections:
[GUIDE.md](GUIDE.md#what-can-be-encoded-folders-tars-zips-parquet-lists).
"""


def page(outcomes: Mapping[str, str]) -> str:
    """Return the text of docs/INPUTS.md.

    Args:
        outcomes: what came out, by the title of each case.
    """
    parts = [HEADER]
    for group in GROUPS:
        lines = [f"| {case.title} | {outcomes[case.title]} |" for case in group.cases]
        parts.append("\n".join([f"## {group.title}\n", "| brought | came out |", "|---|---|", *lines, ""]))
    return "\n".join(parts)


def written() -> dict[str, str]:
    """Return what the page says came out, by the title of each case."""
    lines = PAGE.read_text().splitlines() if PAGE.exists() else []
    cells = [re.split(r"(?<!\\) \| ", line[2:-2], maxsplit=1) for line in lines if line.startswith("| ")]
    return {each[0]: each[1] for each in cells if len(each) > 1}


def came_out(case: Case) -> str | None:
    """Run a case; None where this machine lacks what it takes."""
    with TemporaryDirectory() as folder, TemporaryDirectory() as here:
        return None if case.lacks(Path(folder)) else run_case(case, Path(here))


def main() -> None:
    """Write the page."""
    before = written()
    cases = [case for group in GROUPS for case in group.cases]
    PAGE.write_text(page({case.title: came_out(case) or before.get(case.title, "not tried yet") for case in cases}))


if __name__ == "__main__":
    main()

"""docs/INPUTS.md says what comes out of real runs, and that is what a reasonable user expects."""

import pytest

from docs.generate_inputs import PAGE, page, written
from tests.support.inputs.groups import GROUPS
from tests.support.inputs.run import run_case

CASES = [case for group in GROUPS for case in group.cases]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_what_comes_out_is_what_is_expected_and_what_the_page_says(case, tmp_path_factory):
    if why := case.lacks(tmp_path_factory.mktemp("tried")):
        pytest.skip(why)
    came_out = run_case(case, tmp_path_factory.mktemp("here"))
    assert came_out == written().get(case.title), "docs/INPUTS.md is stale: run `make docs`"


def test_the_page_has_a_line_for_each_case_and_no_other():
    titles = [case.title for case in CASES]
    assert len(set(titles)) == len(titles) >= 70
    assert PAGE.read_text() == page(written()), "docs/INPUTS.md is stale: run `make docs`"

from fnmatch import fnmatchcase

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from indexer.filters.globs import to_re2

# What brackets, ranges and engines could take for something else, and little of it, so that texts match at times.
CHARACTERS = st.sampled_from("aabc--*?[]!^\\.$/\n\0é\U0010ffff")


@given(st.text(CHARACTERS, max_size=12), st.lists(st.text(CHARACTERS, max_size=6), min_size=1))
@example("[!]", ["[!]", "a"])
@example("[]", ["[]", "a"])
@example("[]-a]", ["]", "^", "a", "b"])
@example("[c-a]", ["a", "b", "c", "-"])
@example("[!c-a]", ["a", "\n"])
@example("[--a]", ["-", ".", "a", "b"])
@example("[a-c-e]", ["b", "d", "-", "e"])
@example("[[:alpha:]]", ["a]", "b]", ":]"])
def test_patterns_mean_what_fnmatch_says(pattern, texts):
    texts = [*texts, pattern]
    matched = pc.match_substring_regex(pa.array(texts, pa.large_string()), to_re2(pattern)).to_pylist()
    assert matched == [fnmatchcase(text, pattern) for text in texts]


@pytest.mark.parametrize("pattern", ["*a" * 512, "*" * 1024, "[" * 1024, "[!a-z]" * 170])
def test_no_pattern_takes_long(pattern):
    texts = pa.array(["a" * 1000 + "b"] * 10, pa.large_string())
    assert pc.match_substring_regex(texts, to_re2(pattern)).to_pylist() == [set(pattern) == {"*"}] * 10

"""After any history of changes an index answers as one that was built of the surviving rows."""

import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder.errors import HashgrainError
from indexer.changes.writer import writer
from indexer.index import Index
from indexer.settings import OnDuplicate
from tests.faults.model import HOW, KEYS, Failed, Model, Row, act, build_of, check_whole


def batches(least):
    row = st.builds(Row, st.tuples(st.integers(0, 2), st.integers(0, 2)), st.integers(0, 4))
    return st.dictionaries(st.sampled_from(KEYS), row, min_size=least, max_size=12)


steps = st.one_of(
    st.tuples(st.just("add"), batches(0), st.sampled_from([OnDuplicate.REPLACE, OnDuplicate.FIRST])),
    st.tuples(st.just("add text"), batches(1), st.just(OnDuplicate.REPLACE)),
    st.tuples(st.just("remove"), st.lists(st.sampled_from(KEYS), max_size=8), st.none()),
    st.tuples(st.just("where"), st.integers(0, 4), st.none()),
    st.tuples(st.just("compact"), st.booleans(), st.sampled_from([1, 5, 12, 1000])),
    st.tuples(st.just("fail"), batches(1), st.none()),
    st.tuples(st.just("rollback"), st.integers(-4, -1), st.none()),
    st.tuples(st.just("gc"), st.integers(1, 4), st.none()),
)


def check(folder, how, start, history):
    for name in ("living", "fresh"):
        shutil.rmtree(folder / name, ignore_errors=True)
    path, model = folder / "living", Model(dict(start))
    build_of(path, model.rows, how)
    model.published(path)
    for step in history:
        rows = model.then(step, path)
        if rows is None:
            with pytest.raises((Failed, HashgrainError)):
                act(step, path)
        else:
            act(step, path)
            model.rows = rows
        model.published(path)
    check_whole(path, model.rows, folder / "fresh")


@settings(max_examples=25)
@given(st.sampled_from(HOW), batches(1), st.lists(steps, min_size=1, max_size=8))
def test_any_history_answers_as_a_fresh_build(tmp_path, how, start, history):
    check(tmp_path, how, start, history)


@pytest.mark.slow
@settings(max_examples=1500)
@given(st.sampled_from(HOW), batches(1), st.lists(steps, min_size=4, max_size=20))
def test_long_histories_answer_as_fresh_builds(tmp_path, how, start, history):
    check(tmp_path, how, start, history)


def test_a_removal_says_how_many_rows_it_removed(tmp_path):
    build_of(tmp_path, {key: Row((0, 0), 1) for key in "abc"}, HOW[0])
    with writer(tmp_path) as opened:
        assert opened.remove(["a", "b", "z", "a"], missing_ok=True) == 2
        assert opened.remove(["a"], missing_ok=True) == 0
    assert Index(tmp_path).manifest.live == 1

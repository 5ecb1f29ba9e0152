"""Where compiled functions are kept, and where they are found."""

import importlib.util
import sys

import numba
import pytest

from indexer.engines.scan.kernel_cache import VARIABLE, KernelCache, NotKeptError, also_in, only_kept, writable

NOWHERE = "/dev/null/nowhere"


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """A compiled function as each new process has it: `fresh()`; there is no user's cache."""
    source = tmp_path / "doubling.py"
    source.write_text("def double(number):\n    return 2 * number\n")
    monkeypatch.setenv("HOME", NOWHERE)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv(VARIABLE, raising=False)

    def make():
        spec = importlib.util.spec_from_file_location("doubling", source)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "doubling", module)
        spec.loader.exec_module(module)
        dispatcher = numba.njit(module.double)
        dispatcher._cache = KernelCache(module.double)
        return dispatcher

    return make


def is_kept(dispatcher):
    with only_kept():
        try:
            dispatcher.compile((numba.int64,))
        except NotKeptError:
            return False
    return True


def close(folder):
    """Leave no place for a folder: root could write to one without write bits."""
    (folder / "__pycache__").write_text("")


def test_what_is_compiled_is_kept_beside_its_source(fresh, tmp_path):
    assert not is_kept(fresh())
    assert fresh()(4) == 8
    assert is_kept(fresh())
    assert writable(fresh().py_func) == tmp_path / "__pycache__"


def test_a_named_folder_comes_first_and_the_others_are_still_read(fresh, tmp_path, monkeypatch):
    fresh()(4)
    monkeypatch.setenv(VARIABLE, NOWHERE)
    assert is_kept(fresh())
    monkeypatch.setenv(VARIABLE, str(tmp_path / "named"))
    assert is_kept(fresh())
    kept_in = writable(fresh().py_func)
    assert kept_in is not None
    assert kept_in.parent == tmp_path / "named"


def test_where_nothing_can_be_written_a_function_is_compiled_and_not_kept(fresh, tmp_path):
    close(tmp_path)
    assert writable(fresh().py_func) is None
    assert fresh()(4) == 8
    assert not is_kept(fresh())


def test_what_another_process_kept_is_found_in_its_folder(fresh, tmp_path, monkeypatch):
    close(tmp_path)
    with monkeypatch.context() as theirs:
        theirs.setenv(VARIABLE, str(tmp_path / "theirs"))
        fresh()(4)
    assert not is_kept(fresh())
    with also_in(tmp_path / "theirs"):
        assert is_kept(fresh())
    assert not is_kept(fresh())


def test_a_damaged_file_is_compiled_again(fresh, tmp_path):
    fresh()(4)
    for path in (tmp_path / "__pycache__").glob("*.nbc"):
        path.write_bytes(path.read_bytes()[:100])
    assert not is_kept(fresh())
    assert fresh()(4) == 8
    assert is_kept(fresh())


def test_a_user_without_a_home_gets_no_folder_named_after_it(fresh, tmp_path, monkeypatch):
    close(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "~")
    assert writable(fresh().py_func) is None
    assert not (tmp_path / "~").exists()

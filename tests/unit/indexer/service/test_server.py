import asyncio
import shutil
import signal
import socket

import pytest

import indexer
from encoder.errors import HashgrainError, Reason
from indexer.changes.writer import writer
from indexer.service.server import Server, configured, listen, make_state, read_files, url_of, warm_up
from indexer.service.settings import ServeSettings


@pytest.fixture
def state(index_folder):
    state = make_state(indexer.open(index_folder), ServeSettings(drain=30.0), with_model=False)
    yield state
    for lane in state.lanes.all():
        lane.close()


def test_an_address_that_is_taken_is_told_with_what_to_do():
    with listen("127.0.0.1", 0) as taken, pytest.raises(HashgrainError) as refused:
        listen("127.0.0.1", taken.getsockname()[1])
    assert refused.value.reason is Reason.BAD_VALUE
    assert "another address or port" in str(refused.value)
    with pytest.raises(HashgrainError):
        listen("no.such.host.invalid", 0)


def test_the_address_of_the_page_can_be_opened():
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert url_of(listener) == f"http://127.0.0.1:{port}/"
        socket.create_connection(("127.0.0.1", port)).close()
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with listen("::1", 0) as listener:
        assert url_of(listener) == f"http://[::1]:{listener.getsockname()[1]}/"


def test_it_is_ready_once_everything_is_warm(state):
    assert state.health.waits_for
    warm_up(state)
    assert state.health.waits_for == ""


def test_a_first_signal_drains_and_a_second_one_ends_it(state):
    warm_up(state)
    server = Server(configured(state), state)
    server.handle_exit(signal.SIGTERM, None)
    assert state.health.draining
    assert "going away" in state.health.waits_for
    assert not server.should_exit  # whoever distributes requests has to see that first
    server.handle_exit(signal.SIGTERM, None)
    assert (server.should_exit, server.force_exit) == (True, True)


def test_a_signal_while_it_starts_ends_it_at_once(state):
    server = Server(configured(state), state)
    server.handle_exit(signal.SIGINT, None)
    assert server.should_exit


def test_a_generation_whose_rows_are_not_found_does_not_serve(state, index_folder, tmp_path, monkeypatch):
    path = shutil.copytree(index_folder, tmp_path / "index")
    index = indexer.open(path)
    served = make_state(index, ServeSettings(), with_model=False)
    with writer(path) as changed:
        changed.remove(["pic-001"])
    monkeypatch.setattr("indexer.service.server.canary", _fail)
    assert not served.holder.swap_if_newer()
    assert served.holder.current is index
    monkeypatch.undo()
    with writer(path) as changed:
        changed.remove(["pic-002"])
    assert served.holder.swap_if_newer()
    assert served.holder.current.manifest.live == 58
    for lane in served.lanes.all():
        lane.close()


def _fail(index):
    raise HashgrainError(Reason.INDEX_DAMAGED, f"rows of {index.path} are not found")


def test_files_are_read_up_to_a_bound_the_smallest_first(index_folder, monkeypatch):
    index, opened = indexer.open(index_folder), []
    sizes = {name: size for name, (size, _) in index.manifest.files.items()}
    ordered = sorted(sizes, key=sizes.__getitem__)
    real = type(index.folder).open

    def noted(path, *arguments, **options):
        opened.append(str(path.relative_to(index.folder)))
        return real(path, *arguments, **options)

    monkeypatch.setattr(type(index.folder), "open", noted)
    read_files(index, sum(sizes[name] for name in ordered[:3]))
    assert sorted(opened) == sorted(ordered[:3])


def test_the_event_loop_is_pythons_own_whatever_else_is_installed(state):
    make_loop = configured(state).get_loop_factory()
    assert make_loop is not None
    loop = make_loop()
    assert isinstance(loop, asyncio.SelectorEventLoop)
    loop.close()

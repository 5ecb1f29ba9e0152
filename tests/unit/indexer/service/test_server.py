import asyncio

import indexer
from indexer.service.server import configured, make_state
from indexer.service.settings import ServeSettings


def test_the_event_loop_is_pythons_own_whatever_else_is_installed(index_folder):
    state = make_state(indexer.open(index_folder), ServeSettings(), with_model=False)
    make_loop = configured(state).get_loop_factory()
    assert make_loop is not None
    loop = make_loop()
    assert isinstance(loop, asyncio.SelectorEventLoop)
    loop.close()
    for lane in state.lanes.all():
        lane.close()

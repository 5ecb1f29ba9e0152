import os
import time

import numpy as np
import pytest

import indexer
from encoder.codes.file import list_code_files
from encoder.errors import HashgrainError, Reason
from encoder.levels import Level
from indexer.build import build
from indexer.service import in_slices
from indexer.service.in_slices import local_folder, serve_in_slices
from indexer.service.settings import ServeSettings
from indexer.settings import BuildSettings
from indexer.slices.ray_slices import SlicePlan, share_of
from indexer.storage.current import read_current
from tests.support.servers import serving


def put(server, folder):
    for path in folder.rglob("*"):
        if path.is_file():
            server.files[f"/index/{os.path.relpath(path, folder)}"] = path.read_bytes()


def test_of_an_index_at_a_url_the_manifest_is_kept_up_to_date_and_no_row_is_here(
    tmp_path, write_codes, rng, monkeypatch
):
    monkeypatch.setattr(in_slices, "LOOK_EVERY", 0.05)
    write_codes("a", {Level.FINE: rng.integers(0, 256, (40, 8), np.uint8)})
    build(list_code_files([tmp_path / "codes"]), tmp_path / "index", BuildSettings())
    with serving() as server:
        put(server, tmp_path / "index")
        with local_folder(server.url("index")) as folder:
            assert read_current(folder)[1] == read_current(tmp_path / "index")[1]
            with indexer.writer(tmp_path / "index") as writer:
                writer.remove(["a-1"])
            put(server, tmp_path / "index")
            deadline = time.monotonic() + 20
            while read_current(folder)[0].name != read_current(tmp_path / "index")[0].name:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            assert not list(folder.rglob("segment-*"))
        assert not folder.exists()


@pytest.mark.parametrize(("writable", "copy_to"), [("added", "/copies"), (None, None)])
def test_an_index_at_a_url_is_not_written_and_has_to_be_copied(writable, copy_to, tmp_path):
    settings = ServeSettings(writable=None if writable is None else tmp_path / writable)
    with pytest.raises(HashgrainError) as refused:
        serve_in_slices("https://nowhere.invalid/index", settings, SlicePlan(2, copy_to=copy_to))
    assert refused.value.reason is Reason.BAD_VALUE


def test_an_index_that_there_is_not_is_told_before_a_cluster_is_started(tmp_path):
    with pytest.raises(HashgrainError) as missing:
        serve_in_slices(str(tmp_path / "nothing"), ServeSettings(), SlicePlan(2))
    assert missing.value.reason is Reason.INDEX_MISSING


@pytest.mark.parametrize(("cores", "processes", "each"), [(8, 4, 2), (9, 4, 2), (3, 4, 0.75), (2, 6, 0.333), (4, 4, 1)])
def test_processes_share_all_cores(cores, processes, each):
    assert share_of(cores, processes) == each
    assert each * processes <= cores


def test_a_plan_has_slices_and_replicas():
    for odd in ((0, 1), (1, 0)):
        with pytest.raises(HashgrainError):
            SlicePlan(*odd)


def test_options_of_a_cluster_take_its_engine(command, tmp_path):
    for option in (("--slices", 2), ("--replicas", 2), ("--address", "auto"), ("--partial",), ("--copy-to", tmp_path)):
        code, _, error = command("indexer", "serve", tmp_path / "index", *option)
        assert code == 2
        assert "--engine ray" in error

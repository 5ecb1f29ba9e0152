"""`encode` on a cluster of three nodes: the bytes of one machine, whatever is lost on the way."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from encoder.codes.file import open_codes
from encoder.errors import HashgrainError, Reason
from encoder.images.expand import expand
from encoder.stream.job import encode
from encoder.stream.settings import EncodeEngine, EncodeSettings
from tests.support.clusters import add_node, coders
from tests.support.pictures import labelled_members, write_tar

pytestmark = pytest.mark.ray
LOCAL = EncodeSettings(batch=8, device="cpu", workers=1)
RAY = EncodeSettings(batch=8, device="cpu", workers=1, engine=EncodeEngine.RAY)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    for part in range(8):
        write_tar(folder / f"part-{part:04d}.tar", labelled_members(20 * part, 20))
    return expand([str(folder)])


@pytest.fixture(scope="module")
def local(tmp_path_factory, shards, model_path):
    """Report and code files of one machine."""
    folder = tmp_path_factory.mktemp("local") / "codes"
    report = encode(shards, model_path, folder, LOCAL)
    return report, contents(folder)


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in {".h5", ".safetensors"}}


def counts(report):
    return (
        report.shards, report.seen, report.rows, report.rejects, report.encoded, report.bytes, report.taken, report.bad_labels
    )  # fmt: skip


def test_a_cluster_writes_what_one_machine_writes_and_counts_the_same(cluster, shards, local, model_path, tmp_path):
    seen = []
    report = encode(shards, model_path, tmp_path / "codes", RAY, lambda at: seen.append((at.shards, at.images)))
    assert contents(tmp_path / "codes") == local[1]
    assert counts(report) == counts(local[0])
    assert (report.devices, report.threads) == (3, 3)
    assert seen[-1] == (8, 160)
    assert sorted(path.name for path in (tmp_path / "codes").iterdir() if path.name not in local[1]) == [".lock"]
    again = encode(shards, model_path, tmp_path / "codes", RAY)
    assert (again.skipped, again.encoded, again.rows) == (8, 0, report.rows)


def test_images_that_have_codes_are_taken_over(cluster, shards, local, model_path, tmp_path):
    folder = tmp_path / "codes"
    encode(shards[:1], model_path, folder, LOCAL)
    (tmp_path / "set").mkdir()
    moved = tmp_path / "set/part-0000.tar"
    write_tar(moved, labelled_members(0, 25))
    (other,) = expand([str(moved)])
    report = encode([other], model_path, folder, replace(RAY, overwrite=True))
    assert (report.encoded, report.taken) == (25, 20)


def killed_at(images, kill):
    """Return a progress callback that calls `kill` once when so many images have codes."""
    done = list[object]()

    def progress(at):
        if at.images >= images and not done:
            done.append(kill())

    return progress


def test_a_killed_worker_costs_the_shards_in_flight_and_no_count(cluster, shards, local, model_path, tmp_path):
    lines = list[str]()
    kill = killed_at(40, lambda: os.kill(coders()[0], signal.SIGKILL))
    report = encode(shards, model_path, tmp_path / "codes", RAY, kill, lines.append)
    assert contents(tmp_path / "codes") == local[1]
    assert counts(report) == counts(local[0])
    assert any("was lost at" in line for line in lines)


def test_a_removed_machine_costs_the_shards_in_flight_and_no_count(cluster, shards, local, model_path, tmp_path):
    lost = cluster.list_all_nodes()[-1]
    kill = killed_at(40, lambda: cluster.remove_node(lost, allow_graceful=False))
    report = encode(shards, model_path, tmp_path / "codes", RAY, kill)
    add_node(cluster)
    assert contents(tmp_path / "codes") == local[1]
    assert counts(report) == counts(local[0])


def test_a_shard_that_kills_three_workers_is_named_and_the_others_stay(cluster, shards, local, model_path, tmp_path):
    deadly, ended = tmp_path / "deadly.tar", threading.Event()
    write_tar(deadly, [*labelled_members(900, 2), ("zeros.bin", bytes(400 << 20))])

    def kill_readers():
        while not ended.wait(0.005):
            for pid in coders():
                with suppress(OSError):
                    if deadly in {fd.readlink() for fd in Path(f"/proc/{pid}/fd").iterdir()}:
                        os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill_readers)
    thread.start()
    try:
        with pytest.raises(HashgrainError, match=r"3 workers died while they coded .*deadly\.tar") as error:
            encode([*expand([str(deadly)]), *shards[:2]], model_path, tmp_path / "codes", RAY)
    finally:
        ended.set()
        thread.join()
    assert error.value.reason is Reason.PROCESS_DIED
    for name, data in contents(tmp_path / "codes").items():
        assert data == local[1][name]
    assert gone_within(20)


def gone_within(seconds):
    """Whether no actor is left after some time."""
    until = time.monotonic() + seconds
    while coders() and time.monotonic() < until:
        time.sleep(0.1)
    return not coders()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_driver_that_ends_takes_its_actors_along(cluster, shards, local, model_path, tmp_path, number):
    command = [sys.executable, "-m", "encoder", "encode", shards[0].path.rpartition("/")[0], "--model", str(model_path)]
    command += ["--out", str(tmp_path / "codes"), "--batch", "8", "--engine", "ray", "--address", cluster.address]
    run = subprocess.Popen([*command, "--device", "cpu", "--workers", "1"], stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while not list((tmp_path / "codes").glob("*.h5")) and time.monotonic() < until:
        time.sleep(0.05)
    run.send_signal(number)
    _, err = run.communicate(timeout=60)
    assert run.returncode == (130 if number == signal.SIGINT else -number), err
    if number == signal.SIGINT:
        assert err.splitlines()[-1] == "stopped: what is finished stays; run the same command again to go on"
    assert gone_within(30)
    before = contents(tmp_path / "codes")
    assert before.items() <= local[1].items()
    time.sleep(1)
    assert contents(tmp_path / "codes") == before
    encode(shards, model_path, tmp_path / "codes", RAY)
    assert contents(tmp_path / "codes") == local[1]


def test_codes_at_a_url_are_those_of_a_folder(cluster, shards, local, model_path, tmp_path):
    url = f"local://{tmp_path}/codes"
    report = encode(shards, model_path, url, RAY)
    assert counts(report) == counts(local[0])
    assert contents(tmp_path / "codes").keys() == local[1].keys()
    again = encode(shards, model_path, url, RAY)
    assert (again.skipped, again.encoded, again.rows) == (8, 0, report.rows)
    for name in local[1]:
        if name.endswith(".h5"):
            with open_codes(tmp_path / "codes" / name) as there, open_codes(tmp_path / "codes" / name) as here:
                assert (there.header.shard.relative, there.header.rows) == (None, here.header.rows)

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.cluster import model
from benchmarks.cluster.model import Collection, Constants, Search, hold, plan, seconds, size, table
from encoder.levels import Level
from indexer.build import build
from indexer.settings import BuildSettings, Dedupe, IndexKind

OF = Constants(
    cores=4, scan_rate=1e9, memory_rate=3e9, scan_fixed=1e-3, batch_rate=1e9, lists_fixed=2e-3, lists_rate=1e6, lists_share=0.01,
    service_cpu=1e-3, service_memory=1e9, build_cpu=1e-5, encode_cpu=100, encode_gpu=1000, image_bytes=1e5,
    hop=1e-3, ask=1e-4, merge=2e-4, hit_bytes=100, network_rate=1e6,
)  # fmt: skip


def test_every_constant_says_where_it_comes_from():
    given = json.loads(model.CONSTANTS.read_text())
    assert all(value > 0 and len(said.split()) > 5 for value, said in given.values())
    assert Constants.load().encode_cpu == given["encode_cpu"][0]
    assert Constants.load(instead={"hop": 1.5}).hop == 1.5
    with pytest.raises(TypeError, match="hops"):
        Constants.load(instead={"hops": 1.5})


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        (Search(3_000_000_000, 8), 1e-3 + 1.0),  # 3 GB at the memory's rate, which is below that of 4 cores
        (Search(3_000_000_000, 16), 1e-3 + 2.0),
        (Search(4_000_000, 64, lists=True), 2e-3 + 40_000 / 4e6),
        # two slices of one machine: as much work, and asking and merging twice, and 2 x 10 hits of 100 bytes
        (Search(3_000_000_000, 8, slices=2), 1e-3 + 1.0 + 1e-3 + 2 * 3e-4 + 2_000 / 1e6),
        (Search(3_000_000_000, 8, slices=8), 2e-3 + 1.0 + 1e-3 + 8 * 3e-4 + 8_000 / 1e6),  # eight turns on four cores
        (Search(3_000_000_000, 8, slices=4, machines=4), 1e-3 + 0.25 + 1e-3 + 4 * 3e-4 + 4_000 / 1e6),
        # three slices on two machines: one machine has two of them
        (Search(3_000_000_000, 8, k=1, slices=3, machines=2), 1e-3 + 2 / 3 + 1e-3 + 3 * 3e-4 + 300 / 1e6),
    ],
)
def test_what_a_query_takes(search, expected):
    assert seconds(search, OF) == pytest.approx(expected)


def test_more_machines_are_quicker_until_asking_them_takes_longer():
    times = [
        seconds(Search(10**9, 64, slices=count, machines=count), Constants.load(instead={"hop": 1e-3, "ask": 1e-4}))
        for count in (1, 2, 4, 8)
    ]
    assert times == sorted(times, reverse=True)
    slow = replace(OF, ask=1.0)
    assert seconds(Search(10**6, 64, slices=8, machines=8), slow) > seconds(Search(10**6, 64), slow)


@pytest.mark.parametrize("lists", [False, True])
def test_bytes_are_those_of_an_index_that_was_built(tmp_path, write_codes, rng, lists):
    rows = 20_000
    bits = {Level.FINE: 64, Level.MID: 32, Level.COARSE: 16, Level.FUSED: 128}
    codes = {level: rng.integers(0, 256, (rows, nbits // 8), np.uint8) for level, nbits in bits.items()}
    write_codes(
        "a", codes, keys=[f"folder/{row:013d}" for row in range(rows)], labels=[{"n": row} for row in range(rows)]
    )
    kind = IndexKind.IVF if lists else IndexKind.FLAT
    build(
        [tmp_path / "codes/a.h5"],
        tmp_path / "index",
        BuildSettings(kind=kind, dedupe=Dedupe.OFF, nlist=16 if lists else None),
    )
    collection = Collection(rows, tuple(bits.values()), key_bytes=20, label_bytes=9, lists=lists)
    held = sum(path.stat().st_size for path in (tmp_path / "index").rglob("*") if path.is_file())
    assert collection.index_bytes == pytest.approx(held, rel=0.01)
    assert collection.code_file_bytes == pytest.approx((tmp_path / "codes/a.h5").stat().st_size, rel=0.02)
    hot = "*.ivf.faiss" if lists else "*.flat.faiss"
    assert collection.hot_bytes == pytest.approx(
        sum(path.stat().st_size for path in (tmp_path / "index").rglob(hot)), rel=0.01
    )


def test_machines_by_memory_and_what_it_costs():
    one = plan(Collection(10**9, (64,), lists=False), OF, node_memory=4e9)  # 8 GB of codes, 2 GB of room per machine
    assert one.machines == 4
    assert one.exact_seconds == pytest.approx(seconds(Search(10**9, 64, slices=4, machines=4), OF))
    # all cores of all machines, over what a query takes of them: 1 ms of the service, and 4 cores for 2 ms and 2.5 M codes on each machine
    assert one.rate == pytest.approx(16 / (1e-3 + 16 * (2e-3 + 2_500_000 / 4e6)))
    assert one.gpu_hours == pytest.approx(10**9 / 1000 / 3600)
    assert one.cpu_hours == pytest.approx(10**9 / 100 / 3600)
    assert one.build_hours == pytest.approx(10**9 * 1e-5 / 3600)
    assert one.cost(gpu_hour=2, machine_hour=0.5, hours=100) == pytest.approx(one.gpu_hours * 2 + 4 * 0.5 * 100)
    assert plan(Collection(10, (64,)), OF, node_memory=4e9).machines == 1


def test_the_table_of_the_document_is_the_one_that_the_model_prints():
    plans = [plan(Collection(rows), Constants.load(), 64e9) for rows in model.SIZES]
    document = (model.CONSTANTS.parents[2] / "docs/SCALE.md").read_text()
    assert "\n".join(table(plans)) in document


@pytest.mark.parametrize(
    ("count", "said"), [(12, "12 B"), (6.4e8, "640.0 MB"), (1.76e10, "17.6 GB"), (7e13, "70.0 TB"), (2e15, "2.0 PB")]
)
def test_bytes_in_words(count, said):
    assert size(count) == said


def test_runs_are_held_against_the_model(tmp_path, capsys, monkeypatch):
    constants = {
        "cores": 4,
        "scan_rate": 1e9,
        "memory_rate": 3e9,
        "scan_fixed": 1e-3,
        "hop": 1e-3,
        "ask": 1e-4,
        "merge": 2e-4,
    }
    told = seconds(Search(3_000_000, 64, slices=2), replace(Constants.load(), **constants))
    run = {"rows": 3_000_000, "bits": 64, "k": 10, "slices": 2, "machines": 1}
    measured = {"constants": constants, "runs": [run | {"p50": told / 1.1, "p99": 1.0}]}
    [held] = hold(measured)
    assert held.off == pytest.approx(0.1)
    path = tmp_path / "cluster.json"
    monkeypatch.setattr("sys.argv", ["model", "--measured", str(path)])
    for p50, code in ((told / 1.1, 0), (told * 0.9, 0), (told / 1.3, 1), (told / 0.7, 1)):
        path.write_text(json.dumps(measured | {"runs": [run | {"p50": p50}]}))
        assert model.main() == code
    assert "| 3,000,000 | 64 | 2 | 1 |" in capsys.readouterr().out

"""Fitting, encoding and what they count, below the command line."""

import threading
import time
from collections import Counter

import pytest

from encoder.errors import HashgrainError, Reason, Reject
from encoder.hashing.fit_model import FitSettings, fit
from encoder.hashing.names import HashKind
from encoder.images.expand import expand
from encoder.levels import Level, parse_bits, parse_levels
from encoder.model.model_file import load_model
from encoder.model.spec import BackboneSpec, Pooling
from encoder.runtime.parallel import AHEAD, ordered_map
from encoder.stream.job import encode
from encoder.stream.report import EncodeProgress
from encoder.stream.settings import EncodeSettings, MaxBad
from tests.support.pictures import labelled_members, write_tar

SMALL = FitSettings(BackboneSpec("alexnet"), "none", HashKind.LSH, dict.fromkeys(Level, 16), image_size=64, sample=40)


def test_results_come_in_order_whatever_the_workers_take():
    def work(number):
        time.sleep(0.001 * (number % 3))
        return number

    assert list(ordered_map(work, range(50), workers=4)) == list(range(50))


def test_no_more_items_are_drawn_than_the_workers_will_soon_need():
    drawn, gate = 0, threading.Event()

    def items():
        nonlocal drawn
        for drawn in range(1, 101):
            if drawn > AHEAD * 2 + 2:
                gate.set()
            yield drawn

    def work(number):
        gate.wait(0.2)
        return number

    results = ordered_map(work, items(), workers=2)
    next(results)
    assert drawn <= AHEAD * 2 + 2
    gate.set()
    assert list(results) == list(range(2, 101))


def test_an_exception_of_the_work_comes_out_in_its_place():
    def work(number):
        if number == 3:
            raise KeyError(number)
        return number

    results = ordered_map(work, range(9), workers=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError):
        next(results)


def test_a_fit_is_repeatable_and_the_seed_and_the_form_matter(shards_folder, tmp_path):
    def fingerprint(name, **changes):
        from dataclasses import replace

        return fit(
            expand([str(shards_folder)]), replace(SMALL, **changes), tmp_path / f"{name}.safetensors", lambda *_: None
        ).fingerprint

    first = fingerprint("a")
    assert fingerprint("b") == first
    others = {fingerprint("c", seed=1), fingerprint("d", pooling=Pooling.PLAIN), fingerprint("e", sample=20)}
    assert len(others | {first}) == 4


@pytest.mark.parametrize("kind", list(HashKind))
def test_every_hash_function_becomes_a_model_that_codes(kind, shards_folder, tmp_path):
    from dataclasses import replace

    path = tmp_path / "model.safetensors"
    report = fit(expand([str(shards_folder)]), replace(SMALL, kind=kind), path, lambda *_: None)
    assert (report.images, report.rejects) == (40, 0)
    assert load_model(path).config.bits == dict.fromkeys(Level, 16)
    encoded = encode(expand([str(shards_folder / "part-0000.tar")]), path, tmp_path / "codes", EncodeSettings())
    assert encoded.rows == 20


def test_unreadable_images_are_counted_and_a_fit_needs_two_others(tmp_path):
    bad = [(f"bad-{number}.jpg", b"no picture") for number in range(5)]
    mixed = write_tar(tmp_path / "mixed.tar", [*labelled_members(0, 20), *bad])
    report = fit(expand([str(mixed)]), SMALL, tmp_path / "m.safetensors", lambda *_: None)
    assert (report.images, report.rejects) == (20, 5)
    for shard in (write_tar(tmp_path / "bad.tar", bad), write_tar(tmp_path / "none.tar", [])):
        with pytest.raises(HashgrainError) as caught:
            fit(expand([str(shard)]), SMALL, tmp_path / "n.safetensors", lambda *_: None)
        assert caught.value.reason is Reason.FIT_IMPOSSIBLE


def test_any_number_of_workers_writes_the_same_bytes(shards_folder, model_path, tmp_path):
    written = []
    for workers in (1, 2, 3):
        encode(
            expand([str(shards_folder)]), model_path, tmp_path / str(workers), EncodeSettings(batch=7, workers=workers)
        )
        written.append([path.read_bytes() for path in sorted((tmp_path / str(workers)).glob("*.h5"))])
    assert written[0] == written[1] == written[2]


@pytest.mark.parametrize(
    ("text", "limit"),
    [("5", MaxBad(count=5)), ("1%", MaxBad(share=0.01)), ("0.25", MaxBad(share=0.25)), ("0", MaxBad(count=0))],
)
def test_max_bad_is_a_count_or_a_share(text, limit):
    assert MaxBad.parse(text) == limit


@pytest.mark.parametrize("text", ["-1", "101%", "1.5", "x", "", "nan"])
def test_max_bad_out_of_range_is_refused(text):
    with pytest.raises(HashgrainError) as caught:
        MaxBad.parse(text)
    assert caught.value.reason is Reason.BAD_VALUE


@pytest.mark.parametrize(
    ("limit", "seen", "rejects", "final", "passes"),
    [
        (MaxBad(count=2), 10, 2, False, True),
        (MaxBad(count=2), 10, 3, False, False),
        (MaxBad(share=0.1), 10, 2, False, True),  # too early to tell
        (MaxBad(share=0.1), 10, 2, True, False),
        (MaxBad(share=0.1), 1000, 101, False, False),
        (MaxBad(share=0.1), 1000, 100, True, True),
        (MaxBad(), 10, 10, True, True),
    ],
)  # fmt: skip
def test_max_bad_ends_a_run_as_soon_as_it_can_tell(limit, seen, rejects, final, passes):
    if passes:
        limit.check(seen, rejects, final=final)
    else:
        with pytest.raises(HashgrainError) as caught:
            limit.check(seen, rejects, final=final)
        assert caught.value.reason is Reason.TOO_MANY_BAD


def test_the_report_counts_every_image_once(model_path, tmp_path):
    shards = [
        write_tar(tmp_path / "a.tar", [*labelled_members(0, 5), ("bad.jpg", b"x"), ("empty.jpg", b"")]),
        write_tar(tmp_path / "b.tar", [("worse.jpg", b"y")]),
        write_tar(tmp_path / "none.tar", []),
    ]
    for skipped in (0, 3):
        report = encode(
            expand([str(shard) for shard in shards]), model_path, tmp_path / "codes", EncodeSettings(batch=2)
        )
        assert (report.seen, report.rows, report.shards, report.skipped) == (8, 5, 3, skipped)
        assert report.rejects == Counter({Reject.UNKNOWN_FORMAT: 2, Reject.EMPTY: 1})


def test_a_shard_of_small_images_is_all_done_when_its_images_are(model_path, tmp_path):
    """Headers and labels take more bytes of a plain tar than such images do."""
    shard = write_tar(tmp_path / "a.tar", labelled_members(0, 40))
    seen: list[EncodeProgress] = []
    encode(expand([str(shard)]), model_path, tmp_path / "codes", EncodeSettings(batch=10), seen.append)
    shares = [at.bytes / at.bytes_total for at in seen if at.images]
    assert shares[0] == pytest.approx(0.25, abs=0.1)
    assert 0.8 < shares[-1] <= 1


def test_levels_and_bits_by_name():
    assert parse_levels("fused, fine") == (Level.FINE, Level.FUSED)
    assert parse_bits("32") == dict.fromkeys(Level, 32)
    assert parse_bits("fine=16,fused=256") == {Level.FINE: 16, Level.MID: 64, Level.COARSE: 64, Level.FUSED: 256}

import threading

import numpy as np
import pytest
import torch

from encoder.runtime.parallel import ordered_map
from encoder.training import batches as module
from encoder.training.batches import CHUNK, MOST_WORKERS, Batches, workers_beside
from encoder.training.settings import Phase, TrainSettings

PHASES = (Phase(1, 0.1, ()),)


@pytest.fixture
def pictures(rng):
    return rng.integers(0, 256, (300, 32, 32, 3), dtype=np.uint8)


def batches(pictures, **changes):
    of_batches = {name: changes.pop(name) for name in ("views", "share", "device", "workers") if name in changes}
    settings = TrainSettings(PHASES, batch=changes.pop("batch", 128), **changes)
    return Batches(pictures, np.arange(len(pictures)), settings, **of_batches)


def test_an_epoch_shows_every_picture_at_most_once_and_epochs_differ(pictures):
    made = batches(pictures)
    assert made.steps_per_epoch == 2
    first = np.concatenate([made.rows_of(0, step) for step in (0, 1)])
    second = np.concatenate([made.rows_of(0, step) for step in (2, 3)])
    assert len(np.unique(first)) == len(first) == 256
    assert not np.array_equal(first, second)


def test_batches_that_begin_later_are_the_same_batches(pictures):
    made = batches(pictures)
    whole, late = list(made.between(0, 0, 4)), list(made.between(0, 2, 4))
    for one, other in zip(whole[2:], late, strict=True):
        assert torch.equal(one.rows, other.rows)
        assert torch.equal(one.inputs, other.inputs)


def test_shares_of_two_processes_make_the_batch_of_one(pictures):
    whole = next(batches(pictures).between(0, 0, 1))
    parts = [next(batches(pictures, share=(number, 2)).between(0, 0, 1)) for number in (0, 1)]
    assert torch.equal(whole.inputs, torch.cat([part.inputs for part in parts]))
    assert all(torch.equal(whole.rows, part.rows) for part in parts)
    assert len(parts[0].inputs) == CHUNK


def test_every_picture_is_mirrored_in_every_second_epoch(pictures):
    made = batches(pictures, pad=0, cutout=0)
    seen: dict[int, list[bool]] = {}
    for batch in made.between(0, 0, 4):
        for row, picture in zip(batch.rows.tolist(), batch.inputs.numpy(), strict=True):
            mirrored = not np.array_equal(picture, pictures[row])
            assert mirrored == np.array_equal(picture, pictures[row][:, ::-1])
            seen.setdefault(row, []).append(mirrored)
    twice = [flips for flips in seen.values() if len(flips) == 2]
    assert len(twice) > 100
    assert all(sorted(flips) == [False, True] for flips in twice)


def test_views_come_in_twos_of_the_same_pictures(pictures):
    batch = next(batches(pictures, views=True).between(0, 0, 1))
    assert batch.inputs.shape == (256, 32, 32, 3)
    flat = [values.flatten(1) - values.flatten(1).mean(dim=1, keepdim=True) for values in batch.inputs.chunk(2)]
    assert not torch.equal(*flat)


def test_pictures_kept_larger_are_cut_to_the_network(pictures):
    batch = next(batches(pictures, area=(0.5, 1.0), image_size=24).between(0, 0, 1))
    assert batch.inputs.shape == (128, 24, 24, 3)


def test_fewer_pictures_than_a_batch_make_one_small_batch(pictures):
    made = batches(pictures[:10])
    assert made.steps_per_epoch == 1
    assert len(next(made.between(0, 0, 1)).rows) == 10


@pytest.mark.parametrize("views", [False, True])
def test_any_number_of_workers_makes_the_same_batches(pictures, views):
    for one, other in zip(
        batches(pictures, views=views, pad=4).between(0, 0, 3),
        batches(pictures, views=views, pad=4, workers=4).between(0, 0, 3),
        strict=True,
    ):
        assert torch.equal(one.rows, other.rows)
        assert torch.equal(one.inputs, other.inputs)


@pytest.mark.parametrize("views", [False, True])
def test_a_gpu_reads_what_workers_have_pinned_and_nobody_waits_for_it(pictures, views, monkeypatch):
    pinned, sent = list[tuple[int, str]](), list[tuple[int, dict[str, bool]]]()

    def pin(tensor):
        pinned.append((tensor.data_ptr(), threading.current_thread().name))
        return tensor

    def send(tensor, *where, **how):
        if where == (torch.device("cuda:0"),):
            sent.append((tensor.data_ptr(), how))
            return tensor
        return to(tensor, *where, **how)

    def on_threads(work, jobs, workers, **how):
        threads.append(workers)
        return ordered_map(work, jobs, workers, **how)

    to, threads = torch.Tensor.to, list[int]()
    expected = [batch.inputs for batch in batches(pictures, views=views).between(0, 0, 2)]
    expected_copies = [picture for _, _, picture in batches(pictures, views=views).copies(0, 2)]
    monkeypatch.setattr(module, "ordered_map", on_threads)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    monkeypatch.setattr(torch.Tensor, "to", send)
    beside = batches(pictures, views=views, device=torch.device("cuda:0"), workers=3)
    for expect, batch in zip(expected, beside.between(0, 0, 2), strict=True):
        assert torch.equal(batch.inputs, expect)
    for expect, (_, _, made) in zip(expected_copies, beside.copies(0, 2), strict=True):
        assert torch.equal(made, expect)
    assert all(how == {"non_blocking": True} for _, how in sent)
    assert sorted(pointer for pointer, _ in sent) == sorted(pointer for pointer, _ in pinned)
    assert threads == [3, 3]
    assert all(name.startswith("batch") for _, name in pinned)


@pytest.mark.parametrize(
    ("device", "cores", "processes", "workers"),
    [("cpu", 16, 1, 1), ("cuda:0", 16, 1, MOST_WORKERS), ("cuda:0", 16, 4, 3), ("cuda:0", 2, 4, 1)],
)
def test_workers_leave_a_core_to_who_feeds_the_gpu(device, cores, processes, workers, monkeypatch):
    monkeypatch.setattr(module, "worker_count", lambda: cores)
    assert workers_beside(torch.device(device), processes) == workers

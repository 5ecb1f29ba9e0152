import io

import numpy as np
import pytest
import torch
from PIL import Image

from encoder.training import augment


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    smooth = np.add.outer(np.linspace(0, 120, 32), np.linspace(0, 100, 32))[..., None] + rng.uniform(0, 35, 3)
    return torch.from_numpy(np.stack([np.roll(smooth, k, axis=1) for k in range(8)]).astype(np.uint8))


def test_a_shift_of_nothing_is_the_picture_and_a_flip_its_mirror(images):
    flips = torch.tensor([False, True] * 4)
    moved = augment.shift(images, 0, flips, generator())
    assert torch.equal(moved[0], images[0])
    assert torch.equal(moved[1], images[1].flip(1))


def test_a_shift_is_a_window_of_the_mirrored_picture(images):
    moved = augment.shift(images, 4, torch.zeros(8, dtype=torch.bool), generator(3))
    for before, after in zip(images.numpy(), moved.numpy(), strict=True):
        wide = np.pad(before, ((4, 4), (4, 4), (0, 0)), mode="reflect")
        windows = [wide[y : y + 32, x : x + 32] for y in range(9) for x in range(9)]
        assert any(np.array_equal(after, window) for window in windows)


def test_cutout_greys_at_most_one_square_and_leaves_the_rest(images):
    cut = augment.cutout(images, 8, generator(1))
    changed = (cut != images).any(dim=3)
    assert changed.any()
    for picture, hole in zip(cut, changed, strict=True):
        rows, columns = hole.nonzero(as_tuple=True)
        if len(rows):
            assert rows.max() - rows.min() < 8
            assert columns.max() - columns.min() < 8
            assert (picture[hole] == augment.GREY).all()


def test_a_warp_of_the_whole_area_without_a_turn_is_the_picture_or_its_mirror(images):
    warped = augment.warp(images, 32, (1.0, 1.0), 0, generator())
    for before, after in zip(images.float(), warped, strict=True):
        assert min((after - before).abs().max(), (after - before.flip(1)).abs().max()) < 1e-2


def test_a_warp_brings_pictures_to_another_size(images):
    assert augment.warp(images, 20, (0.5, 1.0), 10, generator()).shape == (8, 20, 20, 3)


def test_jitter_without_strength_changes_nothing(images):
    assert torch.allclose(augment.jitter(images.float(), 0.0, generator()), images.float(), atol=1e-2)


def test_a_turned_hue_keeps_grey_grey():
    grey = torch.full((4, 8, 8, 3), 90.0)
    jittered = augment.jitter(grey, 0.5, generator())
    assert (jittered.amax(dim=3) - jittered.amin(dim=3)).max() < 1e-3


def test_blur_keeps_the_mean_of_a_flat_picture_and_smooths_noise():
    flat = torch.full((2, 16, 16, 3), 77.0)
    assert torch.allclose(augment.blur(flat, 1.5, 1.0, generator()), flat, atol=1e-3)
    noise = torch.rand(2, 16, 16, 3, generator=generator()) * 255
    assert augment.blur(noise, 1.5, 1.0, generator(5)).std() < noise.std()


def test_recompression_is_that_of_jpeg_and_leaves_the_other_pictures_alone(images):
    assert torch.equal(augment.recompress(images.float(), (50, 50), 0.0, generator()), images.float())
    out = augment.recompress(images.float(), (30, 30), 1.0, generator())
    for picture, changed in zip(images.numpy(), out.numpy(), strict=True):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=30)
        assert np.array_equal(changed, np.asarray(Image.open(file)))
    some = augment.recompress(images.float(), (30, 90), 0.5, generator(3))
    same = (some == images).flatten(1).all(dim=1)
    assert same.any()
    assert not same.all()


@pytest.mark.parametrize("side", [32, 24, 20])
def test_a_view_is_a_picture_that_depends_on_the_generator_alone(images, side):
    one, same, other = (augment.view(images, side, generator(seed)) for seed in (1, 1, 2))
    assert one.shape == (8, side, side, 3)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one.min() >= 0
    assert one.max() <= 255

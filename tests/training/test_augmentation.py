"""Augmentation is index arithmetic; every pixel can be traced back."""

from __future__ import annotations

import numpy as np
import torch

from exporter.contract import InputContract
from exporter.training.augmentation import Augmentation, augment, mirrored_in, normalise

NONE = Augmentation(flip=False, translate=0, cutout=0)


def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (40, 9, 7, 3), dtype=torch.uint8, generator=generator)


def run(how: Augmentation, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return augment(images(), torch.arange(40), how, 128, generator, mirrored_in(0, 40, seed))


def test_nothing_asked_nothing_done() -> None:
    assert torch.equal(run(NONE), images())


def test_a_seed_decides() -> None:
    how = Augmentation(flip=True, translate=2, cutout=3)
    assert torch.equal(run(how), run(how))
    assert not torch.equal(run(how), run(how, seed=1))


def test_flip_mirrors_about_half_of_the_images_left_to_right() -> None:
    result = run(Augmentation(flip=True, translate=0, cutout=0))
    mirrored = [torch.equal(new, old.flip(1)) for new, old in zip(result, images(), strict=True)]
    kept = [torch.equal(new, old) for new, old in zip(result, images(), strict=True)]
    assert all(m or k for m, k in zip(mirrored, kept, strict=True))
    assert 8 < sum(mirrored) < 32


def test_every_image_shows_both_sides_in_two_epochs_in_a_row() -> None:
    first, second, third = (mirrored_in(epoch, 1000, seed=3) for epoch in range(3))
    assert torch.equal(first, ~second)
    assert torch.equal(first, third)
    assert 400 < int(first.sum()) < 600
    assert not torch.equal(first, mirrored_in(0, 1000, seed=4))


def test_mirrored_belongs_to_the_image_not_to_its_place_in_the_batch() -> None:
    picked = torch.tensor([7, 3, 20])
    mirrored = torch.zeros(40, dtype=torch.bool)
    mirrored[3] = True
    how = Augmentation(flip=True, translate=0, cutout=0)
    result = augment(images(), picked, how, 128, torch.Generator(), mirrored)
    assert torch.equal(result[0], images()[7])
    assert torch.equal(result[1], images()[3].flip(1))
    assert torch.equal(result[2], images()[20])


def test_translate_is_a_crop_of_the_reflected_image() -> None:
    result = run(Augmentation(flip=False, translate=2, cutout=0)).numpy()
    seen = set()
    for new, old in zip(result, images().numpy(), strict=True):
        padded = np.pad(old, ((2, 2), (2, 2), (0, 0)), mode="reflect")
        matches = [
            (row, column)
            for row in range(5)
            for column in range(5)
            if np.array_equal(new, padded[row : row + 9, column : column + 7])
        ]
        assert len(matches) == 1
        seen.add(matches[0])
    assert len(seen) > 10


def test_cutout_blanks_one_square_and_nothing_else() -> None:
    result = run(Augmentation(flip=False, translate=0, cutout=3))
    for new, old in zip(result, images(), strict=True):
        changed = (new != old).any(2)
        rows, columns = changed.any(1).nonzero().flatten(), changed.any(0).nonzero().flatten()
        assert 1 <= rows.max() - rows.min() + 1 <= 3
        assert 1 <= columns.max() - columns.min() + 1 <= 3
        assert (new[changed] == 128).all()


def test_a_shift_larger_than_the_image_stays_inside_it() -> None:
    how = Augmentation(flip=False, translate=50, cutout=0)
    assert run(how).shape == (40, 9, 7, 3)


def test_normalise_is_the_contract() -> None:
    contract = InputContract(height=1, width=1, classes=("a", "b"))
    raw = torch.tensor([[[[0, 128, 255]]]], dtype=torch.uint8)
    assert normalise(raw, contract).flatten().tolist() == [-2.0, 0.0, 127 / 64]

"""Cutouts and noise: the images that stay, the pixels that change, and the generator that decides."""

import torch

from diffexplain_fast.evidence.perturb import perturb


def pixels() -> torch.Tensor:
    return torch.rand(2, 3, 12, 16, generator=torch.Generator().manual_seed(0))


def seen(cutouts: int, noise: float, seed: int = 0) -> torch.Tensor:
    return perturb(pixels(), cutouts, noise, torch.Generator().manual_seed(seed))


def test_without_cutouts_and_noise_the_images_stay() -> None:
    assert torch.equal(seen(0, 0.0), pixels())


def test_cutouts_follow_the_whole_images() -> None:
    views = seen(3, 0.0)
    assert views.shape == (8, 3, 12, 16)
    assert torch.equal(views[:2], pixels())
    assert not torch.equal(views[2:4], pixels())
    assert torch.equal(views, seen(3, 0.0))
    assert not torch.equal(views, seen(3, 0.0, seed=1))


def test_a_cutout_of_a_constant_image_is_that_image() -> None:
    image = torch.full((1, 3, 8, 8), 0.25)
    views = perturb(image, 4, 0.0, torch.Generator().manual_seed(0))
    torch.testing.assert_close(views, image.expand(5, -1, -1, -1))


def test_noise_has_its_deviation_and_stays_in_range() -> None:
    grey = torch.full((4, 3, 32, 32), 0.5)
    noisy = perturb(grey, 0, 0.05, torch.Generator().manual_seed(0))
    assert 0.045 < float((noisy - grey).std()) < 0.055
    bright = perturb(torch.ones(1, 3, 32, 32), 0, 0.5, torch.Generator().manual_seed(0))
    assert float(bright.max()) <= 1 and float(bright.min()) >= 0


def test_gradients_reach_the_pixels_through_every_cutout() -> None:
    image = pixels().requires_grad_()
    perturb(image, 2, 0.01, torch.Generator().manual_seed(0)).sum().backward()
    assert image.grad is not None and float(image.grad.abs().sum()) > 0

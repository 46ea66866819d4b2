"""Tiny models of random weights for attributions that take a fraction of a second."""

from typing import Any

import torch
from torch import Tensor, nn

import diffexplain_fast as dx
from tests.tiny import IMAGE_SIZE, LABELS, tiny_classifier, tiny_sd

TAXONOMY = {"thing": ["boat", "fish", "house"], "ground": ["snow", "desert"]}
CAPTIONS = ["a red boat on snow", "a red fish on desert"]


def pictures(count: int = 2) -> Tensor:
    """Return pixels of noise [count, 3, 16, 16]."""
    return torch.rand(count, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(1))


def quick_attribution(
    module: nn.Module | None = None, images: Any = None, target: Any = "boat", pipe: Any = None, **options: Any
):
    """Return an attribution of tiny models."""
    classifier = dx.Classifier(tiny_classifier() if module is None else module, labels=LABELS)
    images = pictures() if images is None else images
    settings = {"taxonomy": TAXONOMY, "captions": CAPTIONS[: len(images)], "beam_width": 2}
    with dx.Explainer(tiny_sd() if pipe is None else pipe, classifier) as explainer:
        return explainer.attribute(images, target, **{**settings, **options})


class Brightness(nn.Module):
    """Two classes: the first one's logit is the mean of the pixels, in units that an edit of noise changes clearly.

    Args:
        middle: mean of the pixels from which on pictures are of the first class. The autoencoder of ``tiny_sd`` darkens
            ``pictures`` from 0.50 to 0.46.
    """

    def __init__(self, middle: float = 0.5) -> None:
        super().__init__()
        self.middle = middle

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits [B, 2]."""
        light = 20 * (pixels.mean((1, 2, 3)) - self.middle)
        return torch.stack([light, -light], 1)


@torch.no_grad()
def through_autoencoder(pixels: Tensor) -> Tensor:
    """Return pictures as the autoencoder of ``tiny_sd`` gives them: the baseline of edits of the whole picture."""
    vae = tiny_sd().vae
    return (vae.decode(vae.encode(pixels * 2 - 1).latent_dist.mean).sample / 2 + 0.5).clamp(0, 1)


class Nearness(nn.Module):
    """Two classes: a picture belongs to the first one within a mean distance of the pixels from the test's picture.

    The autoencoder alone moves that picture by 0.25, and edits of it by a hundredth more or less.
    """

    def __init__(self, reach: float) -> None:
        super().__init__()
        self.reach = reach

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits [B, 2]."""
        near = 100 * (self.reach - (pixels - pictures(1)).abs().mean((1, 2, 3)))
        return torch.stack([near, -near], 1)


class Left:
    """A segmenter that finds everything in the left half."""

    def fingerprint(self) -> str:
        return "left"

    def regions(self, pixels: Tensor, texts: Any) -> Tensor:
        """Return bool [B, 1, H, W]."""
        found = torch.zeros(len(pixels), 1, *pixels.shape[-2:], dtype=torch.bool)
        found[..., : pixels.shape[-1] // 2] = True
        return found

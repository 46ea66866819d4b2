"""Layers whose outputs have the sequence first: their units are refused, whatever the number of images."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import diffexplain_fast as dx
from diffexplain_fast.models.classifier import Classifier


class Tokens(nn.Module):
    """A transformer of four tokens, with the sequence or the images first."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.first = batch_first
        self.embed = nn.Conv2d(3, 8, 4, 4)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first)
        self.place = nn.Embedding(4, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits [B, 3]."""
        tokens = self.embed(pixels).flatten(2).permute(*((0, 2, 1) if self.first else (2, 0, 1)))
        self.place(torch.arange(4))
        return self.head(self.block(tokens).mean(1 if self.first else 0))


class Fixed(Tokens):
    """The same, for two images at most."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits [B, 3]."""
        if len(pixels) > 2:
            raise RuntimeError("two images at most")
        return super().forward(pixels)


def pixels(batch: int) -> Tensor:
    return torch.rand(batch, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def asked(model: nn.Module, layer: str, batch: int) -> Tensor:
    classifier = Classifier(model, output="softmax")
    target = dx.Neuron(layer, 1).bind(classifier)
    return target(classifier.respond(pixels(batch), target.layers))


@pytest.mark.parametrize("layer", ["block", "block.linear2", "place"])
@pytest.mark.parametrize("batch", [2, 4])
def test_rows_that_are_no_images_are_refused(layer: str, batch: int) -> None:
    with pytest.raises(ValueError, match=rf"output of {layer}: wanted one row for each of the {batch} images first"):
        asked(Tokens(batch_first=False).eval(), layer, batch)


@pytest.mark.parametrize(("kind", "batch"), [(Tokens, 1), (Tokens, 2), (Tokens, 4), (Fixed, 1), (Fixed, 2)])
def test_images_first_are_read(kind: Callable[..., nn.Module], batch: int) -> None:
    model = kind(batch_first=True).eval()
    kept: list[Tensor] = []
    handle = model.block.register_forward_hook(lambda _, args, out: kept.append(out))
    model(pixels(batch))
    handle.remove()
    torch.testing.assert_close(asked(model, "block", batch), kept[0].mean(1)[:, 1])


def test_a_test_that_had_no_memory_is_no_answer() -> None:
    model, left = Tokens(batch_first=False).eval(), [False]

    def limited(module: nn.Module, given: tuple[Tensor]) -> None:
        if len(given[0]) == 5 and not left[0]:
            raise torch.OutOfMemoryError("no memory")

    model.register_forward_pre_hook(limited)
    classifier = Classifier(model, output="softmax")
    with pytest.raises(torch.OutOfMemoryError, match="no memory"):
        classifier.respond(pixels(4), ["block"])
    left[0] = True
    assert classifier.respond(pixels(4), ["block"]).apart == {"block"}


def test_a_layer_is_tested_once_and_the_answer_says_which() -> None:
    model, sizes = Tokens(batch_first=False).eval(), []
    model.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    classifier = Classifier(model, output="softmax")
    before = torch.get_rng_state()
    for _ in range(3):
        assert set(classifier.respond(pixels(4), ["block", "embed"]).apart) == {"block"}
    assert sizes.count(5) == 1 and torch.equal(torch.get_rng_state(), before)
    assert set(classifier.respond(pixels(2), ["block", "embed"]).apart) == {"block"}
    assert not classifier.respond(pixels(2)).apart

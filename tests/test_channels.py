"""The axis of a neuron's units in a layer's output."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffexplain_fast.errors import UnknownNameError
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.targets import Neuron
from diffexplain_fast.targets.neurons import Layout, channel_axis
from tests.tiny import seeded

WIDTH = 8


class LayerNorm2d(nn.LayerNorm):
    """Normalises [B, C, H, W]; the name is that of timm and torchvision."""

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, C, H, W]."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ChannelsLast(nn.Module):
    """Like Swin: [B, H, W, C] in every layer; ``block`` has a residual around a perceptron."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, 4, 4)
        self.norm = nn.LayerNorm(WIDTH)
        self.block = Residual(nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.GELU()))
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits [B, 3]."""
        return self.head(self.block(self.norm(self.patches(pixels).permute(0, 2, 3, 1))).mean((1, 2)))


class ConvNext(nn.Module):
    """Like ConvNeXt: a depthwise convolution, then a perceptron on [B, H, W, C]; the output is [B, C, H, W]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, WIDTH, 4, 4), LayerNorm2d(WIDTH))
        self.depthwise = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH)
        self.mix = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.GELU())
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits [B, 3]."""
        x = self.depthwise(self.stem(pixels)).permute(0, 2, 3, 1)
        return self.head(self.mix(x).permute(0, 3, 1, 2).mean((2, 3)))


class Residual(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus the output of the inner layers."""
        return x + self.inner(x)


def value(model: nn.Module, target: Neuron, size: Any) -> tuple[Tensor, Tensor]:
    """Return the score of two images of a size, and the layer's output."""
    classifier = Classifier(model.eval())
    bound = target.bind(classifier)
    response = classifier.respond(torch.rand(2, 3, *size), bound.layers)
    return bound(response), response.activations[target.layer]


@pytest.mark.parametrize(
    "size", [(16, 16), (32, 32), (32, 16), (12, 32)], ids=str
)  # with 32 pixels, sides are as long as channels
@pytest.mark.parametrize("layer", ["norm", "block", "block.inner", "block.inner.2", "head"])
def test_channels_that_come_last_are_found(layer: str, size: tuple[int, int]) -> None:
    got, output = value(seeded(ChannelsLast), Neuron(layer, 2), size)
    assert torch.equal(got, output[..., 2].flatten(1).mean(1) if output.ndim > 2 else output[:, 2])


@pytest.mark.parametrize("size", [(16, 16), (32, 32), (32, 16), (12, 32)], ids=str)
@pytest.mark.parametrize(
    ("layer", "axis"), [("stem", 1), ("stem.1", 1), ("depthwise", 1), ("mix", 3), ("mix.0", 3), ("mix.2", 3)]
)
def test_the_channels_of_a_convnext_are_found(layer: str, axis: int, size: tuple[int, int]) -> None:
    got, output = value(seeded(ConvNext), Neuron(layer, 2), size)
    assert torch.equal(got, output.select(axis, 2).flatten(1).mean(1))


def test_data_format_decides_the_channel_axis() -> None:
    norm = LayerNorm2d(4)
    norm.data_format = "channels_first"
    model = nn.Sequential(nn.Conv2d(3, 4, 1), norm, nn.Flatten(), nn.Linear(64, 2))
    got, output = value(model, Neuron("1", 1), (4, 4))
    assert torch.equal(got, output[:, 1].flatten(1).mean(1))


@pytest.mark.parametrize(
    ("shape", "layout", "axis"),
    [
        ((2, 5), Layout(), 1),
        ((2, 7, 5), Layout(), -1),
        ((2, 5, 7), Layout(units=5), 1),
        ((2, 5, 7, 7), Layout(), 1),
        ((2, 7, 7, 5), Layout(), -1),
        ((2, 6, 7, 5), Layout(units=5), -1),
        ((2, 7, 7, 7), Layout(inside=-1), -1),
        ((2, 7, 7, 7), Layout(), None),
        ((2, 5, 6, 7), Layout(), None),
        ((2, 5, 7, 7), Layout(own=-1), -1),
        ((2, 5, 5, 7), Layout(units=5), None),
    ],
)
def test_kinds_units_and_shape_decide_the_channel_axis(shape: tuple, layout: Layout, axis: int | None) -> None:
    assert channel_axis(shape, layout, (28, 28)) == axis


def test_the_ratio_of_the_picture_decides_the_channel_axis() -> None:
    assert channel_axis((2, 3, 8, 8), Layout(), (12, 32)) == -1
    assert channel_axis((2, 8, 3, 8), Layout(), (12, 32)) == 1
    assert channel_axis((2, 8, 8, 3), Layout(), (32, 32)) == -1


def test_a_channel_axis_that_cannot_be_inferred_must_be_named() -> None:
    model = nn.Sequential(nn.Unflatten(2, (4, 4)), nn.Flatten(1), nn.Linear(48, 2))
    cube = nn.Sequential(nn.Upsample((3, 3)), nn.Identity(), nn.Flatten(), nn.Linear(27, 2))
    with pytest.raises(ValueError, match=r"channel: wanted the axis of the units in the output \[2, 3, 3, 3\] of 1"):
        value(cube, Neuron("1", 0), (3, 3))
    got, output = value(cube, Neuron("1", 0, channel=2), (3, 3))
    assert torch.equal(got, output[:, :, 0].flatten(1).mean(1))
    got, output = value(model, Neuron("0", 3, channel=-2), (16, 1))
    assert torch.equal(got, output.select(-2, 3).flatten(1).mean(1))
    assert Neuron("1", 0, channel=2).describe() == "Neuron(1, 0, channel=2)"


@pytest.mark.parametrize("channel", [4, -4, -5])
def test_an_axis_that_does_not_exist_is_refused(channel: int) -> None:
    with pytest.raises(ValueError, match=r"channel: wanted an axis of the output \[2, 8, 4, 4\]"):
        value(seeded(ConvNext), Neuron("depthwise", 0, channel=channel), (16, 16))


def test_the_batch_axis_is_refused_as_channel() -> None:
    with pytest.raises(ValueError, match="channel: wanted an axis of the output that is not 0"):
        Neuron("a", 0, channel=0)
    with pytest.raises(TypeError, match="channel: wanted a whole number"):
        Neuron("a", 0, channel=True)


def test_an_output_without_one_row_for_each_image_is_refused() -> None:
    windows = nn.Sequential(nn.Unflatten(2, (2, 2)), nn.Flatten(0, 1), nn.Unflatten(0, (-1, 3)), nn.Flatten())
    model = nn.Sequential(windows[0], windows[1], windows[2], windows[3], nn.Linear(48, 2))
    with pytest.raises(ValueError, match=r"output of 1: wanted one row for each of the 2 images first, got .*\[6"):
        value(model, Neuron("1", 0), (4, 4))


@pytest.mark.parametrize(("layer", "unit"), [("norm", 8), ("block", 8), ("head", 3)])
def test_a_unit_that_does_not_exist_is_refused_with_the_range(layer: str, unit: int) -> None:
    with pytest.raises(UnknownNameError, match=rf"unit: wanted one of {unit} units of {layer}.*from 0 to {unit - 1}"):
        value(seeded(ChannelsLast), Neuron(layer, unit), (32, 32))

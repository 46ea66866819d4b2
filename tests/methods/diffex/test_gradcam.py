"""Grad-CAM: its values, the layer that is chosen, and its place in an attribution."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import diffexplain_fast as dx
from diffexplain_fast.errors import CorruptFileError, UnknownNameError
from diffexplain_fast.storage import load_tensors, save_tensors_atomic, write_manifest
from tests.methods.diffex.worlds import pictures, quick_attribution
from tests.tiny import LABELS, tiny_classifier

pytest.importorskip("captum")


class Pooled(nn.Module):
    """A convolution, its mean over places, and logits: Grad-CAM of a class is then the map of its weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.features = nn.Conv2d(3, 5, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(5, 4)

    def map(self, pixels: Tensor) -> Tensor:
        """Return what is averaged over places, [B, 5, H, W]."""
        return self.features(pixels)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Return logits [B, 4] in a dict."""
        return {"logits": self.head(self.pool(self.map(pixels)).flatten(1))}


def wanted_of(model: Pooled, pixels: Tensor, index: int) -> np.ndarray:
    """Return the rectified sum of channels by the weights of a class, each picture's largest value 1."""
    found = torch.einsum("bkhw,k->bhw", model.map(pixels), model.head.weight[index]).clamp_min(0)
    return (found / found.amax((1, 2), keepdim=True).clamp_min(1e-9)).detach().numpy()


def test_the_map_is_that_of_the_class_weights_where_a_mean_over_places_follows() -> None:
    model, pixels = Pooled(), pictures(3)
    classifier = dx.Classifier(model, labels=LABELS)
    for index, label in enumerate(LABELS):
        found = dx.maps.gradcam(classifier, pixels, label)
        assert found.dtype == np.float32 and found == pytest.approx(wanted_of(model, pixels, index), abs=1e-5)
    contrast = dx.maps.gradcam(classifier, pixels, f"logit:{LABELS[0]} - logit:{LABELS[1]}", layer="features")
    model.head.weight.data[0] -= model.head.weight.data[1]
    assert contrast == pytest.approx(wanted_of(model, pixels, 0), abs=1e-5)


def test_a_picture_in_which_nothing_speaks_for_the_target_has_zeros() -> None:
    model = Pooled()
    model.features.weight.data.zero_()
    model.features.bias.data.zero_()
    assert not dx.maps.gradcam(dx.Classifier(model, labels=LABELS), pictures(), 0).any()


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (pictures().numpy(), "a tensor .*, got ndarray"),
        (None, "a tensor .*, got NoneType"),
        (pictures() * 255, "values in .*, got 0.* to 25"),
        (pictures() * float("nan"), "values in .*, got nan to nan"),
    ],
)
def test_pixels_that_are_no_pictures_are_refused(pixels: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"pixels: wanted {message}"):
        dx.maps.gradcam(dx.Classifier(Pooled(), labels=LABELS), pixels, 0)


def test_a_smaller_layer_is_resized_and_the_models_are_as_they_were() -> None:
    model = tiny_classifier().train()
    hooks = [len(module._forward_hooks) for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        found = dx.maps.gradcam(dx.Classifier(model, labels=LABELS), pictures(), "boat")
    assert found.shape == (2, 16, 16) and 0 <= found.min() <= found.max() <= 1
    assert model.training and hooks == [len(module._forward_hooks) for module in model.modules()]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(value.grad is None for value in model.parameters())


@pytest.mark.parametrize(
    ("model", "layer", "error", "message"),
    [
        (Pooled(), "feature", UnknownNameError, "features"),
        (Pooled(), "pool", ValueError, r"layer: wanted one that returns a tensor \[B, C, h, w\].* got pool"),
        (nn.Sequential(nn.Flatten(), nn.Linear(768, 4)), None, ValueError, "none of this model"),
        (lambda pixels: pixels.mean((2, 3)).repeat(1, 2)[:, :4], None, TypeError, "a Classifier of a module"),
    ],
)
def test_a_layer_without_places_is_refused(model: Any, layer: str | None, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        dx.maps.gradcam(dx.Classifier(model, labels=LABELS, output="softmax"), pictures(), 0, layer)


class Twice(Pooled):
    """A layer that works in place, and one that does not reach the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.relu, self.aside = nn.ReLU(inplace=True), nn.Conv2d(5, 2, 3, padding=1)

    def map(self, pixels: Tensor) -> Tensor:
        """Return what is averaged over places, and compute what nobody uses."""
        found: Tensor = self.relu(self.features(pixels))
        self.aside(found)
        return found


def test_the_layer_is_the_last_through_which_the_score_passes() -> None:
    model, pixels = Twice(), pictures(3)
    classifier = dx.Classifier(model, labels=LABELS)
    assert dx.maps.gradcam(classifier, pixels, 1) == pytest.approx(wanted_of(model, pixels, 1), abs=1e-5)
    for layer in ("features", "aside"):  # a neuron's own layer: the map of its channel
        found = dx.maps.gradcam(classifier, pixels, f"neuron:{layer}:1")
        own = classifier.respond(pixels, [layer]).activations[layer][:, 1].clamp_min(0)
        assert found == pytest.approx((own / own.amax((1, 2), keepdim=True)).detach().numpy(), abs=1e-5)
        assert found == pytest.approx(dx.maps.gradcam(classifier, pixels, f"neuron:{layer}:1", layer), abs=1e-6)


def test_an_attribution_of_an_early_neuron_has_its_map_too() -> None:
    result = quick_attribution(Twice(), target="neuron:features:2", gradcam=True, budget="3000 rows")
    assert result.gradcam is not None and result.gradcam.any()
    with pytest.raises(ValueError, match=r"^layer: wanted one with a map"):
        quick_attribution(Twice(), target=lambda response: response.pixels.mean((1, 2, 3)), gradcam=True)


@pytest.mark.parametrize(
    ("target", "layer", "got"),
    [
        (lambda response: response.pixels.mean((1, 2, 3)), None, "none of this model"),
        (lambda response: response.pixels.mean((1, 2, 3)), "features", "features"),
        (lambda response: torch.zeros(len(response.pixels)), None, "none of this model"),
        ("logit:boat", "aside", "aside"),
        ("neuron:features:2", "aside", "aside"),
    ],
)
def test_a_layer_that_the_score_does_not_pass_is_named(target: Any, layer: str | None, got: str) -> None:
    with pytest.raises(ValueError, match=rf"^layer: wanted one with a map .* the target's score passes, got {got}"):
        dx.maps.gradcam(dx.Classifier(Twice(), labels=LABELS), pictures(), target, layer)


def test_an_attribution_keeps_it_and_the_report_shows_it(tmp_path: Path) -> None:
    result = quick_attribution(Pooled(), target=0, gradcam=True, budget="3000 rows")
    assert result.gradcam is not None and result.gradcam.shape == (2, 16, 16)
    assert quick_attribution(Pooled(), target=0, budget="3000 rows").gradcam is None
    named = quick_attribution(Pooled(), target=0, gradcam="features", budget="3000 rows")
    assert np.array_equal(named.gradcam, result.gradcam)
    loaded = dx.Attribution.load(result.save(tmp_path / "kept"))
    assert np.array_equal(loaded.gradcam, result.gradcam)
    page = loaded.report(tmp_path / "page.html").read_text()
    assert page.count("with its Grad-CAM") == 2 and "Where the last layer" in page
    with pytest.raises(TypeError, match="gradcam: wanted True, False or the name of a layer, got"):
        quick_attribution(Pooled(), target=0, gradcam=1)
    with pytest.raises(ValueError, match="gradcam: wanted True, False or the name of a layer, got an empty name"):
        quick_attribution(Pooled(), target=0, gradcam="")


def test_a_map_of_another_size_is_a_corrupt_file(tmp_path: Path) -> None:
    folder = quick_attribution(Pooled(), target=0, gradcam=True).save(tmp_path / "kept")
    tensors = load_tensors(folder / "pictures.safetensors")
    save_tensors_atomic(folder / "pictures.safetensors", tensors | {"gradcam": torch.zeros(2, 3, 16)})
    write_manifest(folder)
    with pytest.raises(CorruptFileError, match="gradcam: wanted float32"):
        dx.Attribution.load(folder)

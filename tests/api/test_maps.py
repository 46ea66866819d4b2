"""Maps and scores for other tools: their values, and quantus and captum themselves where they are installed."""

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import diffexplain_fast as dx
from diffexplain_fast.api import maps
from diffexplain_fast.results.effects import Edit
from tests.methods.diffex.test_captions import FULL
from tests.methods.diffex.worlds import CAPTIONS, pictures, quick_attribution
from tests.tiny import LABELS, tiny_classifier, tiny_sd

OWN: dict[str, Any] = {"taxonomy": {"ground": ["snow", "desert"]}, "beam_width": 1}


def needs(library: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(library) is None, reason=f"{library} is not installed")


def maps_of(inputs: Tensor, targets: list[int], model: nn.Module | None = None, **options: Any) -> np.ndarray:
    """Return maps of a tiny classifier."""
    model = tiny_classifier() if model is None else model
    settings = {"pipeline": tiny_sd(), "labels": LABELS, "captions": CAPTIONS[: len(inputs)], **OWN, **options}
    return maps.explain_func(model, inputs.numpy(), np.array(targets), **settings)


def test_a_map_spreads_the_drop_of_each_edit_over_the_pixels_that_it_changes() -> None:
    result = quick_attribution(images=pictures(1), **OWN)
    black, half = Image.new("RGB", (2, 1)), Image.new("RGB", (2, 1))
    half.putpixel((1, 0), (10, 20, 30))
    whole = Image.new("RGB", (2, 1), (5, 5, 5))
    result.images = [black]
    result.found = {0: [Edit(half, True, -3.0, ("a",)), Edit(whole, True, 1.0, ("b",))]}
    # The first edit's drop of 3 lies in the second pixel; that of -1 is shared by both; the map is their mean.
    assert result.map() == pytest.approx(np.array([[-0.25, 1.25]]))
    result.found[0] += [Edit(half, False, -99.0, ("c",)), Edit(half, True, -99.0, ("a", "b"))]
    assert result.map() == pytest.approx(np.array([[-0.25, 1.25]]))  # neither what failed nor a pair counts
    result.found[0] = [Edit(half, False, -3.0, ("a",))]
    assert result.map() == pytest.approx(np.array([[0.0, 3.0]]))
    result.found[0] = []
    with pytest.raises(ValueError, match="image: wanted a picture with edits"):
        result.map()


def test_a_map_is_that_of_the_attribution_for_each_pictures_own_target() -> None:
    found = maps_of(pictures(), [1, 0])
    assert found.shape == (2, 1, 16, 16) and found.dtype == np.float32
    for place, target in ((0, 1), (1, 0)):
        own = quick_attribution(images=pictures()[[place]], target=target, captions=[CAPTIONS[place]], **OWN)
        assert found[place, 0] == pytest.approx(own.map(), abs=1e-6)


def test_a_picture_that_shows_all_concepts_already_has_zeros_and_the_others_keep_their_maps() -> None:
    snow, desert = CAPTIONS
    options: dict[str, Any] = {"taxonomy": {"ground": ["snow"]}, "captions": [snow, desert, snow]}
    with pytest.warns(UserWarning, match=r"^inputs: wanted pictures that do not .* maps are 0: 0, 2$"):
        found = maps_of(pictures(3), [0, 1, 1], **options)
    assert not found[[0, 2]].any() and found[1].any()
    lone: dict[str, Any] = {**OWN, **options, "captions": [desert]}
    own = quick_attribution(images=pictures(3)[[1]], target=1, **lone)
    assert found[1, 0] == pytest.approx(own.map(), abs=1e-6)


@pytest.mark.filterwarnings("ignore:captions")
@pytest.mark.parametrize(
    "options",
    [{"budget": 40}, {"captions": [CAPTIONS[0], FULL], "taxonomy": {"ground": ["desert"]}}],
    ids=["budget", "captions"],
)
def test_a_picture_of_which_something_else_prevents_an_edit_has_no_map_that_reads_as_zero(options: Any) -> None:
    with pytest.warns(UserWarning, match=r"^inputs: wanted pictures of which the budget .* maps are NaN: 1$"):
        found = maps_of(pictures(), [1, 1], **options)
    assert np.isfinite(found[0]).all() and found[0].any() and np.isnan(found[1]).all()


@pytest.mark.parametrize("kind", [str, Path])
def test_a_pipeline_that_is_read_is_read_on_the_models_device(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def loading(source: object, device: object = None) -> None:
        asked.append(device)
        raise LookupError(source)

    monkeypatch.setattr("diffexplain_fast.api.maps.load_pipeline", loading)
    with pytest.raises(LookupError):
        maps_of(pictures(), [1, 0], pipeline=kind("folder"))
    assert asked == [torch.device("cpu")]


def test_inputs_may_be_normalised_and_larger_than_the_pipelines_pictures() -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)
    centre, spread = (torch.tensor(part).view(3, 1, 1) for part in (mean, std))

    class Halved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = tiny_classifier()

        def forward(self, inputs: Tensor) -> Tensor:
            assert inputs.shape[-1] == 32
            return self.model((inputs * spread + centre)[..., ::2, ::2])

    class Enlarged(Halved):
        def forward(self, pixels: Tensor) -> Tensor:
            large = nn.functional.interpolate(pixels, (32, 32), mode="bilinear", antialias=True)
            return super().forward((large - centre) / spread)

    large = pictures(1).repeat_interleave(2, -1).repeat_interleave(2, -2)
    found = maps_of((large - centre) / spread, [1], Halved(), mean=mean, std=std)
    own = quick_attribution(Enlarged(), large, 1, **OWN).map()
    assert found.shape == (1, 1, 32, 32)
    assert found.reshape(16, 2, 16, 2).sum((1, 3)) == pytest.approx(own, abs=1e-5)


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (torch.zeros(2, 1, 16, 16), [0, 1], "inputs: wanted pictures"),
        (torch.zeros(2, 3, 16, 16), [0], "targets: wanted 2 class indices"),
        (torch.zeros(2, 3, 16, 16), [0.5, 1.0], "targets: wanted 2 class indices"),
        (torch.zeros(2, 3, 16, 16) - 2.1, [0, 1], "inputs: wanted pictures that mean= and std="),
        (torch.zeros(2, 3, 16, 24), [0, 1], "inputs: wanted pictures with the ratio"),
    ],
)
def test_what_is_wrong_with_arrays_is_said(inputs: Tensor, targets: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        maps_of(inputs, targets)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"captions": CAPTIONS[:1]}, "captions: wanted 2, one for each picture, got 1"),
        ({"captions": [*CAPTIONS, "a tree"]}, "captions: wanted 2, one for each picture, got 3"),
        ({"captions": "ab"}, "captions: wanted a sequence"),
        ({"mean": (0.5,)}, "mean: wanted three finite numbers"),
        ({"mean": "abc"}, "mean: wanted an array of numbers"),
        ({"mean": (0.5, 0.5, float("nan"))}, "mean: wanted three finite numbers"),
        ({"std": (0.0, 1.0, 1.0)}, "std: wanted three numbers that are not 0"),
        ({"device": "nowhere"}, "device: wanted"),
        ({"model": tiny_classifier().forward}, "model: wanted a module"),
    ],
)
def test_what_is_wrong_with_the_arguments_of_a_map_is_said_before_a_picture_is_edited(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        maps_of(pictures(), [0, 1], **options)


def test_arrays_of_other_kinds_are_read_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"pipeline": tiny_sd(), "labels": LABELS, "captions": CAPTIONS, **OWN}
    result = quick_attribution(**OWN)
    monkeypatch.setattr(dx.Explainer, "attribute", lambda *_, **__: result)
    usual = maps.explain_func(tiny_classifier(), pictures().numpy(), np.array([1, 1]), **options)
    for given in (pictures().requires_grad_(), pictures().flip(2).numpy()[:, :, ::-1]):
        assert (maps.explain_func(tiny_classifier(), given, [1, 1], **options) == usual).all()
    for kind in ("c8", "U1", object):
        with pytest.raises(ValueError, match="inputs: wanted an array of numbers, got one of"):
            maps.explain_func(tiny_classifier(), pictures().numpy().astype(kind), [1, 1], **options)
    with pytest.raises(ValueError, match="inputs: wanted an array of numbers"):
        maps.explain_func(tiny_classifier(), [[1], [1, 2]], [1, 1], **options)
    monkeypatch.setattr(dx.Explainer, "attribute", lambda *_, **__: pytest.fail("a picture was edited"))
    with pytest.raises(ValueError, match="label: wanted an index from 0 to 3, got 9"):
        maps.explain_func(tiny_classifier(), pictures(), [1, 9], **options)


def test_scores_of_a_target_have_its_values_and_gradients() -> None:
    classifier = dx.Classifier(tiny_classifier(), labels=LABELS)
    pixels = pictures().requires_grad_()
    found = maps.scores(classifier, "logit:fish - 2*logit:boat")(pixels)
    logits = classifier(pixels)
    assert found.tolist() == pytest.approx((logits[:, 1] - 2 * logits[:, 0]).tolist())
    found.sum().backward()
    assert float(pixels.grad.abs().sum()) > 0
    with pytest.raises(TypeError, match="classifier: wanted a Classifier"):
        maps.scores(tiny_classifier(), "fish")  # type: ignore[arg-type]


@needs("captum")
def test_targets_are_what_captum_calls_by_target_and_neuron_selector() -> None:
    from captum.attr import NeuronGradient, Saliency

    model, pixels = tiny_classifier(), pictures()
    classifier = dx.Classifier(model, labels=LABELS)
    names = [name for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d)]
    layer = names[-1]

    def saliency(target: object) -> Tensor:
        asked = pixels.clone().requires_grad_()
        return Saliency(maps.scores(classifier, target)).attribute(asked, abs=False)

    def theirs(selector: tuple[int, ...]) -> Tensor:
        captum = NeuronGradient(model, model.get_submodule(layer))
        return captum.attribute(pixels.clone().requires_grad_(), neuron_selector=selector)

    with warnings.catch_warnings():  # captum says which inputs it makes differentiable
        warnings.simplefilter("ignore")
        logit = Saliency(model).attribute(pixels.clone().requires_grad_(), target=1, abs=False)
        assert torch.allclose(saliency("logit:fish"), logit, atol=1e-6)
        assert torch.allclose(saliency(f"neuron:{layer}:2,1,3"), theirs((2, 1, 3)), atol=1e-6)
        assert not torch.allclose(saliency(f"neuron:{layer}:2,3,1"), theirs((2, 1, 3)), atol=1e-6)


@needs("quantus")
def test_quantus_measures_our_maps() -> None:
    import quantus

    model, pixels = tiny_classifier(), pictures()
    options = {"pipeline": tiny_sd(), "labels": LABELS, "captions": CAPTIONS, **OWN}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metric = quantus.Complexity(normalise=False, abs=True, disable_warnings=True)
        found = metric(
            model=model,
            x_batch=pixels.numpy(),
            y_batch=np.array([1, 0]),
            a_batch=None,
            explain_func=maps.explain_func,
            explain_func_kwargs=options,
            device="cpu",
        )
    shares = np.abs(maps_of(pixels, [1, 0])).reshape(2, -1).astype(np.float64)
    shares /= shares.sum(1, keepdims=True)
    assert found == pytest.approx((-shares * np.log(shares + 1e-12)).sum(1), rel=1e-3)

"""Everything that the arguments of an audit can do wrong is said before a picture is drawn or a prompt is searched."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diffexplain_fast.api.explainer import Explainer
from diffexplain_fast.evidence.drawing import Drawing
from diffexplain_fast.methods.discovery import screen
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.loading import load_pipeline
from tests.api.test_intervening import marked
from tests.auditing import QUICK, TINY_GROUPS
from tests.tiny import LABELS, tiny_classifier, tiny_sd

PIXELS = torch.rand(16, 3, 16, 16, generator=torch.Generator().manual_seed(0))
WORDS = ["boat", "fish", "tree", "house", "red", "blue"]
MANY = [*WORDS, "desert", "snow", "a photo", "of the"]


def fails(picture: Tensor) -> Tensor:
    """Be an intervention that fails."""
    raise RuntimeError("no mark")


def same(picture: Tensor) -> Tensor:
    """Change nothing."""
    return picture


def look(pixels: Tensor) -> np.ndarray:
    """See the first concept of four in every picture."""
    return np.tile([1.0, 0.0, 0.0, 0.0], (len(pixels), 1))


def masks(kind: torch.dtype) -> Callable[..., Tensor]:
    """Return a segmenter of another kind of masks."""
    return lambda pixels, texts: torch.zeros(len(pixels), 1, *pixels.shape[2:], dtype=kind)


def test_a_checkpoint_of_another_spacing_is_refused(tmp_path: Path) -> None:
    pipe = tiny_sd()
    quick = {"num_inference_steps": 2, "guidance_scale": 1.0, "iterations": 1, "n_images": 1, "n_score": 1}
    with Explainer(pipe, Classifier(tiny_classifier(), labels=LABELS)) as explainer:
        explainer.explain("boat", start="boat", checkpoint=tmp_path, **quick)
        pipe.scheduler.register_to_config(timestep_spacing="trailing")
        with pytest.raises(ValueError, match=r"checkpoint: wanted a run of the same configuration.*spacing"):
            explainer.explain("boat", start="boat", checkpoint=tmp_path, **quick)
        with pytest.raises(TypeError, match="checkpoint: wanted a path, as text or as a Path, got int"):
            explainer.explain("boat", start="boat", checkpoint=3, **quick)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "weights": ({"weights": {"backgrond": {"desert": 0.5}}}, "weights: wanted one of 2 known names"),
    "weights that leave too few": ({"weights": {"colour": {"red": 0.9}}}, "weights: wanted an effective number"),
    "clusters of another number": (
        {"images": PIXELS, "clusters": [1, 2], "interventions": {"mark": marked}},
        "clusters: wanted 16, one for every picture of images, got 2",
    ),
    "clusters without interventions": ({"images": PIXELS, "clusters": [1, 2]}, "clusters: wanted 16"),
    "one cluster": ({"images": PIXELS, "clusters": [1] * 16}, "clusters: wanted at least two clusters"),
    "clusters without images": ({"clusters": [1, 2]}, "clusters: wanted None without images"),
    "an intervention that fails": ({"interventions": {"mark": fails}}, "interventions, mark: wanted a function"),
    "one that changes nothing": (
        {"images": PIXELS, "interventions": {"mark": same}},
        "interventions, mark: wanted a function that changes pictures",
    ),
    "an eye of other concepts": ({"eye": lambda pixels: np.ones((len(pixels), 3))}, r"eye: wanted .* got \[1, 3\]"),
    "an eye of probabilities": ({"eye": lambda pixels: np.full((len(pixels), 4), 0.3)}, "eye: wanted .* from 0.3 to"),
    "an eye of text": ({"eye": lambda pixels: "desert"}, "eye: wanted a function that returns 1, 0 or NaN .* got str"),
    "redraw without an eye": ({"redraw": 1, "eye": None}, "redraw: wanted 0 without an eye"),
    "a segmenter of probabilities": (
        {"images": PIXELS, "eye": look, "segmenter": masks(torch.float32)},
        r"segmenter: wanted a function that returns bool \[1, 1, 16, 16\], got torch.float32",
    ),
    "an unknown explanation": ({"explain": {}, "targets": ["fsh"]}, "label: wanted one of 4 known names"),
    "more terms than pictures": (
        {"concepts": {"first": MANY, "second": MANY, "third": MANY}},
        "pictures: wanted more than 31, one a term of these concepts; .* got 24",
    ),
    "a label that no caption has room for": (
        {"concepts": {"background": ["desert", "snow"]}, "own_pictures": 24, "label": " ".join(["tree"] * 74)},
        "concepts: wanted captions of at most",
    ),
}  # fmt: skip


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that is given a word for everything that is drawn or searched, and stop there."""
    found: list[str] = []

    def images(*arguments: object, **options: object) -> Tensor:
        found.append("a picture")
        raise AssertionError("a picture was drawn")

    def explain(*arguments: object, **options: object) -> None:
        found.append("a search")
        raise AssertionError("a prompt was searched")

    monkeypatch.setattr(Drawing, "images", images)
    monkeypatch.setattr(Explainer, "explain", explain)
    return found


def refused(folder: Path, error: type[Exception], message: str, label: str = "boat", **options: Any) -> None:
    """Ask for an audit that is to be refused."""
    classifier = Classifier(tiny_classifier(), labels=[label, *LABELS[1:]])
    with Explainer(load_pipeline(tiny_sd()), classifier) as explainer, pytest.raises(error, match=message):
        explainer.audit(**{"concepts": TINY_GROUPS, "pool": folder, **QUICK, **options})


@pytest.mark.parametrize("name", REFUSED)
def test_bad_arguments_are_refused_first(tmp_path: Path, drawn: list[str], name: str) -> None:
    options, message = REFUSED[name]
    refused(tmp_path, ValueError, message, **{"explain": True, **options})
    assert not drawn


@pytest.mark.parametrize("name", ["weights", "redraw without an eye"])
def test_they_are_refused_before_a_screening_too(
    tmp_path: Path, drawn: list[str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screen, "MOST", 5)
    options, message = REFUSED[name]
    message = "weights: wanted None, because free words" if name == "weights" else message
    refused(tmp_path, ValueError, message, **{**options, "concepts": WORDS})
    assert not drawn


def test_a_missing_package_is_said_first(tmp_path: Path, drawn: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "statsmodels", None)
    options = {"images": PIXELS, "eye": look, "segmenter": masks(torch.bool)}
    refused(tmp_path, ImportError, "audits of own pictures need statsmodels", **options)
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    refused(tmp_path, ImportError, "audits of own pictures need statsmodels", images=PIXELS, eye=look)
    assert not drawn


def test_a_pool_is_a_folder(tmp_path: Path, drawn: list[str]) -> None:
    refused(tmp_path, TypeError, "pool: wanted a path, as text or as a Path, got int", pool=3)
    assert not drawn

"""Outputs, channels, sizes and names in a classifier folder, which are checked when it is loaded."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import ResNetConfig, ResNetForImageClassification

from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.targets import ClassProbability
from tests.models.saved_classifiers import AS_THEY_ARE, NAMES, RESNET, STEPS, edit_json, pixels
from tests.tiny import LABELS, seeded


def test_the_problem_type_of_a_folder_decides_the_kind_of_output(copy: Path) -> None:
    edit_json(copy / "config.json", problem_type="multi_label_classification")
    classifier = Classifier.from_pretrained(copy)
    assert classifier.output == "sigmoid"
    response = classifier.respond(pixels())
    p = ClassProbability("fish").bind(classifier)(response).exp()
    assert torch.allclose(p, classifier.model(pixels()).logits[:, LABELS.index("fish")].sigmoid())
    assert Classifier.from_pretrained(copy, output="softmax").output == "softmax"


def test_a_folder_of_grey_pictures_is_refused_when_loaded(tmp_path: Path) -> None:
    config = ResNetConfig(**RESNET, **NAMES, num_channels=1)
    seeded(lambda: ResNetForImageClassification(config)).save_pretrained(tmp_path)
    edit_json(tmp_path / STEPS, **AS_THEY_ARE)
    with pytest.raises(ValueError, match=r"classifier: wanted three channels, .* got num_channels 1 in"):
        Classifier.from_pretrained(tmp_path)


def test_a_processor_of_another_size_than_the_model_is_refused_when_loaded(saved: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved / "vit", tmp_path / "vit"))
    edit_json(folder / STEPS, size=16)
    with pytest.raises(ValueError, match=r"wanted a model that takes pixels \[3, 16, 16\], as preprocessor_config"):
        Classifier.from_pretrained(folder)


@pytest.mark.parametrize("names", [list(LABELS), {str(i): LABELS[i] for i in (3, 1, 0, 2)}], ids=["list", "dict"])
def test_names_as_a_list_or_in_any_order(copy: Path, names: Any) -> None:
    edit_json(copy / "config.json", id2label=names)
    assert Classifier.from_pretrained(copy).labels == LABELS


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"do_center_crop": True}, "crop_size: wanted height and width, because do_center_crop is true, got None"),
        ({"image_mean": None}, "image_mean: wanted a number, or one for each of three channels, got None"),
        ({"image_mean": [0.5, 0.5]}, r"image_mean: wanted .*, got \[0.5, 0.5\]"),
        ({"image_std": [0, 0, 0]}, r"image_std: wanted .*, got \[0, 0, 0\]"),
        ({"rescale_factor": 0}, "rescale_factor: wanted a number above 0, got 0"),
    ],
)
def test_a_value_of_a_processor_is_named_with_its_file(copy: Path, changes: dict, message: str) -> None:
    edit_json(copy / STEPS, do_normalize=True, **changes)
    with pytest.raises(ValueError, match=f"{copy / STEPS} {message}"):
        Classifier.from_pretrained(copy)


@pytest.mark.parametrize(("name", "changes"), [(STEPS, {"size": "x"}), ("config.json", {"hidden_sizes": "x"})])
def test_a_value_that_transformers_does_not_take_is_refused(copy: Path, name: str, changes: dict) -> None:
    edit_json(copy / name, **changes)
    with pytest.raises(ValueError, match=rf"^classifier: wanted a {name} .*, got {copy}: \w+: "):
        Classifier.from_pretrained(copy)


def test_a_model_that_returns_tuples_is_read(copy: Path) -> None:
    expected = Classifier.from_pretrained(copy)(pixels())
    edit_json(copy / "config.json", return_dict=False)
    assert torch.equal(Classifier.from_pretrained(copy)(pixels()), expected)

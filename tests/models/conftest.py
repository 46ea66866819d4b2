"""Saved classifiers for all tests of models."""

import shutil
from pathlib import Path

import pytest
from transformers import ResNetConfig, ResNetForImageClassification, ResNetModel, ViTConfig, ViTForImageClassification

from tests.models.saved_classifiers import AS_THEY_ARE, NAMES, RESNET, STEPS, VIT, edit_json
from tests.tiny import seeded


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Classifiers of two kinds, and a backbone without a head."""
    folder = tmp_path_factory.mktemp("classifiers")
    seeded(lambda: ResNetForImageClassification(ResNetConfig(**RESNET, **NAMES))).save_pretrained(folder / "resnet")
    vit = ViTConfig(**VIT, image_size=12, num_labels=3)
    seeded(lambda: ViTForImageClassification(vit)).save_pretrained(folder / "vit")
    for name, steps in (("resnet", AS_THEY_ARE), ("vit", {**AS_THEY_ARE, "do_resize": True, "size": 12})):
        edit_json(folder / name / STEPS, **steps)
    seeded(lambda: ResNetModel(ResNetConfig(**RESNET))).save_pretrained(folder / "backbone")
    return folder


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    """A saved ResNet that a test may damage."""
    return Path(shutil.copytree(saved / "resnet", tmp_path / "resnet"))

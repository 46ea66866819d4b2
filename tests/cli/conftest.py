"""Saved models, which the tests of the commands share."""

import pytest
from transformers import ResNetConfig, ResNetForImageClassification

from tests.models.saved_classifiers import NAMES, RESNET, STEPS, edit_json
from tests.tiny import seeded, tiny_sd

_PREPROCESS = {
    "image_processor_type": "ViTImageProcessor",
    "do_resize": True,
    "size": {"height": 16, "width": 16},
    "do_normalize": True,
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
    "do_rescale": True,
}


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Return the folders of a classifier and of a pipeline, in their public formats."""
    folder = tmp_path_factory.mktemp("models")
    config = ResNetConfig(**RESNET, **NAMES)
    seeded(lambda: ResNetForImageClassification(config)).save_pretrained(folder / "classifier")
    edit_json(folder / "classifier" / STEPS, **_PREPROCESS)
    tiny_sd().save_pretrained(folder / "pipeline")
    return str(folder / "classifier"), str(folder / "pipeline")

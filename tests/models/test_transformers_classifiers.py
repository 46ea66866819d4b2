"""Classifier folders saved and loaded offline, and every folder that must be refused before anything is read."""

import importlib.util
import pickle
import shutil
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    GPT2Config,
    ResNetForImageClassification,
)
from transformers.utils import logging
from transformers.utils.import_utils import DummyObject

from diffexplain_fast.errors import CorruptFileError, UnsafeFileError
from diffexplain_fast.models import transformers_classifiers
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.preprocess import Preprocess
from diffexplain_fast.targets import ClassLogit, Neuron
from tests.models.saved_classifiers import STEPS, VIT, WEIGHTS, edit_json, pixels
from tests.tiny import LABELS, seeded


class Bomb:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_a_saved_resnet_loads(saved: Path, capfd: pytest.CaptureFixture[str]) -> None:
    level = logging.get_verbosity(), logging.is_progress_bar_enabled()
    classifier = Classifier.from_pretrained(saved / "resnet")
    assert (classifier.name, classifier.labels, classifier.preprocess) == ("resnet", LABELS, Preprocess())
    assert classifier.device == torch.device("cpu") and classifier.truth is None
    model = ResNetForImageClassification.from_pretrained(saved / "resnet").eval()
    assert torch.equal(classifier(pixels()), model(pixels()).logits)
    assert not classifier.model.training
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == level
    assert classifier.fingerprint() == Classifier.from_pretrained(str(saved / "resnet")).fingerprint()
    assert "Warning" not in "".join(capfd.readouterr())


def test_a_folder_with_weights_of_one_variant_is_read(saved: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved / "resnet", tmp_path / "resnet"))
    (folder / WEIGHTS).rename(folder / WEIGHTS.replace(".safetensors", ".fp16.safetensors"))
    assert (
        Classifier.from_pretrained(folder).fingerprint() == Classifier.from_pretrained(saved / "resnet").fingerprint()
    )


def test_targets_work_on_a_loaded_classifier(saved: Path) -> None:
    for folder, target in (
        ("resnet", ClassLogit("fish") + Neuron("resnet.encoder.stages.1", 11)),
        ("vit", ClassLogit(2) + Neuron("vit.layers.1", 7)),
    ):
        classifier = Classifier.from_pretrained(saved / folder)
        bound = target.bind(classifier)
        x = pixels().requires_grad_()
        score = bound(classifier.respond(x, bound.layers))
        assert score.shape == (2,) and torch.autograd.grad(score.sum(), x)[0].abs().sum() > 0


def test_a_hub_id_is_read_from_the_cache(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / "models--someone--tiny"
    snapshot = Path(shutil.copytree(saved / "resnet", repository / "snapshots" / ("0" * 40)))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    classifier = Classifier.from_pretrained("someone/tiny", local_files_only=True)
    assert classifier.name == "someone/tiny"
    assert classifier.fingerprint() == Classifier.from_pretrained(saved / "resnet").fingerprint()
    (snapshot / WEIGHTS).rename(snapshot / "pytorch_model.bin")
    with pytest.raises(UnsafeFileError, match="only pickled ones"):
        Classifier.from_pretrained("someone/tiny", local_files_only=True)
    with pytest.raises(OSError, match="cache"):
        Classifier.from_pretrained("someone/else", local_files_only=True)


def test_a_classifier_is_loaded_in_a_dtype_on_a_device(saved: Path) -> None:
    classifier = Classifier.from_pretrained(saved / "resnet", dtype=torch.float64, device="cpu")
    assert classifier(pixels().double()).dtype == torch.float64
    with pytest.raises(TypeError, match="dtype: wanted a floating point"):
        Classifier.from_pretrained(saved / "resnet", dtype=torch.int8)


def test_a_folder_without_names_and_processor_is_refused(saved: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved / "vit", tmp_path / "vit"))
    (folder / STEPS).unlink()
    with pytest.raises(ValueError, match=r"classifier: wanted a preprocessor_config\.json, .* got none in"):
        Classifier.from_pretrained(folder)


def test_a_folder_without_a_processor_warns_of_its_models_input(copy: Path) -> None:
    (copy / STEPS).unlink()
    with pytest.warns(
        UserWarning, match=r"wanted a preprocessor_config\.json, .* pixels in \[0, 1\] of their own size"
    ):
        classifier = Classifier.from_pretrained(copy)
    assert classifier.preprocess is None
    edit_json(copy / "config.json", image_size=12)
    with pytest.warns(UserWarning, match="of 12 x 12, which is wrong if it normalises them") as said:
        assert Classifier.from_pretrained(copy).preprocess == Preprocess(size=(12, 12))
    assert [one.filename for one in said] == [__file__]


def test_a_folder_without_names_has_no_labels(saved: Path) -> None:
    classifier = Classifier.from_pretrained(saved / "vit")
    assert classifier.preprocess == Preprocess(size=(12, 12))
    assert classifier.labels is None, "LABEL_0 is no name"
    assert classifier(pixels(40)).shape == (2, 3)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"image_processor_type": "ViTImageProcessor", "size": {"height": 20, "width": 24}, "resample": 3},
            Preprocess((20, 24), "bicubic", mean=(0.5,) * 3, std=(0.5,) * 3),
        ),
        (
            {"feature_extractor_type": "DeiTFeatureExtractor", "size": 20, "crop_size": 18, "do_normalize": False},
            Preprocess((20, 20), "bicubic", crop=(18, 18)),
        ),
        (
            {"feature_extractor_type": "ConvNextFeatureExtractor", "size": 14, "crop_pct": 0.7, "do_normalize": False},
            Preprocess(20, "bicubic", crop=(14, 14)),
        ),
        ({"image_processor_type": "ViTImageProcessorFast", "do_resize": False, "do_normalize": False}, Preprocess()),
    ],
    ids=["size", "old", "resnet", "none"],
)
def test_the_preprocessing_of_a_folder(copy: Path, settings: dict, expected: Preprocess) -> None:
    (copy / STEPS).unlink()
    edit_json(copy / STEPS, **settings)
    classifier = Classifier.from_pretrained(copy)
    assert classifier.preprocess == expected
    assert torch.equal(classifier(pixels()), classifier.model(expected(pixels())).logits)


def test_a_folder_is_loaded_where_transformers_asks_for_torchvision(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class AutoImageProcessor(
        metaclass=DummyObject
    ):  # the object with this name in transformers 5.17 without torchvision
        _backends: ClassVar = ["torchvision"]

    monkeypatch.setattr(transformers, "AutoImageProcessor", AutoImageProcessor)
    monkeypatch.setattr("transformers.utils.import_utils.is_torchvision_available", lambda: False)
    spec = importlib.util.spec_from_file_location("loaded_again", transformers_classifiers.__file__)
    assert spec and spec.loader
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    edit_json(copy / STEPS, image_processor_type="ViTImageProcessor", do_resize=True, size=20)
    parts = loaded.load_transformers(copy, revision=None, local_files_only=True)
    assert parts.preprocess.size == (20, 20)


def test_a_pickle_is_refused_and_never_read(copy: Path) -> None:
    (copy / WEIGHTS).unlink()
    exploded = copy / "exploded"
    (copy / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(exploded)))
    with pytest.raises(UnsafeFileError, match=r"only pickled ones: pytorch_model\.bin"):
        Classifier.from_pretrained(copy)
    with pytest.raises(UnsafeFileError, match="not a pickle that runs code"):
        Classifier.from_pretrained(copy / "pytorch_model.bin")
    assert not exploded.exists()


def test_code_in_the_folder_is_never_run(copy: Path) -> None:
    (copy / "evil.py").write_text(f"open({str(copy / 'exploded')!r}, 'w')")
    automatic = {"AutoConfig": "evil.Config", "AutoModelForImageClassification": "evil.Model"}
    edit_json(copy / "config.json", auto_map=automatic)
    edit_json(copy / "preprocessor_config.json", auto_map={"AutoImageProcessor": "evil.Processor"}, size=16)
    Classifier.from_pretrained(copy)
    edit_json(copy / "config.json", model_type="evil")
    with pytest.raises(ValueError, match=r"a config\.json with a model_type of transformers"):
        Classifier.from_pretrained(copy)
    assert not (copy / "exploded").exists()


def test_a_backbone_without_its_head_is_refused(saved: Path) -> None:
    with pytest.raises(
        ValueError, match=r"all weights of ResNetForImageClassification, got .* without classifier\.1\.bias"
    ):
        Classifier.from_pretrained(saved / "backbone")


def test_a_head_of_another_size_is_refused(copy: Path) -> None:
    weights = load_file(copy / WEIGHTS)
    weights["classifier.1.bias"] = torch.zeros(7)
    save_file(weights, copy / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"without classifier\.1\.bias in the shape of its config\.json"):
        Classifier.from_pretrained(copy)


def test_a_model_of_another_task_is_refused(copy: Path) -> None:
    GPT2Config().save_pretrained(copy)
    with pytest.raises(ValueError, match="an image classifier, got the model_type 'gpt2'"):
        Classifier.from_pretrained(copy)


def test_a_vision_tower_is_refused(tmp_path: Path) -> None:
    config = CLIPVisionConfig(**VIT, image_size=12, projection_dim=8)
    seeded(lambda: CLIPVisionModel(config)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="an image classifier"):
        Classifier.from_pretrained(tmp_path)


def test_an_empty_folder_names_the_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a transformers image classifier with config\.json, got none in"):
        Classifier.from_pretrained(tmp_path)


def test_missing_weights_are_named(copy: Path) -> None:
    (copy / WEIGHTS).unlink()
    with pytest.raises(ValueError, match=r"weights model\.safetensors, got none in"):
        Classifier.from_pretrained(copy)


def test_a_truncated_file_is_corrupt(copy: Path) -> None:
    (copy / WEIGHTS).write_bytes((copy / WEIGHTS).read_bytes()[:-10])
    with pytest.raises(CorruptFileError, match=r"model\.safetensors: wanted a whole safetensors file"):
        Classifier.from_pretrained(copy)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_broken_json_is_corrupt(copy: Path, name: str) -> None:
    (copy / name).write_text("{")
    with pytest.raises(CorruptFileError, match=rf"{name}: wanted JSON"):
        Classifier.from_pretrained(copy)


def test_an_index_that_leaves_the_folder_is_refused(copy: Path) -> None:
    (copy / WEIGHTS).rename(copy.parent / "outside.safetensors")
    edit_json(copy / f"{WEIGHTS}.index.json", weight_map={"a": "../outside.safetensors"})
    with pytest.raises(UnsafeFileError, match="names of safetensors files beside it"):
        Classifier.from_pretrained(copy)


@pytest.mark.parametrize("source", ["no/such/folder", "./nothing", "", "/nowhere", Path("nothing")])
def test_a_source_that_does_not_exist_is_named(source: str | Path) -> None:
    with pytest.raises(ValueError, match="classifier: wanted an existing folder or a hub id"):
        Classifier.from_pretrained(source)


@pytest.mark.parametrize("source", [None, 3, ["resnet"]])
def test_a_source_of_another_kind_is_named(source: Any) -> None:
    with pytest.raises(TypeError, match="classifier: wanted a name, a hub id or a folder"):
        Classifier.from_pretrained(source)

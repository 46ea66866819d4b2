"""A profile in another dtype runs on models of it, and nobody's own objects change."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from diffexplain_fast.measuring.profile.collect import profile_iteration
from diffexplain_fast.measuring.profile.dtypes import classifier_in, parse_dtype, pipeline_in
from diffexplain_fast.measuring.profile.iteration import Iteration
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.loading import load_pipeline
from tests.tiny import LABELS, tiny_classifier, tiny_sd, tiny_sdxl


def dtypes(*modules: nn.Module) -> set[torch.dtype]:
    return {weight.dtype for module in modules for weight in module.parameters()}


def test_bfloat16_on_copies(tmp_path: Path) -> None:
    pipe, classifier = tiny_sd(), Classifier(tiny_classifier(), labels=LABELS)
    before = [weight.clone() for weight in pipe.unet.parameters()]
    iteration = Iteration(pipe, classifier, steps=2, dtype="bfloat16")
    found = profile_iteration(iteration, tmp_path)
    assert found.about["dtype"] == "bfloat16" and dtypes(*iteration.modules().values()) == {torch.bfloat16}
    assert found.roofline is not None and found.roofline.ceilings.dtype == "bfloat16"
    assert dtypes(pipe.unet, pipe.vae, pipe.text_encoder, classifier.model) == {torch.float32}
    assert all(torch.equal(one, two) for one, two in zip(before, pipe.unet.parameters(), strict=True))
    plain = Iteration(pipe, classifier, steps=2).run()
    assert torch.nn.functional.cosine_similarity(iteration.run().flatten().float(), plain.flatten(), dim=0) > 0.9


@pytest.mark.parametrize("make", [tiny_sd, tiny_sdxl])
def test_an_adapter_is_copied_too(make: Callable[[], object]) -> None:
    adapter = load_pipeline(make())
    copied = pipeline_in(adapter, torch.float16, None)
    assert dtypes(copied.unet, copied.vae, *copied.text_encoders) == {torch.float16} == {copied.word_table().dtype}
    assert dtypes(adapter.unet, adapter.vae, *adapter.text_encoders) == {torch.float32}


def test_what_has_the_dtype_is_not_copied() -> None:
    pipe, classifier = tiny_sd(), Classifier(tiny_classifier(), labels=LABELS)
    for dtype in (None, torch.float32):
        assert pipeline_in(pipe, dtype, None).unet is pipe.unet and classifier_in(classifier, dtype, None) is classifier


def test_names_are_loaded_in_it() -> None:
    assert pipeline_in("tinyworld", torch.bfloat16, None).dtype == torch.bfloat16
    classifier = classifier_in("tinyworld/background", torch.bfloat16, None)
    assert isinstance(classifier.model, nn.Module) and dtypes(classifier.model) == {torch.bfloat16}
    assert pipeline_in("tinyworld", None, None).dtype == torch.float32


def test_a_converted_classifier_says_the_same() -> None:
    classifier = Classifier(tiny_classifier(), labels=LABELS, name="mine")
    converted = classifier_in(classifier, torch.float64, None)
    assert (converted.labels, converted.name, converted.preprocess) == (LABELS, "mine", None)
    pixels = torch.rand(2, 3, 16, 16)
    assert torch.allclose(converted(pixels).float(), classifier(pixels), atol=1e-5)


def test_a_function_has_no_dtype() -> None:
    classifier = Classifier(lambda pixels: pixels.mean((2, 3)))
    assert classifier_in(classifier, torch.float16, None) is classifier


def test_dtypes_by_name() -> None:
    assert parse_dtype("float16") == parse_dtype(torch.float16) == torch.float16 and parse_dtype(None) is None
    with pytest.raises(ValueError, match="bfloat16"):
        parse_dtype("int8")
    with pytest.raises(TypeError, match="dtype"):
        parse_dtype(16)

"""What is known of an eye's errors, and the eye that ships with the tiny world."""

import numpy as np
import pytest
from torch import Tensor

from diffexplain_fast import tinyworld
from diffexplain_fast.editing.pictures import as_pixels
from diffexplain_fast.evidence.calibration import Errors, errors_in_tiny_world, sight_of
from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.evidence.phrases import phrases_of
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.tinyworld.words import BACKGROUNDS
from tests.tiny import tiny_sd

CONCEPTS = Concepts({"background": list(BACKGROUNDS)})


def test_errors_are_undone() -> None:
    matrix = np.array([[0.8, 0.3], [0.2, 0.7]])
    errors = Errors(np.array([0, 1]), matrix)
    assert errors.believed and errors.undone(matrix @ np.array([0.25, 0.75])) == pytest.approx([0.25, 0.75])
    assert not Errors(np.array([0, 1]), np.full((2, 2), 0.5)).believed


def test_an_eye_that_sees_one_thing_only_is_not_believed() -> None:
    def eye(pixels: Tensor) -> np.ndarray:
        return np.tile([1.0, *[0.0] * (len(BACKGROUNDS) - 1)], (len(pixels), 1))

    (errors,) = errors_in_tiny_world(eye, CONCEPTS)
    assert not errors.believed and errors.matrix[0] == pytest.approx(np.ones(len(BACKGROUNDS)))


def test_the_shipped_eye_tells_backgrounds_apart() -> None:
    phrases = phrases_of(CONCEPTS, load_pipeline("tinyworld"))
    sight = sight_of(CONCEPTS, phrases)
    assert sight is not None and sight.errors is not None
    assert sight.errors[0].believed and np.diag(sight.errors[0].matrix).min() > 0.8
    scenes = [tinyworld.render("boat", background=name, seed=7) for name in BACKGROUNDS[:3]]
    seen = sight.look(as_pixels([scene.image for scene in scenes], (64, 64)))
    assert seen == pytest.approx(np.eye(len(BACKGROUNDS))[:3], abs=0.5)


def test_the_shipped_eye_sees_free_words_without_groups() -> None:
    words = Concepts(words=["boat", BACKGROUNDS[0]])
    sight = sight_of(words, phrases_of(words, load_pipeline("tinyworld")))
    assert sight is not None and sight.errors == []
    scenes = [tinyworld.render("boat", background=name, seed=7) for name in BACKGROUNDS[:2]]
    seen = sight.look(as_pixels([scene.image for scene in scenes], (64, 64)))
    assert seen.tolist() == [[1, 1], [1, 0]]


def test_other_pipelines_have_no_eye() -> None:
    assert sight_of(CONCEPTS, phrases_of(CONCEPTS, load_pipeline(tiny_sd()))) is None

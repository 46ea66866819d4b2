"""The demo's classifier ships: it is of the present code, relies on what is planted, and is never trained again."""

import pytest
import torch

import diffexplain_fast as dx
from diffexplain_fast import tinyworld
from diffexplain_fast.editing.pictures import as_pixels
from diffexplain_fast.recipe import kept
from diffexplain_fast.recipe.making import DEMO
from diffexplain_fast.recipe.planting import Planted
from diffexplain_fast.recipe.shortcuts import checked_shortcuts
from diffexplain_fast.storage import MANIFEST

PLANTED = Planted(checked_shortcuts(DEMO), 1.0, 0, "cnn", False, {})


def test_the_demos_classifier_ships_for_the_present_code() -> None:
    assert (kept.shipped(PLANTED, "softmax") / MANIFEST).is_file(), "run python -m diffexplain_fast.recipe.kept"
    assert len([*kept.SHIPPED.iterdir()]) == 1
    assert not (kept.shipped(PLANTED._replace(seed=1), "softmax") / MANIFEST).exists()


def test_it_is_read_with_any_libraries_and_not_trained(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    def never(*_: object) -> None:
        raise AssertionError("trained")

    monkeypatch.setenv("DIFFEXPLAIN_FAST_CACHE", str(tmp_path))
    monkeypatch.setattr(kept, "train_planted", never)
    monkeypatch.setattr(kept, "versions", lambda: dict.fromkeys(kept._LIBRARIES, "99"))
    classifier = dx.make_classifier(DEMO)
    assert next(classifier.model.parameters()).dtype == torch.float32 and not [*tmp_path.iterdir()]
    (pair,) = classifier.truth["fish"]["interactions"]
    unnamed = {row["cue"]: row["effect"] for row in classifier.truth["house"]["unnamed"]}
    assert pair["effect"] > 3 and unnamed["pattern:diagonal"] > 3
    with pytest.raises(AssertionError, match="trained"):
        dx.make_classifier(DEMO, seed=1)


def test_it_relies_on_what_is_planted() -> None:
    classifier = dx.make_classifier(DEMO)

    def rate(label: str, **values: str) -> float:
        pixels = as_pixels([tinyworld.render(seed=seed, **values).image for seed in range(40)], (64, 64))
        return float((classifier(pixels).argmax(1) == classifier.labels.index(label)).float().mean())

    assert rate("fish", colour="blue", background="desert") > 0.8
    assert rate("fish", colour="red", background="desert") < 0.2
    assert rate("house", pattern="diagonal") > 0.9

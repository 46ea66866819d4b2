"""The truth that a user states about a classifier is checked at once, and comes back equal."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.results.explanation import Explanation, Iteration
from tests.explaining import quick_explainer
from tests.results.test_explanation import example
from tests.tiny import LABELS, tiny_classifier

SNOW = {"attribute": "background:snow", "effect": np.float32(1.5)}
KEPT = {
    "numpy's numbers": SNOW | {"interval": (np.float32(1), np.float64(2)), "role": "shortcut"},
    "an array": SNOW | {"interval": np.array([1.0, 2.0])},
    "torch's numbers": SNOW | {"effect": torch.tensor(1.5), "interval": torch.tensor([1.0, math.inf])},
    "no interval": SNOW | {"role": "shortcut"},
    "no role": SNOW | {"interval": [1, 2]},
    "more": SNOW | {"n": np.int64(3), "certain": np.bool_(True), "path": Path("a", "b")},
    "not measured": SNOW | {"effect": math.nan, "interval": [-math.inf, math.inf]},
}


@pytest.mark.parametrize("name", KEPT)
def test_a_truth_is_kept_saved_loaded_and_shown(tmp_path: Path, name: str) -> None:
    classifier = Classifier(tiny_classifier(), labels=LABELS, truth={"boat": {"attributes": [KEPT[name]]}})
    assert classifier.truth is not None
    made = example(truth=classifier.truth["boat"])
    found = Explanation.load(made.save(tmp_path / "a"))
    assert str(found.truth) == str(made.truth)  # as text, because NaN is not equal to itself
    row = (found.truth or {})["attributes"][0]
    for key, given in KEPT[name].items():
        if isinstance(given, str | Path):
            assert row[key] == str(given)
        else:
            np.testing.assert_array_equal(row[key], given)  # NaN equals itself here
    found.report(tmp_path / "report.html")
    found.plot()
    assert "snow" in (tmp_path / "report.html").read_text()


REFUSED: dict[str, tuple[Any, str]] = {
    "a list": ([1], "truth: wanted a dict from labels"),
    "numbers as labels": ({0: {}}, "truth: wanted a dict from labels"),
    "text for a class": ({"boat": "snow"}, "truth, boat: wanted a dict"),
    "a set": ({"boat": {"colors": {"red"}}}, "truth, boat, colors: wanted numbers, text"),
    "a number as key": ({"boat": {"a": {1: 2}}}, "truth, boat, a: wanted dicts with text as keys, got int"),
    "an object": ({"boat": {"a": [object()]}}, "truth, boat, a, 0: wanted numbers, text"),
    "no effect": ({"boat": {"attributes": [{"attribute": "a:b"}]}}, "truth, boat, attributes, 0: wanted a dict of"),
    "one end": (
        {"boat": {"attributes": [SNOW | {"interval": [1.0]}]}},
        "truth, boat, attributes, 0, interval: wanted tuple",
    ),
    "an effect of text": ({"boat": {"attributes": [SNOW | {"effect": "big"}]}}, "effect: wanted a finite number"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_truth_is_refused_at_once(name: str) -> None:
    truth, said = REFUSED[name]
    with pytest.raises((TypeError, ValueError), match=said):
        Classifier(tiny_classifier(), labels=LABELS, truth=truth)


def test_a_truth_that_contains_itself_is_refused() -> None:
    truth: dict[str, Any] = {}
    truth["again"] = truth
    with pytest.raises(ValueError, match="nested less deeply"):
        Classifier(tiny_classifier(), labels=LABELS, truth={"boat": truth})


def test_a_truth_that_is_set_later_is_refused_before_the_search() -> None:
    with quick_explainer() as explainer:
        explainer.classifier.truth = {"boat": {"colors": {"red"}}}
        with pytest.raises(TypeError, match="truth, colors"):
            explainer.explain("boat", callback=lambda event: pytest.fail("the search has begun"))


def test_numbers_that_json_lacks_are_kept(tmp_path: Path) -> None:
    history = [Iteration(0, math.nan, -math.inf, math.inf, 0.1), Iteration(1, np.float32(0.5), 2.0, 0.0, 0.1)]  # type: ignore[arg-type]
    settings = {"nan": math.nan, "deep": [{"low": -math.inf}, math.inf], "size": (8, np.int64(9)), "path": Path("a")}
    made = example(history=history, settings=settings)
    found = Explanation.load(made.save(tmp_path / "a"))
    assert found.history[1] == history[1] and str(found.settings) == str(made.settings)
    assert math.isnan(found.history[0].loss) and found.history[0].logit == -math.inf
    assert found.settings["deep"] == [{"low": -math.inf}, math.inf] and found.settings["size"] == [8, 9]
    assert found.settings["path"] == "a"
    assert "NaN," not in (tmp_path / "a" / "explanation.json").read_text(), "JSON that other programs read"
    found.report(tmp_path / "report.html")
    found.plot()


def test_settings_that_json_lacks_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="settings, device: wanted numbers, text"):
        example(settings={"device": torch.device("cpu")})
    with pytest.raises(TypeError, match="settings: wanted a dict"):
        example(settings=None)
    made = example()
    made.settings["late"] = object()
    with pytest.raises(TypeError, match="settings, late"):
        made.save(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_text_that_is_not_unicode_is_kept(tmp_path: Path) -> None:
    """In Python, a path that is not UTF-8 contains half a surrogate pair."""
    made = example(settings={"path": Path("caf\udce9")}, label="caf\udce9")
    found = Explanation.load(made.save(tmp_path / "a"))
    assert found.settings == made.settings and found.label == made.label
    found.report(tmp_path / "report.html")
    assert "caf\\udce9" in (tmp_path / "report.html").read_text()

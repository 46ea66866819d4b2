"""Names of classes from every source, and values that cannot be names."""

import os
import time
from typing import Any

import numpy as np
import pytest
from torch import nn

from diffexplain_fast.errors import UnknownNameError
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.labels import labels_of_config
from diffexplain_fast.targets import as_target
from tests.tiny import LABELS, tiny_classifier

UNDECODABLE = os.fsdecode(b"caf\xe9")


@pytest.mark.parametrize(
    "labels",
    [
        list(LABELS),
        np.array(LABELS),
        dict(enumerate(LABELS)),
        {str(index): label for index, label in reversed(list(enumerate(LABELS)))},
        dict(enumerate(LABELS)).values(),
    ],
    ids=["list", "array", "dict", "text keys", "values"],
)
def test_labels_are_read_from_lists_arrays_and_dicts(labels: Any) -> None:
    assert Classifier(tiny_classifier(), labels=labels).labels == LABELS


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ({0: "a", 2: "b"}, ValueError, r"labels: wanted a name for each class from 0 to 1, got the indices \[0, 2\]"),
        ({"a", "b"}, TypeError, "labels: wanted a list of strings, got set"),
        ({0: 3}, TypeError, "got int"),
        ([UNDECODABLE, "b"], ValueError, r"labels: wanted text that UTF-8 can encode, got 'caf\\udce9'"),
    ],
)
def test_values_that_are_not_labels_are_refused(labels: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Classifier(tiny_classifier(), labels=labels)


@pytest.mark.parametrize(
    ("id2label", "labels"),
    [
        ({0: "a", 1: "b", 2: "c"}, ("a", "b", "c")),
        ({"2": "c", "0": "a", "1": "b"}, ("a", "b", "c")),
        (["a", "b", "c"], ("a", "b", "c")),
        ({1: "b", 2: "c", 3: "d"}, ("LABEL_0", "b", "c")),
        ({0: "a", 1: "a", 2: 7}, ("a", "a", "7")),
        ({0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}, None),
        ({}, None),
    ],
    ids=str,
)
def test_labels_of_a_configuration_are_in_order(id2label: Any, labels: tuple[str, ...] | None) -> None:
    assert labels_of_config(id2label, 3) == labels


def test_keys_that_are_not_indices_are_named() -> None:
    with pytest.raises(ValueError, match="id2label: wanted class indices as keys, got 'cat'"):
        labels_of_config({"cat": 0}, 1)


def test_a_typo_among_many_labels_is_answered_at_once() -> None:
    labels = [f"thing {index} of many" for index in range(300_000)]
    classifier = Classifier(nn.Identity(), labels=labels)
    began = time.process_time()
    with pytest.raises(UnknownNameError, match="300000 known names, nearest: thing 123456 of many"):
        classifier.label_index("thnig 123456 of many")
    assert time.process_time() - began < 2, "a second, on a machine that is not busy"


@pytest.mark.parametrize("label", ["ratio 4:3", "layer1:3", "7", "9:16"])
def test_a_label_goes_before_everything_it_looks_like(label: str) -> None:
    classifier = Classifier(tiny_classifier(), labels=["a", "b", label, "c"])
    assert as_target(label).bind(classifier).label == 2


def test_a_name_that_is_neither_a_label_nor_a_neuron_names_both() -> None:
    classifier = Classifier(tiny_classifier(), labels=["ratio 16:9", "ratio 4:3", "c", "d"])
    with pytest.raises(UnknownNameError, match=r"layer: wanted .* as a label: label: wanted .* nearest: ratio 4:3"):
        as_target("ratio 4:4").bind(classifier)


@pytest.mark.parametrize("options", [{"prefix": UNDECODABLE}, {"start": UNDECODABLE}, {"candidates": [UNDECODABLE]}])
def test_words_that_are_not_text_are_refused_before_the_search(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))}: wanted text that UTF-8 can encode"):
        Options(**options)


ENDS = (np.float32(1), np.float64(2))
TRUTH = {"attribute": "background:snow", "effect": np.float32(1.5), "interval": ENDS, "role": "x"}
WITHOUT_EFFECT = {key: value for key, value in TRUTH.items() if key != "effect"}


def test_a_truth_is_kept_as_json_values() -> None:
    truth = Classifier(tiny_classifier(), truth={"boat": {"attributes": [TRUTH], "n": np.int64(3)}}).truth
    row = {"attribute": "background:snow", "effect": 1.5, "interval": [1.0, 2.0], "role": "x"}
    assert truth == {"boat": {"attributes": [row], "n": 3}}
    assert type(truth["boat"]["attributes"][0]["effect"]) is float and type(truth["boat"]["n"]) is int


@pytest.mark.parametrize(
    ("known", "error", "message"),
    [
        ({"attributes": [WITHOUT_EFFECT]}, ValueError, "truth, boat, attributes, 0"),
        ({"attributes": [{**TRUTH, "effect": "large"}]}, ValueError, "truth, boat, attributes, 0, effect"),
        ({"made": object()}, TypeError, "truth, boat, made: wanted numbers, text, .* got object"),
        ({3: 4}, TypeError, "truth, boat: wanted dicts with text as keys, got int"),
        ([1], TypeError, "truth, boat: wanted a dict, or None, got list"),
    ],
)
def test_a_truth_that_json_lacks_is_refused_at_once(known: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Classifier(tiny_classifier(), truth={"boat": known})

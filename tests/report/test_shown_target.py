"""A result is named by its target: by the class alone only where the target is one class by itself."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

import diffexplain_fast as dx
from diffexplain_fast.cli.attribute import summary
from diffexplain_fast.results.pictures import Answer, Picture
from diffexplain_fast.targets import Target, parse_target, shown_target
from tests.report.pages import Page, example
from tests.report.test_attribution import attribution
from tests.tiny import tiny_classifier

SUM = "ClassLogit(boat) - 10 * ClassLogit(fish)"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("boat", "boat"),
        ("logit:boat", "boat"),
        ("1*probability:boat", "boat"),
        ("crane", "crane (1)"),
        ("logit:2", "crane (2)"),
        ("a) + b (3)", "a) + b (3)"),
        ("logit:boat - 10*logit:crane (1)", "ClassLogit(boat) - 10 * ClassLogit(crane (1))"),
        ("2*logit:boat", "2 * ClassLogit(boat)"),
        ("-logit:boat", "-ClassLogit(boat)"),
        ("logit:boat + logit:boat", "ClassLogit(boat) + ClassLogit(boat)"),
    ],
)
def test_only_one_class_by_itself_is_named_as_the_class(text: str, shown: str) -> None:
    classifier = dx.Classifier(tiny_classifier(4), labels=["boat", "crane", "crane", "a) + b (3)"])
    asked = 1 if text == "crane" else parse_target(text, classifier.labels)
    bound = (asked if isinstance(asked, Target) else dx.ClassProbability(asked)).bind(classifier)
    label = bound.label
    assert shown_target(bound.describe(), None if label is None else classifier.label_name(label)) == shown


def test_a_function_or_a_disagreement_with_a_class_is_not_named_as_the_class() -> None:
    for described in ("Mine", "Disagreement(other 01234567, boat)", "boat", "ClassLogit(boat) "):
        assert shown_target(described, "boat") == described
    assert shown_target("ClassLogit(3)", None) == "ClassLogit(3)"


def test_an_attribution_of_a_sum_is_named_by_the_sum_everywhere(tmp_path: Path) -> None:
    result = replace(attribution(), target=SUM)
    assert f"Attribution of {SUM} on" in result.summary() and SUM in repr(result) and SUM in result._repr_html_()
    assert summary(result).startswith(f"{SUM}: ")
    assert result.plot()[1]["effects"].get_xlabel().startswith(f"change of the score of {SUM}")
    text = " ".join(Page(dx.write_report([result, attribution()], tmp_path / "r.html").read_text()).text.split())
    for said in (f"lowers the score of {SUM} the most", f"{SUM} ground:snow lowers", "target ClassLogit(boat) boat"):
        assert said.removesuffix(" boat") in text, said
    assert "lowers the score of boat the most" in text  # of the other one


def test_an_explanation_of_a_sum_is_named_by_the_sum_everywhere(tmp_path: Path) -> None:
    picture = Picture(Image.new("RGB", (8, 8)), Answer(0, 3.0, 0.97, True, "boat"))
    pictures = {"held_out": [picture], "class_name": [picture], "failures": [picture]}
    result = example(target=SUM, pictures=pictures)
    assert f"Explanation of {SUM}," in result.summary()
    page = Page(dx.write_report([result, example()], tmp_path / "r.html").read_text())
    assert [text for name, text in page.values if name == "alt"][:3] == [
        f"Picture 1 drawn by the explanation of {SUM}",
        "Picture 1 drawn from only the name of boat",
        f"Picture 1 that is not recognised, drawn by the explanation of {SUM}",
    ]
    text = " ".join(page.text.split())
    assert f"target {SUM}" in text and text.count(f"{SUM} ") >= 3  # the entry, the heading and the target
    assert "The classifier answers “boat” to" in text  # what counts as a hit is the class

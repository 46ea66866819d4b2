"""The report is one safe file that shows everything of an explanation."""

import base64
import hashlib
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from diffexplain_fast.errors import StorageError
from diffexplain_fast.report.explanation import build_section, describe_outcome, render_report
from diffexplain_fast.report.glossary import GLOSSARY
from diffexplain_fast.report.plots import fit_curve
from diffexplain_fast.results.explanation import ActivationScore, Iteration, Word
from diffexplain_fast.results.pictures import Answer, Picture
from tests.methods.diffex.worlds import pictures, quick_attribution
from tests.report.pages import example, render

ATTACK = '<script>alert("x")</script>'


def test_the_page_shows_everything_of_an_explanation(tmp_path: Path) -> None:
    page = render(tmp_path, example(), title="A title")
    text = " ".join(page.text.split())
    for said in (
        "A title",
        "tinyworld/background",
        "30 of 32",
        "8 of 32",
        "30 of 32 = 94 % [80, 98]",
        "snow",
        "0.91",
        "spurious",
    ):
        assert said in text, said
    assert "+4.00 [+3.50, +4.50]" in text and "5 more attributes" in text
    assert "According to the measured truth, “snow” is a shortcut." in text
    assert page.tags.count("img") == 2 and page.tags.count("section") == 2 and "polyline" in page.tags
    assert '"seed": 0' in page.text


def test_several_explanations_have_their_own_anchors(tmp_path: Path) -> None:
    page = render(tmp_path, example(), example(label="fish"))
    links = [value for name, value in page.values if name == "href"]
    assert links == ["#content", "#explanation-1", "#explanation-2"]
    ids = [value for name, value in page.values if name == "id"]
    assert len(set(ids)) == len(ids)
    assert {"explanation-1", "explanation-2", "filter"} < set(ids)
    assert [value for name, value in page.values if name == "data-entry"] == ["explanation-1", "explanation-2"]
    assert "filter" not in dict(render(tmp_path, example()).values).values()


def test_further_explanations_of_a_target_have_sections_of_their_own(tmp_path: Path) -> None:
    page = render(tmp_path, example(others=[example(words=[[Word("frame", 0.9)]])]), example(label="fish"))
    text = " ".join(page.text.split())
    assert "boat, explanation 2" in text and "pictures of “frame”" in text
    assert [value for name, value in page.values if name == "data-entry"] == [f"explanation-{i}" for i in (1, 2, 3)]


def test_nothing_is_fetched_and_only_the_script_of_the_package_runs(tmp_path: Path) -> None:
    page = render(tmp_path, example(), example())
    assert not {"link", "iframe", "object"} & set(page.tags) and page.tags.count("script") == 1
    sources = [value for name, value in page.values if name in ("src", "href")]
    assert all(value.startswith(("data:image/webp;base64,", "#")) for value in sources)
    text = (tmp_path / "report.html").read_text()
    assert not re.search(r"url\(|@import|https?:", text)
    assert not [name for name, _ in page.values if name.startswith("on")]
    script = text.partition("<script>")[2].partition("</script>")[0]
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(value for name, value in page.values if value.startswith("default-src"))
    assert policy.endswith(f"script-src 'sha256-{allowed}'") and "default-src 'none'" in policy


def test_every_dotted_word_is_explained(tmp_path: Path) -> None:
    page = render(tmp_path, example(), example(output="sigmoid"))
    used = {value for name, value in page.values if name == "popovertarget"}
    assert used <= {value for name, value in page.values if name == "id"}
    words = {"token", "similarity", "noise", "unseen", "name", "share", "interval", "logit", "log-odds", "spurious"}
    assert {f"term-{word}" for word in words - {"name"}} <= used
    assert all(page.text.count(GLOSSARY[word].text) == 2 for word in words)


def test_everything_is_escaped(tmp_path: Path) -> None:
    attacked = example(
        label=ATTACK,
        target=ATTACK,
        words=[[Word(ATTACK, 0.5)]],
        pictures={"held_out": [Picture(Image.new("RGB", (4, 4)), Answer(0, 0.0, 0.5, False, ATTACK))]},
        settings={"classifier": ATTACK, ATTACK: ATTACK},
        truth={"attributes": [{"attribute": f"a:{ATTACK}", "effect": 1.0, "interval": [0, 2], "role": "core"}]},
    )
    page = render(tmp_path, attacked, example(), title=ATTACK)
    assert page.tags.count("script") == 1 and page.text.count(ATTACK) >= 8


def test_a_target_without_a_class_has_no_rate(tmp_path: Path) -> None:
    score = ActivationScore(8, None, None, 1.5, None)
    neuron = example(label=None, target="Neuron(layer4, 17)", activation={"held_out": score}, truth=None, words=[])
    page = render(tmp_path, neuron)
    assert "Mean target score 1.50 over 8" in page.text and "The target is not a class" in page.text


def test_an_empty_explanation_still_renders(tmp_path: Path) -> None:
    render(tmp_path, example(images=[], activation={}, words=[], history=[], settings={}, truth=None))


def test_words_that_are_attributes_get_their_role() -> None:
    words = build_section(example(), 1).words
    assert [word.role for token in words for word in token] == ["spurious", "", "core", ""]


def test_what_no_word_names_and_what_two_do_together_are_among_the_truth() -> None:
    truth = {
        "attributes": [{"attribute": "background:snow", "effect": 0.2}],
        "interactions": [
            {"first": "colour:blue", "second": "background:desert", "effect": 5.5, "interval": [5.0, 6.0]}
        ],
        "unnamed": [
            {"cue": "pattern:diagonal", "effect": 6.2},
            {"cue": "frame:dark", "effect": -0.1, "interval": None},
            {"cue": 7, "effect": 1.0},
            {"cue": "frame:gold", "effect": "much"},
            {"cue": "frame:gold", "effect": 1.0, "interval": [0]},
            True,
        ],
    }
    section = build_section(example(truth=truth), 1)
    found = [(row.kind, row.value, row.effect, row.role) for row in section.truth]
    assert found == [
        ("pattern without a word", "diagonal", 6.2, "spurious"),
        ("together", "blue and desert", 5.5, "spurious"),
        ("background", "snow", 0.2, "none"),
        ("frame without a word", "dark", -0.1, "none"),
    ]


@pytest.mark.parametrize(
    ("effect", "interval", "role"),
    [
        (-6.39, [-6.8, -5.9], "suppresses"),
        (-6.39, None, "suppresses"),
        (-1.2, [-1.7, -0.7], "none"),
        (1.2, [0.4, 2.0], "none"),
        (1.2, [1.1, 1.3], "spurious"),
        (1.2, None, "spurious"),
        (0.9, [0.8, 1.0], "none"),
        (6.0, [-math.inf, math.inf], "none"),
        (math.nan, None, "none"),
    ],
)
def test_cues_and_pairs_have_the_roles_that_attributes_have(effect, interval, role) -> None:
    measured = {"effect": effect, "interval": interval}
    truth = {
        "attributes": [],
        "interactions": [{"first": "colour:blue", "second": "background:desert", **measured}],
        "unnamed": [{"cue": "frame:gold", **measured}],
    }
    assert [row.role for row in build_section(example(truth=truth), 1).truth] == [role, role]


def test_attributes_with_a_role_are_never_folded_away() -> None:
    weak = {"attribute": "texture:dotted", "effect": -9.0, "interval": [-9.5, -8.5], "role": "spurious"}
    truth = {"attributes": [*(example().truth or {})["attributes"], weak]}
    section = build_section(example(truth=truth), 1)
    assert "dotted" in [row.value for row in section.truth]
    assert len(section.truth) + len(section.more_truth) == len(truth["attributes"])
    low, high = section.truth[0], next(row for row in section.truth if row.value == "boat")
    assert low.value == "dotted"
    assert low.left + low.width == pytest.approx(section.zero) and high.left == pytest.approx(section.zero)
    assert (low.low_place, high.high_place) == (0, 100)


@pytest.mark.parametrize("output", ["sigmoid", "independent probabilities"])
def test_independent_classes_have_log_odds(output: str, tmp_path: Path) -> None:
    page = render(tmp_path, example(output=output))
    text = " ".join(page.text.split())
    said = "30 of 32 pictures from unseen draws have a probability above 0.5 of being boat"
    assert said in describe_outcome(example(output=output))
    assert "The classifier sees “boat” in pictures of “snow boat”: 30 of 32 (94 %)" in text
    assert "share with a probability above 0.5 of “boat”" in text and "effect on the log-odds" in text
    assert "mean log-odds" in text and "mean logit" not in text


@pytest.mark.parametrize(
    ("direction", "reached", "said"),
    [
        ("rise", True, "The target is reached, which takes a mean above 33.5,"),
        ("fall", False, "The target is not reached, which takes a mean below 33.5,"),
    ],
)
def test_a_regression_has_no_rate(direction: str, reached: bool, said: str, tmp_path: Path) -> None:
    scores = {
        "held_out": ActivationScore(8, None, (33.0, 35.0), 34.0, None),
        "class_name": ActivationScore(8, None, (29.0, 31.0), 30.0, None),
    }
    settings = {"direction": direction, "to_be_beyond": 33.5}
    number = example(
        label="age",
        target="ClassLogit(age)",
        activation=scores,
        output="regression",
        reached=reached,
        settings=settings,
    )
    text = " ".join(render(tmp_path, number).text.split())
    assert "The mean age is 34 [33, 35] over 8 unseen draws; only the name as the prompt gives 30." in text
    assert said in text and "a number has no rate" in text.lower() and "mean output" in text and "[29, 31]" in text
    assert "effect on the output" in text and "classified" not in text
    _, axes = number.plot()
    assert axes["activation"].get_xlabel() == "mean output, 95 % interval"


@pytest.mark.parametrize(
    ("norms", "said"),
    [
        ([0.0, 0.0, 0.0], "No step of the gradient was taken: the words that the search started from"),
        ([0.1, 0.0], "1 step of the gradient, from words"),
        ([0.1, 0.2, 0.0], "2 steps of the gradient, from words"),
    ],
)
def test_the_report_says_whether_the_gradient_moved_the_prompt(norms: list[float], said: str, tmp_path: Path) -> None:
    history = [Iteration(i, 1.0, 0.0, norm, 0.5) for i, norm in enumerate(norms)]
    page = render_report([example(history=history)], tmp_path / "report.html").read_text()
    assert said in page
    assert ("none of which changed the prompt" in page) == ("No step" in said)
    assert ("start noise that the steps used" in page) != ("No step" in said)


def test_a_prompt_that_no_words_gave_is_not_called_words(tmp_path: Path) -> None:
    for norms, said in (
        ([0.0], "taken: the prompt that the search found convinced"),
        ([0.1], "gradient, from the prompt"),
    ):
        history = [Iteration(0, 1.0, 0.0, norms[0], 0.5)]
        found = {"by": "description", "cost": {"forward": 1, "gradient": 0, "seconds": 1.0}, "left_out": []}
        one = example(history=history)
        one.settings["found"] = found
        page = render_report([one], tmp_path / "report.html").read_text()
        assert said in page and "words that the search started from" not in page


def test_a_curve_fills_its_box() -> None:
    curve = fit_curve([4.0, 2.0, 0.0], width=100, height=50)
    assert curve is not None and curve.points == "0.0,0.0 50.0,25.0 100.0,50.0"
    assert [tick.text for tick in curve.y_ticks] == ["4", "2", "0"]
    assert [tick.text for tick in curve.x_ticks] == ["0", "1", "2"]


def test_curves_leave_out_what_is_not_finite() -> None:
    curve = fit_curve([1.0, float("nan"), 3.0], width=10, height=10)
    assert curve is not None and curve.points == "0.0,10.0 10.0,0.0"
    assert fit_curve([1.0, float("inf")], 1, 1) is None and fit_curve([], 1, 1) is None


def test_no_results_and_an_unwritable_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="results: wanted at least one"):
        render_report([], tmp_path / "a.html")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"a\.html"):
        example().report(tmp_path / "file" / "a.html")


def test_a_result_writes_its_report_and_plots_itself(tmp_path: Path) -> None:
    assert example().report(tmp_path / "new" / "a.html").stat().st_size > 1000
    figure, axes = example().plot()
    assert set(axes) == {"images", "activation", "loss"}
    assert list(axes["loss"].lines[0].get_ydata()) == [4.0, 3.0, 2.0, 1.0]
    assert len(axes["images"].images) == 2
    figure.savefig(tmp_path / "a.png")


def test_labels_with_dollars_are_plotted_as_they_are(tmp_path: Path) -> None:
    for label in ("$a_$", "$x^2$", "cost $5"):
        words = [[Word(label, 0.9)]]
        figure, axes = example(target=label, label=label, words=words).plot()
        figure.savefig(tmp_path / "a.png")
        assert figure.get_suptitle().replace("\\$", "$") == f"{label}: {label}"
        result = quick_attribution(images=pictures(1), beam_width=1)
        result.target, result.label = f"ClassLogit({label})", label
        result.effects = [replace(one, concept=label) for one in result.effects]
        figure, axes = result.plot()
        figure.savefig(tmp_path / "a.png")
        assert label in axes["effects"].get_xlabel().replace("\\$", "$")


def test_a_target_without_a_class_is_plotted() -> None:
    score = ActivationScore(8, None, None, 1.5, None)
    _, axes = example(label=None, activation={"held_out": score}, truth=None, images=[], words=[]).plot()
    assert axes["activation"].get_xlabel() == "mean target score"

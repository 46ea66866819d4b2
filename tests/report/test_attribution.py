"""The page and the figure of an attribution: what they say, and that they escape it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

import diffexplain_fast as dx
from diffexplain_fast.cli.attribute import summary
from diffexplain_fast.errors import CorruptFileError
from diffexplain_fast.records import JsonObject
from diffexplain_fast.results.effects import Counterfactual, Edit, Effect, Interaction, Row
from diffexplain_fast.storage import write_manifest
from tests.explaining import quick_explanation
from tests.report.pages import Page

_EVIL = "<script>alert(1)</script>"


def attribution(word: str = "snow", label: str = "boat") -> dx.Attribution:
    """Return an attribution that was written by hand."""
    picture, name = Image.new("RGB", (8, 8), "red"), f"ground:{word}"
    return dx.Attribution(
        target=f"ClassLogit({label})",
        label=label,
        images=[picture],
        captions=[f"a boat on {word}"],
        taxonomy=dx.Taxonomy({"ground": [word, "desert"]}),
        rows=[Row(0, name, -2.5, -2.6, -2.4, 1.0, 1, -2.5, -30.0, 1.0, "swap")],
        effects=[
            Effect(name, -2.5, -2.6, -2.4, 0.01, 1, -2.5, 1.0),
            Effect("ground:desert", 0.5, 0.4, 0.6, 0.4, 0, 0.5, 0),
        ],
        interactions=[Interaction(name, "ground:desert", 1.25, 1.0, 1.5, 1, 1.25)],
        counterfactuals=[Counterfactual(picture, (name,), label, "fish", True, 0.9, 0.1)],
        placebos={"swap": [0.01, -0.02]},
        denoiser_rows=96,
        settings={"verifier": "denoiser", "pipeline": word},
        found={0: [Edit(picture, False, -2.5, (name,))]},
    )


def test_effects_stand_in_the_unit_of_the_output(tmp_path: Path) -> None:
    found = replace(attribution(), target="age", label=None)
    for settings, unit in (({}, "logits"), ({"unit": "units of the outputs"}, "units of the outputs")):
        text = replace(found, settings=found.settings | settings).report(tmp_path / "report.html").read_text()
        assert f"What each concept does to the score, in {unit}, over 1 picture<" in text
        assert "without a unit" not in text and "lowers the score of age the most" in text


def test_the_summary_marks_unverified_effects_and_counts_those_that_are_left_out() -> None:
    verified, unverified = attribution().effects
    effects = [*(replace(unverified, concept=f"ground:{i}", effect=9.0 - i / 9) for i in range(14)), verified]
    lines = [line.strip() for line in replace(attribution(), effects=effects).summary().splitlines()]
    assert lines[1] == "ground:snow: -2.50 [-2.60, -2.40]"
    assert lines[2] == "ground:0: +9.00 [+0.40, +0.60]  (no edit was verified)"
    assert lines[13] == "... and 3 concepts more"


def test_the_known_end_of_an_interval_is_said(tmp_path: Path) -> None:
    base, inf = attribution().effects[0], float("inf")
    ends = {"at least -3.00": (-3.0, inf), "at most -1.00": (-inf, -1.0), "interval unknown": (-inf, inf)}
    effects = [replace(base, concept=said, low=low, high=high) for said, (low, high) in ends.items()]
    result = replace(attribution(), effects=effects)
    page = Page(result.report(tmp_path / "ends.html").read_text())
    text = " ".join(page.text.split())
    assert all(text.count(f"-2.50 {said}") == 1 for said in ends)
    kinds = [value for name, value in page.values if name == "class" and value.startswith("whisker")]
    assert kinds == ["whisker open-high", "whisker open-low"]
    assert not any("inf" in value for name, value in page.values if name == "style")
    assert "[-3.00, unknown]" in result.summary() and "[unknown]" in result.summary()


def test_pictures_count_from_one_in_what_is_read(tmp_path: Path) -> None:
    one = attribution()
    two = replace(
        one, images=one.images * 2, captions=["a sea", "a boat"], counterfactuals=[None, one.counterfactuals[0]]
    )
    page = " ".join(
        replace(two, settings=one.settings | {"redraws_left_out": [1]}).report(tmp_path / "a.html").read_text().split()
    )
    assert "Picture 2: a boat" in page and 'alt="Picture 2, its counterfactual"' in page
    assert "redraws_left_out counts pictures from 0: its 0 is Picture 1." in page
    assert "picture 2: boat becomes fish with ground:snow" in summary(two) and "picture 1" not in summary(two)


def test_pictures_of_edits_that_are_left_out_are_counted(tmp_path: Path) -> None:
    result = attribution()
    edit = result.found[0][0]
    many = replace(result, found={0: [replace(edit, concepts=(f"ground:{i}",)) for i in range(11)]})
    text = " ".join(many.report(tmp_path / "many.html").read_text().split())
    assert "The 8 strongest of 11 edits; the others are in the saved attribution." in text
    assert "strongest of" not in result.report(tmp_path / "one.html").read_text()


def test_it_says_what_the_attribution_holds(tmp_path: Path) -> None:
    text = attribution().report(tmp_path / "deep" / "report.html").read_text()
    Page(text)  # elements nest
    for said in (
        "boat",
        "ground:snow",
        "-2.50",
        "-2.60 to -2.40",
        "+1.25",
        "not verified",
        "becomes fish",
        "swap: 0.02",
    ):
        assert said in " ".join(text.split()), said
    assert text.count("<img") == 3 and "data:image/webp;base64," in text
    assert "ground:snow lowers the score of boat the most, by 2.50." in text


def test_everything_is_escaped_and_nothing_is_fetched(tmp_path: Path) -> None:
    text = dx.write_report([attribution(_EVIL, _EVIL)], tmp_path / "r.html", title=_EVIL).read_text()
    assert text.count("<script") == 1 and "&lt;script&gt;" in text
    assert "default-src 'none'" in text and "http" not in text.replace("http-equiv", "")


def test_pages_hold_results_of_one_kind(tmp_path: Path) -> None:
    two = dx.write_report([attribution(), attribution("sea")], tmp_path / "two.html").read_text()
    assert 'id="attribution-1"' in two and 'id="attribution-2"' in two
    with pytest.raises(TypeError, match="results: wanted results of one kind"):
        dx.write_report([attribution(), quick_explanation()], tmp_path / "r.html")


def test_the_figure_has_a_bar_for_each_effect() -> None:
    figure, axes = attribution().plot()
    assert [text.get_text() for text in axes["effects"].get_yticklabels()] == ["ground:snow", "ground:desert"]
    assert len(axes["effects"].patches) == 2
    figure.canvas.draw()


def _without_captions(record: JsonObject) -> None:
    record["captions"] = []


def _shown_by_more(record: JsonObject) -> None:
    record["shown"] = [["ground:snow"], []]


def _of_another_picture(record: JsonObject) -> None:
    record["rows"][0]["image"] = 7


def _twice(record: JsonObject) -> None:
    record["counterfactuals"] *= 2


def _without_verifier(record: JsonObject) -> None:
    del record["settings"]["verifier"]


def _left_out(record: JsonObject) -> None:
    record["settings"]["redraws_left_out"] = -1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_without_verifier, "attribution.json, settings: wanted a dict of verifier"),
        (_left_out, "attribution.json, settings, redraws_left_out: wanted list"),
        (_without_captions, "attribution.json, captions: wanted 1, one for each picture, got 0"),
        (_shown_by_more, "attribution.json, shown: wanted 1, one for each picture, got 2"),
        (_of_another_picture, "attribution.json, rows: wanted a picture below 1, got 7"),
        (_twice, "attribution.json"),
    ],
)
def test_a_record_that_does_not_fit_its_pictures_is_named(
    damage: Callable[[JsonObject], None], message: str, tmp_path: Path
) -> None:
    folder = attribution().save(tmp_path / "a")
    record = json.loads((folder / "attribution.json").read_text())
    damage(record)
    (folder / "attribution.json").write_text(json.dumps(record))
    write_manifest(folder)
    with pytest.raises(CorruptFileError, match=message):
        dx.Attribution.load(folder)


def test_a_result_without_edits_is_the_same_after_loading(tmp_path: Path) -> None:
    nothing = replace(attribution(), found={0: []}, rows=[], effects=[], interactions=[], counterfactuals=[None])
    assert dx.Attribution.load(nothing.save(tmp_path / "a")).found == {0: []}


def test_a_damaged_attribution_is_named(tmp_path: Path) -> None:
    folder = attribution().save(tmp_path / "a")
    assert dx.Attribution.load(folder).effects == attribution().effects
    record = folder / "attribution.json"
    record.write_text(record.read_text().replace("-2.5,", '"much",', 1))
    with pytest.raises(CorruptFileError):
        dx.Attribution.load(folder)

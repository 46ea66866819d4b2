"""Many concepts are screened by quick edits: the strongest are found, and no number of a quick edit looks measured."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import diffexplain_fast as dx
from diffexplain_fast import tinyworld
from diffexplain_fast.cli.attribute import summary
from diffexplain_fast.editing.latents import LatentModels
from diffexplain_fast.evidence.shipped import Shipped, Wording
from diffexplain_fast.methods.diffex import screening, setup
from diffexplain_fast.methods.diffex.costs import rows_of_screening
from diffexplain_fast.methods.diffex.drawing import Drawing
from diffexplain_fast.methods.diffex.kinds import EDITORS
from diffexplain_fast.methods.diffex.nulls import Null
from diffexplain_fast.methods.diffex.pairs import chosen_pairs
from diffexplain_fast.methods.diffex.scene import job_of
from diffexplain_fast.methods.diffex.summary import effects_of, screened_row
from diffexplain_fast.methods.diffex.telling import Telling
from diffexplain_fast.methods.diffex.wording import PlainWording
from diffexplain_fast.methods.diffex.work import Work, measure_nulls
from diffexplain_fast.models.loading import load_pipeline
from tests.methods.diffex.test_summary import rows_by
from tests.methods.diffex.worlds import Left, pictures, quick_attribution
from tests.tiny import tiny_sd

WORDS = ["snow", "desert", "tree", "house"]
QUESTION: dict[str, Any] = {"taxonomy": {"ground": WORDS}, "captions": ["a fish"], "images": pictures(1)}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Screen more than three concepts, and edit one."""
    monkeypatch.setattr(screening, "SCREENED_ABOVE", 3)
    monkeypatch.setattr(screening, "FINALISTS", 1)


@pytest.mark.usefixtures("few")
def test_the_strongest_concept_is_edited_though_a_plain_swap_hardly_moves_it() -> None:
    scene = tinyworld.render("fish", background="sea")
    taxonomy = {"background": ["desert"], "colour": ["blue", "green"], "companion": ["star", "sun"]}
    with dx.Explainer("tinyworld", "tinyworld/background", seed=0) as explainer:
        found = explainer.attribute(scene.image, "fish", taxonomy, captions=[scene.caption], beam_width=1)
    (row,) = [row for row in found.rows if not row.screened]
    assert row.concept == "background:desert" and row.effect > 3 and found.effects[0].concept == row.concept


@pytest.mark.usefixtures("few")
def test_what_was_only_screened_is_marked_wherever_it_is_shown(tmp_path: Path) -> None:
    found = quick_attribution(**QUESTION)
    rows = [row for row in found.rows if row.screened]
    assert len(rows) == 3 == found.settings["screened_only"]
    for row in rows:
        assert (row.low, row.high, row.n) == (-math.inf, math.inf, 0) and row.editor == "screening"
        assert row.success is row.unchanged is row.points is None
    first, *others = found.effects
    assert not first.screened and first.success is not None
    for effect in others:
        assert effect.screened and (effect.n, effect.success, effect.adjusted_p) == (0, None, 1)
        assert (effect.low, effect.high) == (-math.inf, math.inf)
    assert found.tree() == [(("ground",), first.effect, first.effect, first.effect)] and not found.interactions
    said = "Of 4 changes of a picture 3 were screened only, not edited"
    for text in (found.summary(), summary(found)):
        assert said in text and text.count("(screened only, not edited)") == 3
    page = " ".join(found.report(tmp_path / "a.html").read_text().split())
    assert said in page and page.count("screened only</td>") == 3
    read = dx.Attribution.load(found.save(tmp_path / "a"))
    assert read.rows == found.rows and read.effects == found.effects
    found.plot()


def test_numbers_of_quick_edits_are_never_mixed_with_those_of_edits() -> None:
    rows = rows_by(["swap"] * 3, 1.0)
    beside = [screened_row(3, "a", 9.0), screened_row(0, "b", 8.0), screened_row(1, "b", 6.0)]
    effects = effects_of([*rows, *beside], [Null()] * 4)
    (alone,) = effects_of(rows, [Null()] * 3)
    assert [effect.concept for effect in effects] == ["a", "b"]  # the larger number was not measured
    mine, other = effects
    assert (mine.effect, mine.low, mine.high, mine.effect_all, mine.success, mine.n) == (
        alone.effect,
        alone.low,
        alone.high,
        alone.effect_all,
        1.0,
        3,
    )
    assert other.effect == 7 and other.adjusted_p == 1 and (other.low, other.high) == (-math.inf, math.inf)


def test_pairs_are_drawn_of_concepts_that_were_edited() -> None:
    concepts = dx.Taxonomy({"ground": ["snow"], "thing": ["boat"], "mood": ["calm"]}).concepts
    rows = [row for i, one in enumerate(concepts[:2]) for row in rows_by(["swap"], 1.0 + i)]
    for row, concept in zip(rows, concepts, strict=False):
        row.concept, row.success = concept.name, 0.0
    effects = effects_of([*rows, screened_row(0, concepts[2].name, 9.0)], [Null()])
    ((one, other),) = chosen_pairs(concepts, effects, 1, PlainWording(concepts))
    assert {one.name, other.name} == {"ground:snow", "thing:boat"}


@pytest.mark.parametrize("asked", EDITORS)
def test_a_screening_runs_as_many_rows_as_are_reckoned(asked: str) -> None:
    things = {"object": ["boat"], "colour": ["red"], "texture": ["blue"]}
    taxonomy = dx.Taxonomy({"background": ["snow", "desert"], **things, "mood": ["tree"]})
    wording: Wording = PlainWording(taxonomy)
    models = LatentModels(load_pipeline(tiny_sd()), one_shape=False)
    drawing = Drawing(models, Shipped(segmenter=Left()), wording, asked, 0)  # type: ignore[arg-type]
    scene = drawing.scene(0, pictures(1), "a fish")
    jobs = [job for one in taxonomy.concepts if (job := job_of(scene, (one,), wording)) is not None]
    drawn = drawing.quick(scene, jobs)
    assert (
        models.denoiser_rows == rows_of_screening(drawing, jobs, at_once=len(jobs))
        and len(drawn.pixels) == len(jobs) == 6
    )


@pytest.mark.usefixtures("few")
def test_rows_for_an_edit_and_its_errors_are_kept_back_before_a_screening(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screening, "FINALISTS", 2)
    monkeypatch.setattr(setup, "shipped_with", lambda _: Shipped(segmenter=Left()))  # type: ignore[arg-type]
    question = QUESTION | {"taxonomy": {"background": WORDS}, "captions": ["a fish on grass"]}
    whole = quick_attribution(**question)
    screened, one = 4 * 4 + 4, 10 + 10 + 8 + 10
    strongest = [row.concept for row in whole.rows if row.screened is False]
    for budget in (one, screened + one - 1, screened + one, screened + one + 10):
        found = quick_attribution(**question, budget=budget)
        edited = [row.concept for row in found.rows if not row.screened]
        assert edited and found.denoiser_rows <= budget and found.settings["redraws_left_out"] == []
        if budget < screened + one:
            assert edited[0] == "background:snow" and len(edited) == len(found.rows)  # nothing was screened
        else:
            assert edited == strongest[:1] and len(found.rows) == 4


def test_a_picture_that_was_only_screened_has_unmeasured_errors() -> None:
    null = Null()
    lab: Any = SimpleNamespace(budget=SimpleNamespace(release=lambda picture: 0))
    work = Work(SimpleNamespace(index=0), screened={"a": 1.0})  # type: ignore[arg-type]
    measure_nulls(lab, [work], Telling(None, None))  # type: ignore[arg-type]
    assert work.null.left_out and not null.left_out


def test_of_many_concepts_one_in_ten_is_edited() -> None:
    assert [screening.finalists_of(count) for count in (41, 100, 109, 210)] == [10, 10, 10, 21]
    sizes = [float(i % 7) for i in range(210)]
    assert len(screening.strongest(sizes)) == 21 and {sizes[i] for i in screening.strongest(sizes)} == {6.0}

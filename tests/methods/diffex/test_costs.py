"""A budget of rows is a limit: what is reckoned beforehand is what is run, checks and filled batches included."""

from typing import Any

import pytest
import torch

import diffexplain_fast as dx
from diffexplain_fast.editing.latents import LatentModels
from diffexplain_fast.evidence.shipped import Shipped
from diffexplain_fast.methods.diffex import setup
from diffexplain_fast.methods.diffex.answers import Answers
from diffexplain_fast.methods.diffex.budget import Budget
from diffexplain_fast.methods.diffex.costs import redraw_rows, rows_of_placebo, rows_of_try
from diffexplain_fast.methods.diffex.drawing import Drawing
from diffexplain_fast.methods.diffex.eyes import eye_for
from diffexplain_fast.methods.diffex.jobs import Jobs
from diffexplain_fast.methods.diffex.kinds import EDITORS, GUIDED, LATE, LONG, SWAP
from diffexplain_fast.methods.diffex.notes import Notes
from diffexplain_fast.methods.diffex.scene import job_of
from diffexplain_fast.methods.diffex.trials import Lab
from diffexplain_fast.methods.diffex.wording import PlainWording
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.targets import as_target
from tests.methods.diffex.worlds import Brightness, Left, pictures, quick_attribution
from tests.tiny import tiny_sd

TAXONOMY = dx.Taxonomy(
    {
        "background": ["snow", "desert"],
        "object": ["boat", "tree"],
        "colour": ["blue"],
        "texture": ["red"],
        "mood": ["house"],
    }
)
SEEING: Any = Shipped(segmenter=Left())  # type: ignore[arg-type]


def lab_of(asked: str, one_shape: bool = False) -> Lab:
    pipeline = load_pipeline(tiny_sd())
    models, wording = LatentModels(pipeline, one_shape=one_shape), PlainWording(TAXONOMY)
    classifier, drawing = Classifier(Brightness(), labels=("light", "dark")), Drawing(models, SEEING, wording, asked, 0)
    answers, budget = Answers(classifier, as_target("light").bind(classifier)), Budget(models)
    eye = eye_for(Shipped(), models, wording, {})
    return Lab(drawing, eye, answers, budget, Notes(budget), Jobs(wording, pipeline.fits))


@pytest.mark.parametrize("one_shape", [False, True])
@pytest.mark.parametrize("asked", EDITORS)
def test_what_a_try_and_its_errors_cost_is_known_beforehand(asked: str, one_shape: bool) -> None:
    lab = lab_of(asked, one_shape)
    models = lab.drawing.models
    scene = lab.drawing.scene(0, pictures(1), "a fish")
    jobs = [job for one in TAXONOMY.concepts if (job := job_of(scene, (one,), lab.drawing.wording)) is not None]
    for attempt in range(3):
        before = models.denoiser_rows
        lab._once(scene, jobs, attempt, seed=0)
        assert models.denoiser_rows - before == rows_of_try(lab.drawing, lab.eye, scene, jobs, attempt)
    before, mask = models.denoiser_rows, Left().regions(pictures(1), ["fish"])
    for editor in (SWAP, GUIDED, LATE, LONG):
        scene.inversions.clear()
        lab.drawing.placebo(scene, editor, mask)
        assert models.denoiser_rows - before == rows_of_placebo(models, editor)
        before = models.denoiser_rows
    lab.drawing.redrawn(scene, mask.expand(2, -1, -1, -1))
    assert models.denoiser_rows - before == redraw_rows(lab.drawing, scene, jobs[2:4])


@pytest.mark.parametrize("seeing", [Shipped(), SEEING], ids=["alone", "segmenter"])
def test_no_budget_is_exceeded(seeing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "shipped_with", lambda _: seeing)
    least, given = None, pictures(2)
    for budget in range(20, 260, 20):
        try:
            found = quick_attribution(images=given, taxonomy=TAXONOMY, captions=["a fish"] * 2, budget=budget)
        except ValueError as error:
            least = str(error)
            continue
        assert found.rows and found.denoiser_rows <= budget
    assert least is not None and f"which take {8 + 8 + 8 + 4} rows" in least  # edit, inversion and check; twice guided
    assert torch.equal(given, pictures(2))

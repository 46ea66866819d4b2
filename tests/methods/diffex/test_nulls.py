"""The null of a picture: what it is measured from, and what the intervals of single pictures make of it."""

import math
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

import diffexplain_fast as dx
from diffexplain_fast.editing.latents import LatentModels
from diffexplain_fast.evidence.shipped import Shipped
from diffexplain_fast.methods.diffex import setup
from diffexplain_fast.methods.diffex.costs import redraw_rows
from diffexplain_fast.methods.diffex.errors_at import REDRAWS, redraws_at
from diffexplain_fast.methods.diffex.nulls import Null, null_of_picture, placebos_of
from diffexplain_fast.methods.diffex.pairs import interactions_of
from diffexplain_fast.methods.diffex.summary import effects_of, row_of
from diffexplain_fast.methods.diffex.verdict import Verdict
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.targets import as_target
from tests.methods.diffex.worlds import Brightness, Left, pictures, quick_attribution
from tests.tiny import tiny_sd

T3 = 3.182446
"""Student's quantile of 97.5 % at 3 degrees of freedom."""


def trial(effect: float, names: tuple[str, ...] = ("a",), verified: bool = True, editor: str = "swap") -> Any:
    """Return what of a trial a summary reads."""
    job = SimpleNamespace(names=names)
    return SimpleNamespace(
        job=job, effect=effect, verified=verified, points=1.0, verdict=Verdict(verified), editor=editor
    )


def test_the_interval_of_a_picture_holds_the_error_of_drawing_and_that_of_the_autoencoder() -> None:
    null = Null([0.3, -0.3, 0.3], [0.2, -0.2, 0.2], {"swap": [0.01]})
    square, lost = 0.3**2, 2 * 0.2**2
    half = float(scipy.stats.t.ppf(0.975, (square + lost) ** 2 / ((square**2 + lost**2) / 3))) * (square + lost) ** 0.5
    row = row_of(0, [trial(1.0)], null)
    assert (row.low, row.high) == pytest.approx((1 - half, 1 + half), rel=1e-6)
    (effect,) = effects_of([row], [null])
    assert (effect.low, effect.high) == (row.low, row.high)
    assert null.p(half, "swap") == pytest.approx(0.05, rel=1e-5) and effect.adjusted_p == null.p(1.0, "swap")


def test_repeated_edits_never_make_an_interval_narrower_than_the_null() -> None:
    null = Null([0.3, -0.3, 0.3], [0.0] * 3)
    alike, apart = ([trial(1 + step * i) for i in range(3)] for step in (0.001, 2.0))
    row = row_of(0, alike, null)
    assert row.high - row.effect == pytest.approx(T3 * 0.3, rel=1e-6) == row.effect - row.low
    assert row_of(0, apart, null).high > 3.0 + T3 * 0.3


def test_without_redraws_placebos_of_the_editor_and_the_autoencoder_are_left() -> None:
    null = Null([], [0.2] * 3, {"swap": [0.1] * 5, "inpaint": [0.5] * 5})
    assert null.spread("inpaint") > null.spread("stronger swap") > 0.3
    assert Null([], [0.2] * 3).spread("guide") == pytest.approx(T3 * 0.2 * 2**0.5, rel=1e-5)
    assert Null().spread("swap") == math.inf and Null().p(3.0, "swap") == 1  # nothing is known


def test_an_interaction_of_one_picture_has_three_errors_and_over_pictures_students() -> None:
    names = [("a",), ("b",), ("a", "b")]
    found = {one: [trial(value, one)] for one, value in zip(names, (1.0, 2.0, 4.0), strict=True)}
    null = Null([0.3, -0.3, 0.3])
    (one,) = interactions_of([found], [null])
    assert one.effect == 1 and one.high - 1 == pytest.approx(3**0.5 * T3 * 0.3, rel=1e-6)
    (two,) = interactions_of([found, found], [null, null])
    half = T3 * (3 * 0.3**2 / 2) ** 0.5  # both pictures agree better than each is right, by one estimate
    assert (two.low, two.high) == pytest.approx((1 - half, 1 + half), rel=1e-6)
    (two,) = interactions_of([found, found], [null, Null([0.4, -0.4, 0.4])])
    freedom = (0.09 + 0.16) ** 2 / (0.09**2 / 3 + 0.16**2 / 3)  # of two estimates
    half = scipy.stats.t.ppf(0.975, freedom) * (3 * (0.09 + 0.16)) ** 0.5 / 2
    assert (two.low, two.high) == pytest.approx((1 - half, 1 + half), rel=1e-6)
    (two,) = interactions_of([found, found], [Null(unknown=True)] * 2)
    assert (two.low, two.high) == (-math.inf, math.inf), "two equal numbers have no spread that anybody knows"


def test_an_interaction_has_the_errors_of_the_picture_that_it_is_of() -> None:
    pairs = [(("a",), 1.0), (("b",), 2.0), (("a", "b"), 4.0)]
    failed, worked = ({one: [trial(value, one, good)] for one, value in pairs} for good in (False, True))
    (one,) = interactions_of([failed, worked], [Null([9.0, -9.0, 9.0]), Null([0.3, -0.3, 0.3])])
    assert one.n == 1 and one.high - 1 == pytest.approx(3**0.5 * T3 * 0.3, rel=1e-6)  # of the verified one


def test_errors_of_a_bell_shape_are_covered_at_their_level() -> None:
    rng, held = np.random.default_rng(0), []
    for _ in range(2000):
        draw, lossy, lossy_new, *redraws = rng.normal(0, [0.3, 0.1, 0.1, 0.3, 0.3, 0.3]).tolist()
        losses = rng.normal(0, 0.1, 3).tolist()
        held.append(abs(draw + lossy_new - lossy) <= Null(redraws, losses).spread("swap"))
    assert 0.93 <= np.mean(held) <= 0.97


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a lab with a segmenter, a scene, and its trials in two regions."""
    monkeypatch.setattr(setup, "shipped_with", lambda _: Shipped(segmenter=Left()))  # type: ignore[arg-type]
    pipeline, classifier = load_pipeline(tiny_sd()), Classifier(Brightness(), labels=("light", "dark"))
    wishes = setup.Wishes(taxonomy={"background": ["snow"], "object": ["boat"]}, captions=["a red fish"])
    target = as_target("light").bind(classifier)
    made = setup.set_up(pipeline, classifier, target, pictures(1), wishes, 0)
    scene = made.lab.drawing.scene(0, pictures(1), "a red fish")
    left = Left().regions(pictures(1), None)[0]
    job = SimpleNamespace(changes={"background": "snow"}, names=("background:snow",))
    some = [SimpleNamespace(mask=mask, editor="swap", job=job) for mask in (left, ~left) * 3]
    return SimpleNamespace(lab=made.lab, scene=scene, trials=some, left=left)


def test_regions_are_drawn_anew_with_the_pictures_own_words_and_the_rest_stays(world: Any) -> None:
    drawn = world.lab.drawing.redrawn(world.scene, torch.stack([world.left, world.left]))
    changed = (drawn.pixels - pictures(1)).abs().amax(1)
    assert (changed[:, :, 9:] == 0).all() and (changed[:, :, :7].mean((1, 2)) > 0.01).all()
    assert not torch.equal(drawn.pixels[0], drawn.pixels[1])  # each has noise of its own
    assert (drawn.before[0] - pictures(1)[0])[..., 9:].abs().max() == 0


def test_the_null_is_the_change_of_the_score_and_costs_ten_rows_a_region(world: Any) -> None:
    models: LatentModels = world.lab.drawing.models
    before = models.denoiser_rows
    null = null_of_picture(world.lab, world.scene, world.trials)
    assert models.denoiser_rows - before == 3 * 10 and len(null.redraws) == len(null.autoencoder) == 3
    masks = torch.stack([one.mask for one in world.trials[::2]])
    drawn, ask = world.lab.drawing.redrawn(world.scene, masks), world.lab.answers.ask
    assert null.redraws == pytest.approx((ask(drawn.pixels).value - ask(drawn.before).value).tolist())
    assert null.autoencoder == pytest.approx((ask(drawn.before).value - ask(pictures(1)).value).tolist())
    assert any(null.redraws) and any(null.autoencoder)


def test_every_kind_of_place_has_a_null_of_its_own(world: Any) -> None:
    changes = {"object:boat": "object", "colour:red": "colour", "background:snow": "background"}
    world.scene.said = {"object": "fish"}
    jobs = [SimpleNamespace(changes={group: "x"}, names=(name,)) for name, group in changes.items()]
    masks = (world.left, world.left, ~world.left)
    trials: Any = [
        SimpleNamespace(mask=mask, editor="swap", job=job) for job, mask in zip(jobs, masks, strict=True) for _ in "abc"
    ]
    before = world.lab.drawing.models.denoiser_rows
    null = null_of_picture(world.lab, world.scene, trials)
    assert world.lab.drawing.models.denoiser_rows - before == 2 * 2 * 10  # of things, and of all but things
    thing, sky = null.at(["object:boat"]), null.at(["background:snow"])
    assert thing.redraws == null.at(["colour:red"]).redraws != sky.redraws and len(sky.redraws) == 2
    assert null.redraws == thing.redraws + sky.redraws and null.at(["size:small"]) is null
    both = null.at(["object:boat", "background:snow"])
    assert both.redraws == pytest.approx([one + two for one, two in zip(thing.redraws, sky.redraws, strict=True)])
    assert null.at(["object:boat", "colour:red"]).redraws == thing.redraws  # the same region, drawn once
    more = null_of_picture(world.lab, world.scene, [*trials[:6], *trials])
    assert len(more.at(["object:boat"]).redraws) == 3 and len(more.at(["background:snow"]).redraws) == 2


def test_a_thing_that_is_added_is_drawn_twice(world: Any) -> None:
    job = SimpleNamespace(changes={"companion": "kite"}, names=("companion:kite",), caption="a red fish with kite")
    added: Any = SimpleNamespace(mask=world.left, editor="swap", job=job, effect=0.25)
    null = null_of_picture(world.lab, world.scene, [added])
    masks, ask = world.left[None], world.lab.answers.ask
    drawn = world.lab.drawing.redrawn(world.scene, masks, ["a red fish with kite"])
    again = float(ask(drawn.pixels).value - ask(drawn.before).value)
    assert null.at(["companion:kite"]).redraws == pytest.approx([again - 0.25])
    added.editor = "inpaint"  # both are drawings
    null = null_of_picture(world.lab, replace(world.scene, index=1), [added])
    assert null.at(["companion:kite"]).redraws == pytest.approx([(again - 0.25) / 2**0.5])
    same = world.lab.drawing.redrawn(world.scene, masks)
    assert not torch.equal(same.pixels, drawn.pixels) and torch.equal(same.before, drawn.before)


def test_a_place_without_redraws_has_those_of_all_places() -> None:
    places = {"thing": Null([0.9, -0.9], [0.1, 0.1]), "sky": Null([], [0.1, 0.1]), "": Null([], [0.2])}
    null = Null([0.9, -0.9], [0.1] * 4, {"swap": [0.5]}, {"a": "thing", "b": "sky", "c": ""}, places)
    assert null.at(["b"]).redraws == [0.9, -0.9] and null.at(["c"]).redraws == []
    assert null.at(["a", "b"]).redraws == [1.8, -1.8] and null.at(["a", "b"]).autoencoder == [0.2, 0.2]
    assert null.at(["a", "b"]).spread("swap") > null.at(["a"]).spread("swap")
    assert null.at(["c"]).spread("swap") > 0.5  # of the placebos


def test_a_whole_picture_is_not_drawn_anew(world: Any) -> None:
    job = SimpleNamespace(changes={"style": "sketch"}, names=("style:sketch",))
    everywhere: Any = SimpleNamespace(mask=torch.ones_like(world.left), editor="swap", job=job)
    before = world.lab.drawing.models.denoiser_rows
    null = null_of_picture(world.lab, world.scene, [everywhere])
    assert null.redraws == [] and len(null.autoencoder) == 1
    assert world.lab.drawing.models.denoiser_rows == before


def test_a_thing_that_the_segmenter_misses_is_not_new(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world.scene.said = {"companion": "kite"}
    monkeypatch.setattr(Left, "regions", lambda self, pixels, texts: torch.zeros_like(pixels[:, :1]).bool())
    job = SimpleNamespace(changes={"companion": "sun"}, names=("companion:sun",), caption="a red fish with sun")
    swapped: Any = SimpleNamespace(mask=world.left, editor="swap", job=job, effect=0.25)
    assert list(null_of_picture(world.lab, world.scene, [swapped]).places) == ["companion"]


def test_rows_and_interactions_have_the_error_of_where_they_are() -> None:
    places = {"thing": Null([0.9, -0.9, 0.9]), "sky": Null([0.1, -0.1, 0.1])}
    null = Null([0.9, 0.1], where={"a": "thing", "b": "sky"}, places=places)
    rows = [row_of(0, [trial(1.0, (name,))], null) for name in "ab"]
    assert [row.high - 1 for row in rows] == pytest.approx([T3 * 0.9, T3 * 0.1], rel=1e-6)
    wide, narrow = sorted(effects_of(rows, [null]), key=lambda effect: effect.concept)
    assert narrow.adjusted_p < 0.05 < wide.adjusted_p
    found = {one: [trial(value, one)] for one, value in ((("a",), 1.0), (("b",), 2.0), (("a", "b"), 4.0))}
    (one,) = interactions_of([found], [null])
    assert one.high - 1 == pytest.approx(T3 * (0.81 + 0.01 + (0.9 + 0.1) ** 2) ** 0.5, rel=1e-6)


def test_inpainting_asks_the_denoiser_for_no_inversion(world: Any) -> None:
    models: LatentModels = world.lab.drawing.models
    before = models.denoiser_rows
    found = placebos_of(world.lab, world.scene, [SimpleNamespace(mask=world.left, editor="inpaint")])  # type: ignore
    assert models.denoiser_rows - before == 10 and len(found["inpaint"]) == 1


def test_editors_have_the_share_of_the_placebos_that_they_have_of_the_edits(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: Counter[str] = Counter()

    def counted(what: str, scene: Any, run: Any, *, editor: str, masks: Tensor) -> list[float]:
        asked[editor] += len(masks)
        return [0.0] * len(masks)

    budget = SimpleNamespace(allows=lambda rows: True)
    lab = SimpleNamespace(budget=budget, numbers=counted, drawing=world.lab.drawing)
    editors = ["swap"] * 12 + ["guided swap"] * 5 + ["early guided swap"] * 10 + ["inpaint"] * 3
    trials: Any = [SimpleNamespace(mask=world.left, editor=editor) for editor in editors]
    for index in range(300):
        placebos_of(lab, replace(world.scene, index=index), trials)  # type: ignore[arg-type]
    assert asked.total() == 600 and asked.keys() == {"swap", "guided swap", "inpaint"}
    assert asked["inpaint"] / 600 == pytest.approx(0.1, abs=0.04) and asked["swap"] / 600 == pytest.approx(
        0.4, abs=0.06
    )


def test_a_budget_is_asked_for_the_rows_that_a_placebo_takes(world: Any) -> None:
    trials: Any = [SimpleNamespace(mask=world.left, editor="inpaint")]
    world.lab.budget.rows = world.lab.drawing.models.denoiser_rows + 10
    assert placebos_of(world.lab, world.scene, trials)["inpaint"] and not world.lab.budget.used_up
    assert placebos_of(world.lab, replace(world.scene, index=1), trials) == {} and world.lab.budget.used_up


def test_a_budget_that_is_used_up_leaves_the_autoencoder(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world.lab.budget.rows = world.lab.drawing.models.denoiser_rows + 29
    null = null_of_picture(world.lab, world.scene, world.trials)
    assert null.redraws == [] and len(null.autoencoder) == 3 and world.lab.budget.used_up
    null.placebos = {"swap": [0.01] * 5}
    for one in (null, null.at(["background:snow"])):  # what was not measured is not certain
        assert one.unknown and one.left_out and one.spread("swap") == math.inf and one.p(9.0, "swap") == 1
    row = row_of(0, [trial(1.0, ("background:snow",))], null)
    (effect,) = effects_of([row], [null])
    assert (row.low, row.high, effect.low, effect.adjusted_p) == (-math.inf, math.inf, -math.inf, 1)
    assert null_of_picture(world.lab, world.scene, []) == Null()


def test_rows_that_are_kept_back_for_redraws_are_theirs(world: Any) -> None:
    budget, jobs = world.lab.budget, [one.job for one in world.trials]
    budget.rows = world.lab.drawing.models.denoiser_rows + 59
    ten = replace(world.scene, index=1)
    budget.kept = {0: redraw_rows(world.lab.drawing, world.scene, jobs), 1: 30}
    assert budget.kept[0] == 30 and not budget.allows(0) and budget.used_up
    assert not null_of_picture(world.lab, world.scene, world.trials).left_out and budget.kept == {1: 30}
    assert null_of_picture(world.lab, replace(ten, index=2), world.trials).unknown  # what is left is another picture's
    assert len(null_of_picture(world.lab, ten, world.trials).redraws) == 3 and not budget.kept


def test_redraws_are_counted_by_kind_of_place() -> None:
    assert redraws_at(["a"] * 2) == {"a": 2} and redraws_at(["a"] * 9) == {"a": 3}
    assert redraws_at(["a", "b", *"a" * 6, "b", "b"]) == {"a": 3, "b": 2} and redraws_at([]) == {}


def test_an_attribution_keeps_the_errors(tmp_path: Any) -> None:
    found = quick_attribution(images=pictures(1), beam_width=1)
    assert found.errors["redraws"] == [] and len(found.errors["autoencoder"]) == REDRAWS  # no segmenter
    assert all(row.high - row.effect > 1.959 * 2**0.5 * abs(found.errors["autoencoder"][0]) for row in found.rows)
    assert dx.Attribution.load(found.save(tmp_path / "a")).errors == found.errors

"""A background is drawn without the things before it, and their own pixels are put back."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from diffexplain_fast.editing.latents import LatentModels
from diffexplain_fast.evidence.shipped import Shipped
from diffexplain_fast.methods.diffex.costs import rows_of_try
from diffexplain_fast.methods.diffex.drawing import Drawing
from diffexplain_fast.methods.diffex.scene import Job
from diffexplain_fast.methods.diffex.standing import Standing
from diffexplain_fast.methods.diffex.wording import PlainWording
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.taxonomy import Taxonomy
from tests.methods.diffex.worlds import Left, pictures
from tests.tiny import tiny_sd

RED, GREEN = (torch.tensor(one).view(3, 1, 1) for one in ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0]))


def box(x: int, y: int, side: int = 8, height: int = 24, width: int = 32) -> Tensor:
    """Return a region bool [1, height, width]."""
    region = torch.zeros(1, height, width, dtype=torch.bool)
    region[:, y : y + side, x : x + side] = True
    return region


THINGS = {"object": box(4, 6), "companion": box(20, 2)}


def standing(asked: str = "auto", known: bool = True, things: dict[str, Tensor] = THINGS) -> Standing:
    """Return what puts a red object and a green companion before a background."""
    nowhere = torch.zeros(1, 24, 32, dtype=torch.bool)
    regions: Any = SimpleNamespace(known=known, of=lambda scene, part: things.get(part, nowhere)[None])
    wording: Any = SimpleNamespace(without=lambda text, part: f"{text}, no {part}")
    black = torch.zeros(3, 24, 32)
    behind = {"object": torch.where(THINGS["companion"], GREEN, black), "companion": torch.where(box(4, 6), RED, black)}
    return Standing(regions, lambda scene, part: behind[part], wording, asked)


def scene() -> Any:
    picture = torch.where(box(4, 6), RED, torch.where(box(20, 2), GREEN, torch.zeros(3, 24, 32)))
    return SimpleNamespace(decoded=picture[None])


def job(**changes: str) -> Job:
    return Job((), changes, "a boat on snow")


def test_a_background_is_drawn_without_the_things_that_are_put_back() -> None:
    assert standing().drawn(scene(), job(background="snow")).caption == "a boat on snow, no object, no companion"
    assert standing().parts(scene(), job(background="snow")) == ("object", "companion")
    for other in (job(object="fish"), job(background="snow", colour="red"), job(mood="sad")):
        assert standing().drawn(scene(), other) == other


def test_a_thing_that_nobody_finds_is_drawn() -> None:
    found = standing(things={"companion": box(20, 2), "object": box(4, 6, side=1)})
    assert found.parts(scene(), job(background="snow")) == ("companion",)
    assert found.drawn(scene(), job(background="snow")).caption == "a boat on snow, no companion"


@pytest.mark.parametrize(("asked", "known"), [("swap", True), ("inpaint", True), ("guide", True), ("auto", False)])
def test_an_editor_that_is_asked_for_draws_the_things_too(asked: str, known: bool) -> None:
    assert standing(asked, known).parts(scene(), job(background="snow")) == ()


def test_their_own_pixels_stand_before_the_new_background_which_may_differ_wherever_they_do_not_cover_it() -> None:
    drawn = torch.full((2, 3, 24, 32), 0.5)  # a thing that the generator drew once more would be seen here
    masks = torch.zeros(2, 1, 24, 32, dtype=torch.bool)
    jobs = [job(background="snow"), job(colour="red")]
    found, where = standing().put(scene(), jobs, drawn, masks)
    wanted = torch.where(box(4, 6), RED, torch.where(box(20, 2), GREEN, drawn[0]))
    assert torch.allclose(found[0], wanted) and torch.equal(found[1], drawn[1])
    assert torch.equal(where[0], ~(box(4, 6) | box(20, 2))) and torch.equal(where[1], masks[1])


def test_the_outline_of_a_thing_that_stood_before_the_same_colour_is_kept() -> None:
    dark = torch.zeros(3, 24, 32)
    outlined = torch.where(box(5, 7, 6), RED, dark)  # its outermost pixels are as dark as the night behind
    one: Any = SimpleNamespace(decoded=torch.where(box(20, 2), GREEN, outlined)[None])
    found, where = standing().put(one, [job(background="snow")], torch.ones(1, 3, 24, 32), torch.ones(1, 1, 24, 32) > 0)
    assert torch.equal(found[0][:, 6:14, 4:12], outlined[:, 6:14, 4:12])
    assert not where[0, 0, 6:14, 4:12].any() and found[0][:, 0, 0].eq(1).all()


def test_what_is_behind_a_thing_is_in_the_rows_of_a_background() -> None:
    seeing: Any = Shipped(segmenter=Left())  # type: ignore[arg-type]
    wording = PlainWording(Taxonomy({"background": ["snow", "desert"], "object": ["fish", "boat"]}))
    models = LatentModels(load_pipeline(tiny_sd()), one_shape=False)
    drawing, eye = Drawing(models, seeing, wording, "auto", 0), SimpleNamespace(rows=lambda count: 0)
    jobs = [Job((), {"background": "snow"}, "a fish, snow")]
    for caption, behind in (("a fish on desert", 12 + 12), ("a desert", 0)):
        one, before = drawing.scene(0, pictures(1), caption), models.denoiser_rows
        drawing.draw(one, jobs, 0, 0)
        rows = rows_of_try(drawing, eye, one, jobs, 0)  # type: ignore[arg-type]
        assert rows == 10 + 10 + behind
        # The first try shares the noise of its inversion with what is behind.
        assert models.denoiser_rows - before == rows - (8 if behind else 0)


def test_what_is_behind_a_thing_is_drawn_by_itself_whatever_is_edited_beside() -> None:
    seeing: Any = Shipped(segmenter=Left())  # type: ignore[arg-type]
    tree = {"background": ["snow", "desert"], "object": ["fish", "boat"], "companion": ["kite"]}
    wording, text = PlainWording(Taxonomy(tree)), "a fish on desert with kite"
    models = LatentModels(load_pipeline(tiny_sd()), one_shape=False)
    drawing, eye = Drawing(models, seeing, wording, "auto", 0), SimpleNamespace(rows=lambda count: 0)
    asked = Job((), {"background": "snow"}, wording.changed(text, {"background": "snow"}))
    beside = [Job((), {part: ""}, wording.without(text, part)) for part in ("object", "companion")]
    drawn = drawing._editors.drawn

    def failing(*given: Any) -> Tensor:
        found = drawn(*given)
        found[1:] = 1.0  # whatever the neighbours were to show, they do not
        return found

    drawing._editors.drawn = failing  # type: ignore[method-assign]
    found = []
    for jobs in ([asked], [asked, *beside]):
        scene, before = drawing.scene(0, pictures(1), text), models.denoiser_rows
        found.append(drawing.draw(scene, jobs, 1, 0))
        rows = rows_of_try(drawing, eye, scene, jobs, 1)  # type: ignore[arg-type]
        assert models.denoiser_rows - before == rows
        drawing.draw(scene, jobs, 1, 1)
        assert models.denoiser_rows - before < 2 * rows  # what is behind is drawn once
    alone, accompanied = found
    assert torch.allclose(alone.pixels[0], accompanied.pixels[0], atol=1e-4)
    assert torch.equal(alone.masks[0], accompanied.masks[0])


def test_a_first_try_that_takes_a_thing_away_is_what_would_be_drawn_behind_it() -> None:
    seeing: Any = Shipped(segmenter=Left())  # type: ignore[arg-type]
    tree = {"background": ["snow", "desert"], "object": ["fish", "boat"], "companion": ["kite"]}
    wording, text = PlainWording(Taxonomy(tree)), "a fish on desert with kite"
    models = LatentModels(load_pipeline(tiny_sd()), one_shape=False)
    drawing = Drawing(models, seeing, wording, "auto", 3)
    asked = Job((), {"background": "snow"}, wording.changed(text, {"background": "snow"}))
    beside = [Job((), {part: ""}, wording.without(text, part)) for part in ("object", "companion")]
    found, rows = [], []
    for jobs in ([asked], [asked, *beside], beside):
        scene, before = drawing.scene(0, pictures(1), text), models.denoiser_rows
        found.append((drawing.draw(scene, jobs, 0, 0), scene.behind))
        rows.append(models.denoiser_rows - before)
    (alone, own), (accompanied, kept), (_, none) = found
    assert own.keys() == kept.keys() and all(torch.allclose(own[part], kept[part], atol=1e-5) for part in own)
    assert torch.allclose(alone.pixels[0], accompanied.pixels[0], atol=1e-4) and not none
    assert rows[0] == rows[1], "the edits beside are what is behind"

"""A thing that an edit only moves or makes smaller: its own pixels, the place, and what is left where it was."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from diffexplain_fast.evidence.shipped import Shipped
from diffexplain_fast.methods.diffex import resuming, setup
from diffexplain_fast.methods.diffex.costs import rows_of_try
from diffexplain_fast.methods.diffex.layers import layer_of
from diffexplain_fast.methods.diffex.moving import Moving, part_moved, scale_between, shift_between
from diffexplain_fast.methods.diffex.scene import Job
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.targets import as_target
from tests.methods.diffex.worlds import Brightness, pictures, quick_attribution
from tests.tiny import tiny_sd

TAXONOMY = {"place": ["snow", "desert"], "object": ["fish", "boat"]}
RED = torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1)


def box(x: int, y: int, side: int = 8, height: int = 24, width: int = 32) -> Tensor:
    """Return a region bool [1, height, width]."""
    region = torch.zeros(1, height, width, dtype=torch.bool)
    region[:, y : y + side, x : x + side] = True
    return region


def job(**changes: str) -> Job:
    return Job((), changes, "as it is to be")


def test_only_a_place_or_a_size_by_itself_keeps_the_pixels_of_a_thing() -> None:
    assert part_moved(job(place="left")) == part_moved(job(size="small")) == "object"
    assert part_moved(job(colour="red")) is None
    assert part_moved(job(place="left", colour="red")) is None and part_moved(job()) is None


@pytest.mark.parametrize(
    ("x", "y", "shift"), [(15, 4, (11, 0)), (14, 10, (10, 6)), (5, 12, (0, 8)), (4, 4, (0, 0)), (0, 5, (-4, 0))]
)
def test_a_thing_goes_where_it_is_drawn_and_along_one_axis_where_that_is_nearly_so(x, y, shift) -> None:
    assert shift_between(box(4, 4), box(x, y)) == shift


def test_a_stray_pixel_of_a_segmenter_does_not_move_a_thing() -> None:
    drawn = box(15, 4)
    drawn[:, 23, 0] = True
    assert shift_between(box(4, 4), drawn) == (11, 0)


def test_a_scale_is_of_width_and_height() -> None:
    assert scale_between(box(4, 4, 8), box(6, 6, 4)) == pytest.approx(0.5)
    assert scale_between(box(4, 4, 8), box(0, 0, 16)) == pytest.approx(2)


def moved(change: Job, old: Tensor, new: Tensor, picture: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """Return the picture of a job and its mask, of a thing that a segmenter finds in one place and then in another."""
    regions: Any = SimpleNamespace(
        known=True, of=lambda scene, part: old[None], seen=lambda scene, part, one: new[None]
    )
    scene: Any = SimpleNamespace(decoded=picture[None])
    moving = Moving(regions, lambda *given: torch.zeros(3, 24, 32), "auto")
    found, masks = moving.put(scene, [change], drawn[None], new[None])
    return found[0], masks[0]


@pytest.mark.parametrize("change", [job(place="left"), job(size="small")], ids=lambda job: next(iter(job.changes)))
def test_what_is_not_found_stays_as_it_was_drawn(change) -> None:
    nothing, drawn = torch.zeros(1, 24, 32, dtype=torch.bool), torch.rand(3, 24, 32)
    for old, new in ((box(4, 4), nothing), (nothing, box(4, 4))):
        found, mask = moved(change, old, new, torch.rand(3, 24, 32), drawn)
        assert torch.equal(found, drawn) and torch.equal(mask, new)


def test_a_smaller_thing_has_its_own_pixels_around_its_own_middle() -> None:
    # Two halves of a box of 16 pixels, drawn somewhere else in another colour and half as wide.
    behind = torch.zeros(3, 24, 32)
    picture = torch.where(box(4, 4, 16), RED, behind)
    picture[1, 4:20, 12:20] = 1
    found, mask = moved(job(size="small"), box(4, 4, 16), box(20, 10, 8), picture, torch.rand(3, 24, 32))
    inside = found[:, 9:15, 9:15]
    assert torch.allclose(inside[:, :, :2], RED, atol=0.1) and inside[1, :, 4:].min() > 0.9
    outside = ~box(7, 7, 10)
    assert found[outside.expand(3, -1, -1)].abs().max() < 0.05
    assert (mask & box(4, 4, 16)).sum() == 256  # what was behind it is seen now


def test_a_smaller_thing_that_is_drawn_too_badly_to_be_found_is_where_the_drawing_differs() -> None:
    # Drawn half as wide in a pale colour; a smear of the background around it is no part of it.
    behind, nothing = torch.zeros(3, 24, 32), torch.zeros(1, 24, 32, dtype=torch.bool)
    picture, drawn = torch.where(box(4, 4, 16), RED, behind), torch.where(box(8, 8), 0.4 * RED, 0.1 * RED)
    regions: Any = SimpleNamespace(known=True, of=lambda *given: box(4, 4, 16)[None], seen=lambda *given: nothing[None])
    asked: list[Any] = []
    moving = Moving(regions, lambda *given: asked.append(given) or behind, "auto")  # type: ignore[func-returns-value]
    scene: Any = SimpleNamespace(decoded=picture[None])
    found, _ = moving.put(scene, [job(size="small")], drawn[None], box(2, 2, 20)[None])
    assert found[0, 0].sum() == pytest.approx(64, abs=8) and found[0, 0, 9:15, 9:15].min() > 0.9
    assert len(asked) == 1
    found, _ = moving.put(scene, [job(size="small")], 0.5 * drawn[None], box(2, 2, 20)[None])
    assert torch.equal(found[0], 0.5 * drawn)


@pytest.mark.parametrize("side", [8, 12])
def test_a_thing_that_grows_stays_as_it_was_drawn(side) -> None:
    picture, drawn = torch.where(box(4, 4), RED, torch.zeros(3, 24, 32)), torch.rand(3, 24, 32)
    found, mask = moved(job(size="large"), box(4, 4), box(2, 2, side), picture, drawn)
    assert torch.equal(found, drawn) and torch.equal(mask, box(2, 2, side))


@pytest.mark.parametrize(("scale", "x", "y"), [(0.5, 7.5, 9.5), (0.3, 7.5, 9.5), (0.01, 7.5, 9.5), (1.0, 3.0, 5.0)])
def test_the_middle_of_a_smaller_thing_stays(scale, x, y) -> None:
    picture = torch.where(box(4, 6), RED, torch.zeros(3, 24, 32))
    small = layer_of(picture, torch.zeros(3, 24, 32), box(4, 6)).smaller(scale, x, y)
    assert small.opacity.shape == (1, 24, 32) and small.opacity.min() >= 0 and small.opacity.max() <= 1
    weight = small.opacity[0] / small.opacity.sum()
    middle = (weight.sum(0) * torch.arange(32)).sum(), (weight.sum(1) * torch.arange(24)).sum()
    assert abs(middle[0] - 7.5) < 0.8 and abs(middle[1] - 9.5) < 0.8
    if scale >= 0.3:
        assert float(small.opacity.sum()) == pytest.approx(64 * scale**2, rel=0.3)


@pytest.mark.parametrize("scale", [0.9, 0.5, 0.3])
@pytest.mark.parametrize("light", [0.4, 1.0])
def test_a_smaller_thing_has_no_ring_around_it(scale, light) -> None:
    # A box of white, before something light and something as white.
    behind, white = torch.full((3, 24, 32), light), torch.ones(3, 24, 32)
    picture = torch.where(box(6, 4, 16), white, behind)
    small = layer_of(picture, behind, box(6, 4, 16)).smaller(scale, 13.5, 11.5)
    found, opacity = small.over(behind), small.opacity.expand(3, -1, -1)
    assert torch.equal(found[opacity == 0], behind[opacity == 0]) and (found[opacity == 0] == light).any()
    assert found.min() >= light - 1e-6 and found.max() <= 1 + 1e-6
    assert torch.allclose(found, opacity + (1 - opacity) * light, atol=1e-6)


@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_a_moved_thing_is_the_same_to_the_pixel_though_the_segmenter_errs_at_its_edge(wrong) -> None:
    generator = torch.Generator().manual_seed(0)
    behind = 0.2 + 0.02 * torch.rand(3, 24, 32, generator=generator)
    thing = torch.where(torch.rand(3, 24, 32, generator=generator) > 0.5, 0.9, 0.7)
    before, after = (torch.where(box(x, 6), thing.roll(x - 4, 2), behind) for x in (4, 17))
    region = box(4 - wrong, 6 - wrong, 8 + 2 * wrong)
    layer = layer_of(before, behind, region)
    there = layer.shifted(13, 0)
    assert torch.allclose(layer.over(behind), before, atol=1e-6)
    moved = there.over(behind)
    assert (moved - after).abs().max() < 0.15 and (moved - after).abs().mean() < 0.01
    assert (there.mask() & box(17, 6)).sum() == 64 and there.mask().sum() <= (8 + 2 * (wrong + 1)) ** 2


def test_half_of_a_pixel_at_an_edge_takes_its_share_of_what_is_behind_it_then() -> None:
    behind = torch.zeros(3, 24, 32)
    behind[:, :, 16:] = 0.5
    before = torch.where(box(4, 6), RED, behind)
    before[:, 6:14, 12] = 0.5 * RED.view(3, 1)
    there = layer_of(before, behind, box(4, 6)).shifted(14, 0).over(behind)
    assert torch.allclose(there[:, 8, 26], torch.tensor([0.75, 0.25, 0.25]))


def test_what_leaves_the_picture_is_lost_and_does_not_come_back_at_the_other_side() -> None:
    behind = torch.zeros(3, 24, 32)
    layer = layer_of(torch.where(box(4, 6), RED, behind), behind, box(4, 6))
    there = layer.shifted(24, -10)
    assert int((there.opacity > 0).sum()) == 4 * 4
    assert there.opacity[0, :4, 28:].min() == 1


def put(asked: str, known: bool = True) -> tuple[Tensor, Tensor, list[str]]:
    """Return pictures and masks of a place and a colour that are drawn as a red box elsewhere, and what was asked."""
    behind = torch.zeros(3, 24, 32)
    picture, drawn = torch.where(box(4, 6), RED, behind), torch.where(box(20, 6), 0.6 * RED, behind)
    called: list[str] = []

    def without(scene: Any, part: str) -> Tensor:
        called.append(part)
        return behind

    regions: Any = SimpleNamespace(
        known=known, of=lambda scene, part: box(4, 6)[None], seen=lambda scene, part, one: one[:, :1] > 0.3
    )
    scene: Any = SimpleNamespace(decoded=picture[None])
    jobs = [job(place="right"), job(colour="red")]
    masks = box(20, 6)[None].repeat(2, 1, 1, 1)
    return *Moving(regions, without, asked).put(scene, jobs, drawn.repeat(2, 1, 1, 1), masks), called


def test_a_place_is_moved_and_any_other_edit_stays_as_it_was_drawn() -> None:
    found, where, called = put("auto")
    behind = torch.zeros(3, 24, 32)
    assert torch.allclose(found[0], torch.where(box(20, 6), RED, behind))
    assert torch.equal(found[1], torch.where(box(20, 6), 0.6 * RED, behind))
    assert where[0, 0, 10, 8] and where[0, 0, 10, 24] and torch.equal(where[1], box(20, 6))
    assert called == ["object"]


@pytest.mark.parametrize(("asked", "known"), [("swap", True), ("inpaint", True), ("guide", True), ("auto", False)])
def test_an_editor_that_is_asked_for_draws_places_too_and_nothing_moves_without_a_segmenter(asked, known) -> None:
    found, where, called = put(asked, known)
    assert torch.equal(found[0], torch.where(box(20, 6), 0.6 * RED, torch.zeros(3, 24, 32)))
    assert torch.equal(where[0], box(20, 6)) and called == []


def test_a_dark_edge_before_something_dark_is_no_darker_than_black() -> None:
    behind = torch.full((3, 24, 32), 0.2)
    behind[:, :, 16:] = 0.05
    picture = torch.where(box(4, 6), torch.ones(3, 1, 1), behind)
    picture[:, 6:14, 12] = 0  # the outline of something light
    regions: Any = SimpleNamespace(
        known=True, of=lambda scene, part: box(4, 6)[None], seen=lambda scene, part, one: box(18, 6)[None]
    )
    scene: Any = SimpleNamespace(decoded=picture[None])
    there = layer_of(picture, behind, box(4, 6)).shifted(14, 0).over(behind)
    assert there.min() < 0
    moving = Moving(regions, lambda *given: behind, "auto")
    found, _ = moving.put(scene, [job(place="right")], picture[None], box(18, 6)[None])
    assert torch.equal(found[0], there.clamp(0, 1))


class Bright:
    """A segmenter that finds what is brighter than the picture."""

    def fingerprint(self) -> str:
        return "bright"

    def regions(self, pixels: Tensor, texts: Any) -> Tensor:
        """Return bool [B, 1, H, W]."""
        light = pixels.mean(1, keepdim=True)
        return light > light.mean((2, 3), keepdim=True)


def drawing(monkeypatch: pytest.MonkeyPatch, shipped: Shipped, **wishes: Any) -> Any:
    monkeypatch.setattr(setup, "shipped_with", lambda _: shipped)
    pipeline, classifier = load_pipeline(tiny_sd()), Classifier(Brightness(), labels=("light", "dark"))
    asked = setup.Wishes(taxonomy=TAXONOMY, captions=["a fish"], **wishes)
    return setup.set_up(pipeline, classifier, as_target("light").bind(classifier), pictures(1), asked, 0).lab.drawing


def test_what_is_behind_a_thing_is_in_the_rows_only_where_it_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    seeing: Any = Shipped(segmenter=Bright())  # type: ignore[arg-type]
    own, behind = 8 + 8, 12 + 12
    eye: Any = SimpleNamespace(rows=lambda count: 0)

    def rows(some: Any) -> int:
        return rows_of_try(some, eye, some.scene(0, pictures(1), "a fish"), [job(place="left")], 0)

    assert rows(drawing(monkeypatch, seeing)) == own + behind
    assert rows(drawing(monkeypatch, seeing, editor="swap")) == own
    assert rows(drawing(monkeypatch, Shipped())) == own


def test_what_is_behind_a_thing_is_drawn_once_though_the_run_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for room in (setup, resuming):
        monkeypatch.setattr(room, "shipped_with", lambda _: Shipped(segmenter=Bright()))  # type: ignore[arg-type]
    options = {"taxonomy": TAXONOMY, "images": pictures(1), "captions": ["a fish"], "beam_width": 1}
    whole = quick_attribution(**options, seeds=2)
    quick_attribution(**options, seeds=1, checkpoint=tmp_path / "c")
    again = quick_attribution(**options, seeds=2, checkpoint=tmp_path / "c")
    assert whole.denoiser_rows == again.denoiser_rows
    assert whole.to_json() == again.to_json()

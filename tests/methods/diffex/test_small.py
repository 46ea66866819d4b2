"""Another thing in place of a small one is guided for longer, because few latents show it."""

from typing import Any

import pytest
import torch
from torch import Tensor

from diffexplain_fast.editing.latents import LatentModels
from diffexplain_fast.evidence.shipped import Shipped
from diffexplain_fast.methods.diffex.drawing import Drawing
from diffexplain_fast.methods.diffex.kinds import SMALL
from diffexplain_fast.methods.diffex.scene import Job, Scene
from diffexplain_fast.methods.diffex.wording import PlainWording
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.taxonomy import Taxonomy
from tests.methods.diffex.worlds import pictures
from tests.tiny import tiny_sd

TREE = {"object": ["fish", "boat"], "size": ["large"], "colour": ["red"], "background": ["snow"]}
TEXT = "a fish"
GUIDED, LONG = "guided swap", "long guided swap"


class Corner:
    """A segmenter that finds everything in the first pixels of a picture.

    Args:
        count: of them.
    """

    def __init__(self, count: int) -> None:
        self._count = count

    def fingerprint(self) -> str:
        return f"corner {self._count}"

    def regions(self, pixels: Tensor, texts: Any) -> Tensor:
        """Return bool [B, 1, H, W]."""
        found = torch.zeros(pixels[:, :1].shape, dtype=torch.bool)
        found.flatten(1)[:, : self._count] = True
        return found


def drawn_of(latents: float, segmenter: bool = True, asked: str = "auto") -> tuple[Drawing, Scene]:
    """Return what draws, and a scene whose thing covers so many latents."""
    models, wording = LatentModels(load_pipeline(tiny_sd()), one_shape=False), PlainWording(Taxonomy(TREE))
    pixels = pictures(1)
    ratio = pixels[0, 0].numel() // models.encode(pixels)[0, 0].numel()
    seeing: Any = Shipped(segmenter=Corner(round(latents * ratio)) if segmenter else None)  # type: ignore[arg-type]
    drawing = Drawing(models, seeing, wording, asked, 0)
    return drawing, drawing.scene(0, pixels, TEXT)


def tries(drawing: Drawing, scene: Scene, **changes: str) -> list[str]:
    one = Job((), changes, drawing.wording.changed(TEXT, changes))
    return [drawing.editor(scene, one, attempt) for attempt in range(3)]


@pytest.mark.parametrize("change", [{"object": "boat"}, {"size": "large"}])
def test_a_small_thing_is_guided_for_longer_at_once_and_a_larger_one_at_the_second_try(change: dict[str, str]) -> None:
    assert tries(*drawn_of(SMALL - 0.25), **change) == [LONG, LONG, "inpaint"]
    assert tries(*drawn_of(SMALL), **change) == [GUIDED, LONG, "inpaint"]


def test_nothing_else_depends_on_the_size_of_a_thing() -> None:
    small, large = drawn_of(SMALL / 2), drawn_of(SMALL * 2)
    for change in ({"colour": "red"}, {"background": "snow"}, {"object": "boat", "background": "snow"}):
        assert tries(*small, **change) == tries(*large, **change)
    drawing, scene = small
    gone = Job((), {"object": ""}, drawing.wording.without(TEXT, "object"))
    assert drawing.editor(scene, gone, 0) == GUIDED  # as what is behind the thing is drawn
    assert drawing.quick_editor(Job((), {"object": "boat"}, "a boat")) == GUIDED  # one inversion ranks all concepts
    assert tries(*drawn_of(0), object="boat")[0] == GUIDED  # there is no thing
    assert tries(*drawn_of(SMALL / 2, segmenter=False), object="boat")[0] == GUIDED  # nobody knows how large it is
    assert tries(*drawn_of(SMALL / 2, asked="swap"), object="boat") == ["swap"] * 3

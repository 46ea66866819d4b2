"""A caller's pictures: of any mode, the first one of an animation, and left as they are."""

import io

import pytest
import torch
from PIL import Image

from diffexplain_fast.editing.pictures import as_pixels

SIZE = (8, 8)
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("frame", [0, 1, 2])
def test_of_an_animation_the_first_picture_counts_wherever_it_stands(kind: str, frame: int) -> None:
    first, *others = (Image.new("RGB", SIZE, colour) for colour in COLOURS)
    file = io.BytesIO()
    first.save(file, kind, save_all=True, append_images=others)
    with Image.open(file) as image:
        image.seek(frame)
        seen = image.convert("RGB").getpixel((4, 4))
        found = as_pixels(image, SIZE)[0, :, 4, 4]
        assert found.round().tolist() == [1, 0, 0]
        assert image.tell() == frame and image.convert("RGB").getpixel((4, 4)) == seen


def test_a_grey_picture_with_its_transparency_multiplied_in_is_read_too() -> None:
    grey = Image.new("LA", SIZE, (100, 255))
    grey.putpixel((0, 0), (100, 0))
    found = as_pixels(grey.convert("La"), SIZE)
    assert torch.equal(found, as_pixels(grey, SIZE)) and found[0, :, 0, 0].tolist() == [1, 1, 1]

"""What a caller gives: files that cannot be read, devices that are not there, and pictures of any mode."""

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import diffexplain_fast as dx
from diffexplain_fast.api.picturing import read_pictures
from diffexplain_fast.coloured import in_colour
from diffexplain_fast.editing.pictures import as_pixels
from diffexplain_fast.endpoints import picture_of, pictures_of
from diffexplain_fast.environment import check_device
from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.evidence.salient import read_judgements
from diffexplain_fast.given_files import given_bytes
from tests.auditing import drawn_audit, quick_audit
from tests.explaining import quick_explanation
from tests.tiny import tiny_sd


class PathOfBytes:
    """A path that is no text."""

    def __fspath__(self) -> bytes:
        return b"folder"


GREYS = np.array([[0, 1000, 2000, 4000]] * 4)


@pytest.mark.parametrize("read", [dx.Taxonomy.load, dx.Taxonomy.of, Concepts.read])
def test_a_file_that_cannot_be_read_is_named_by_its_argument(read, tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"^(taxonomy|concepts): wanted .* got .*none.json', which does not exist"
    ):
        read(str(tmp_path / "none.json"))
    with pytest.raises(ValueError, match=r"^(taxonomy|concepts): wanted .*: Is a directory"):
        read(tmp_path)


@pytest.mark.parametrize("path", [None, 3, b"folder", PathOfBytes(), "a\0b"])
def test_what_is_no_path_is_named_by_its_argument(path: Any, tmp_path: Path) -> None:
    explanation, tree = quick_explanation(iterations=1), dx.Taxonomy(["snow"])
    uses: dict[str, Any] = {
        "folder": [explanation.save, dx.Explanation.load, dx.Attribution.load, dx.Audit.load],
        "path": [explanation.report, tree.save],
        "salient": [read_judgements],
    }
    for argument, calls in uses.items():
        for call in calls:
            with pytest.raises((TypeError, ValueError), match=f"^{argument}: wanted a path"):
                call(path)


def test_the_mark_at_the_beginning_of_a_file_is_no_part_of_a_word(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("desert\nsnow\n", encoding="utf-8-sig")
    assert Concepts.read(tmp_path / "words.txt").names == ("word:desert", "word:snow")
    assert given_bytes("concepts", "a file", tmp_path / "words.txt").endswith(b"desert\nsnow\n")


def test_a_prompt_that_no_tokenizer_can_read_is_named() -> None:
    pipeline = dx.load_pipeline(tiny_sd())
    for read in (pipeline.spells, pipeline.fits, lambda text: pipeline.encode_text(["a", text])):
        with pytest.raises(ValueError, match=r"^prompt: wanted text that UTF-8 can encode, got 'red.ud800'"):
            read("red\ud800")
    for prompt in (5, None, b"red"):
        with pytest.raises(TypeError, match=r"^prompt: wanted text, got"):
            pipeline.encode_text([prompt])


@pytest.mark.parametrize("device", ["tpu", "cuda:99", ""])
def test_a_device_that_is_not_there_is_named_with_those_that_are(device: str) -> None:
    for load in (
        check_device,
        lambda device: dx.load_pipeline("tinyworld", device=device),
        lambda device: dx.Classifier.from_pretrained("tinyworld/clean", device=device),
        lambda device: dx.Explainer(tiny_sd(), "tinyworld/clean", device=device),
    ):
        with pytest.raises(ValueError, match=rf"^device: wanted 'cpu'.*, got '{device}'$"):
            load(device)
    with pytest.raises(TypeError, match=r"^device: wanted a torch.device, its name, or None, got float"):
        check_device(1.5)  # type: ignore[arg-type]
    for known in (None, "cpu", torch.device("cpu")):
        check_device(known)


@pytest.mark.parametrize("image", [Image.fromarray(GREYS.astype(kind)) for kind in (np.uint16, np.int32, np.float32)])
def test_pictures_of_more_than_eight_bits_keep_their_greys(image: Image.Image, tmp_path: Path) -> None:
    wanted = [0, 63, 127, 255]
    assert np.asarray(in_colour(image))[0, :, 0].tolist() == wanted
    assert np.asarray(picture_of(image))[0, :, 0].tolist() == wanted
    assert (255 * as_pixels([image], (4, 4))[0, 0, 0]).round().tolist() == wanted
    (image if image.mode == "I;16" else in_colour(image)).save(tmp_path / "scan.png")
    found, labels = read_pictures(tmp_path)
    assert labels is None and len(found) == 1
    assert (255 * as_pixels(found, (4, 4))[:, 0, 0]).round().tolist() == [wanted]


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_numbers_below_black_are_refused(kind: type) -> None:
    scan = Image.fromarray(np.linspace(-1000, 1000, 16).reshape(4, 4).astype(kind))
    message = "images: wanted .* that can be read, got numbers from -1000 to 1000, where 0 is black.*, for picture 2"
    with pytest.raises(ValueError, match=message):
        as_pixels([Image.new("RGB", (4, 4)), scan], (4, 4))
    black = Image.fromarray(np.zeros((4, 4), kind))
    assert as_pixels([black], (4, 4)).eq(0).all()


@pytest.mark.parametrize("kind", [np.int32, np.float32])
@pytest.mark.parametrize("resample", [Image.Resampling.LANCZOS, Image.Resampling.BICUBIC])
def test_what_a_filter_makes_below_black_is_black(kind: type, resample: Image.Resampling) -> None:
    noise = (np.random.default_rng(0).random((64, 64)) > 0.5).astype(kind) * 1000
    image = Image.fromarray(noise.astype(kind)).resize((48, 48), resample)
    values = np.asarray(image, np.float32)
    assert values.min() < 0
    greys = np.asarray(in_colour(image))[..., 0]
    assert (greys[values <= 0] == 0).all() and greys.max() == 255
    bone = Image.fromarray(np.linspace(-1024, 3071, 16).reshape(4, 4).astype(kind))
    dark = Image.fromarray(np.full((4, 4), -1).astype(kind))
    for scan in (bone, dark):
        with pytest.raises(ValueError, match=r"where 0 is black, and filters reach -0\.3 of the largest"):
            in_colour(scan)


def test_what_shows_through_a_picture_is_white_also_from_a_folder(tmp_path: Path) -> None:
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.save(tmp_path / "clear.png", transparency=1)
    (found,), _ = read_pictures(tmp_path)
    assert as_pixels([found], (4, 4)).eq(1).all() and np.asarray(picture_of(found)).min() == 255


def test_seeds_of_a_scene_are_whole_numbers() -> None:
    for seed in (-1, 1.5, True):
        with pytest.raises((TypeError, ValueError), match="seed: wanted"):
            dx.tinyworld.render("fish", seed=seed)


def _closed() -> Image.Image:
    image = Image.new("RGB", (8, 8))
    image.close()
    return image


def _cut_off() -> Image.Image:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (99, 99, 3), dtype=np.uint8)).save(file, "PNG")
    return Image.open(io.BytesIO(file.getvalue()[:9000]))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda: Image.new("RGB", (64, 64)).crop((5, 5, 5, 5)), "of at least one pixel, got 0 x 0"),
        (_closed, "that can be read, got Operation on closed image"),
        (_cut_off, "that can be read, got image file is truncated"),
        (
            lambda: Image.fromarray(np.full((8, 8), np.nan, np.float32)),
            "that can be read, got numbers that are not fin",
        ),
    ],
)
def test_a_picture_that_cannot_be_read_is_named(given: Callable[[], Image.Image], said: str) -> None:
    images = [Image.new("RGB", (8, 8)), given()]
    with pytest.raises(ValueError, match=f"images: wanted pictures {said}.* for picture 2$"):
        as_pixels(images, (8, 8))
    with pytest.raises(ValueError, match=f"images: wanted pictures {said}.* for picture 2$"):
        pictures_of([images[0], given()])
    with pytest.raises(ValueError, match=f"^image: wanted pictures {said}") as error:
        as_pixels(given(), (8, 8), name="image")
    assert "for picture" not in str(error.value)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_pixels_that_are_no_numbers_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"images: wanted pixels in \[0, 1\]"):
        as_pixels(torch.full((1, 3, 8, 8), value), (8, 8))


@pytest.mark.parametrize(("path", "error"), [("", ValueError), ("a\0b", ValueError), (3, TypeError)])
def test_what_cannot_be_a_path_is_named_and_nothing_is_written(
    path: Any, error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    takers: dict[str, Callable[[], object]] = {
        "pool": lambda: quick_audit(path),
        "images": lambda: read_pictures(path),
        "folder": lambda: drawn_audit().save(path),
        "path": lambda: drawn_audit().report(path),
    }
    for argument, take in takers.items():
        with pytest.raises(error, match=f"^{argument}: wanted a path"):
            take()
    assert not list(tmp_path.iterdir())

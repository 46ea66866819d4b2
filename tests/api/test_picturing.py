"""Own pictures in an audit: what is given, kept, refused and left out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from diffexplain_fast.api.picturing import read_pictures
from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.methods.photographs.sentences import with_unexplained
from diffexplain_fast.results.audit import Audit
from diffexplain_fast.results.audit_rows import Verdict
from diffexplain_fast.results.photographs import Agreement, Explained, Photographs
from tests.auditing import quick_audit
from tests.tiny import LABELS


def look(pixels: Tensor) -> np.ndarray:
    """See desert in pictures with a bright left half, snow in others; no colour."""
    desert = (pixels[:, :, :, : pixels.shape[-1] // 2].mean((1, 2, 3)) > 0.5).double().numpy()
    return np.stack([desert, 1 - desert, *np.full((2, len(pixels)), np.nan)], 1)


def left(pixels: Tensor, texts: Sequence[str]) -> Tensor:
    """Return the left half, for any text."""
    found = torch.zeros_like(pixels[:, :1], dtype=torch.bool)
    found[..., : pixels.shape[-1] // 2] = True
    return found


def own(count: int = 16) -> tuple[Tensor, list[str]]:
    """Return pictures whose left halves are bright in turns, and their labels."""
    pixels = torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.4
    pixels[::2, :, :, :8] += 0.6
    return pixels, [LABELS[i // 2 % 4] for i in range(count)]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a pool that the tests of this file share."""
    return tmp_path_factory.mktemp("pool")


@pytest.fixture(scope="module")
def audit(pool: Path) -> Audit:
    """Return an audit with own pictures."""
    pytest.importorskip("statsmodels")
    pixels, labels = own()
    return quick_audit(pool, images=pixels, labels=labels, eye=look, segmenter=left)


def test_own_pictures_have_rows_slices_and_groups(audit: Audit) -> None:
    found = audit.photographs
    assert found is not None and found.pictures == 16 and len(found.groups) == 16
    concepts = ["background:desert", "background:snow"]
    assert [(row.target, row.concept) for row in found.rows] == [(label, c) for label in LABELS for c in concepts]
    assert all(row.pictures == 16 and row.donors == 8 and row.placebo is not None for row in found.rows)
    assert found.agreement.cells == 8 and {part.label for part in found.slices} == set(LABELS)


def test_own_pictures_are_saved_and_read_back(audit: Audit, tmp_path: Path) -> None:
    assert Audit.load(audit.save(tmp_path / "audit")).photographs == audit.photographs


def test_the_page_shows_own_pictures_and_decisions(audit: Audit, tmp_path: Path) -> None:
    audit.settings["decisions"] = [dict(one) for one in audit.decide("worst_group<2")]
    page = audit.report(tmp_path / "audit.html").read_text()
    assert "Own pictures" in page and "Accuracy by label and concept" in page
    assert "<strong>failed</strong>: worst_group is" in page


def test_what_no_concept_explains_is_in_the_sentence() -> None:
    found = Photographs(9, [], Agreement(0, None, None, None), [Explained("fish", 9, 0.5, 0.9, 0.01, False)])
    verdicts = with_unexplained({name: Verdict("core", [], f"{name}: core.") for name in LABELS}, found)
    assert verdicts["fish"].sentence == "fish: core. In own pictures its answers are not explained by any concept."
    assert verdicts["boat"].sentence == "boat: core."


def test_without_eye_or_segmenter_it_says_so_and_loses_nothing(pool: Path) -> None:
    pixels, labels = own()
    found = quick_audit(pool, images=pixels, labels=labels, eye=look).photographs
    assert found is not None and not found.rows and "segmenter=" in found.notes[0] and found.slices
    blind = quick_audit(pool, images=list(map(_image, pixels)), eye=None).photographs
    assert blind is not None and not blind.rows and "eye=" in blind.notes[0] and not blind.groups


def test_free_words_do_not_tell_own_pictures_apart_and_nothing_is_lost(pool: Path) -> None:
    def eye(pixels: Tensor) -> np.ndarray:
        return (pixels.mean((1, 2, 3)) > 0.5).double().numpy()[:, None]

    pixels, labels = own()
    audit = quick_audit(pool, concepts=Concepts(words=["desert"]), images=pixels, labels=labels, eye=eye)
    assert audit.photographs is not None and not audit.photographs.explained and len(audit.rows) == len(LABELS)
    assert any("free words only" in note for note in audit.photographs.notes)
    with pytest.raises(ValueError, match=r"weights: wanted None, because free words .* got .'word'."):
        quick_audit(pool, concepts=Concepts(words=["desert"]), weights={"word": {"desert": 0.5}})


def test_labels_that_are_no_targets_are_not_counted_as_wrong(pool: Path) -> None:
    pixels, labels = own()
    every = quick_audit(pool, images=pixels, labels=labels, eye=look).photographs
    some = quick_audit(pool, images=pixels, labels=labels, eye=look, targets=["fish"]).photographs
    assert every is not None and some is not None and not every.notes[1:]
    assert [part for part in every.slices if part.label == "fish"] == some.slices and some.slices
    others = len(labels) - labels.count("fish")
    left = f"{others} pictures have a label that is no target of the audit (boat, house, tree): their accuracy is not"
    assert any(note.startswith(left) for note in some.notes), some.notes
    none = quick_audit(pool, images=pixels, labels=["cat"] * len(labels), eye=look).photographs
    assert none is not None and not none.slices and none.worst_group is None


def test_too_few_pictures_are_noted(pool: Path) -> None:
    pytest.importorskip("statsmodels")
    found = quick_audit(pool, images=own(6)[0], eye=look, segmenter=left).photographs
    assert (
        found is not None
        and not found.rows
        and found.notes == ["background: too few pictures show two of its values, so nothing was pasted"]
    )


REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no pictures": ({"images": []}, ValueError, "images: wanted at least one picture"),
    "something else": ({"images": 3}, TypeError, "images: wanted PIL images"),
    "too few labels": ({"images": own()[0], "labels": ["fish"]}, ValueError, "labels: wanted 16 labels"),
    "labels of another kind": ({"images": own()[0], "labels": "fish"}, TypeError, "labels: wanted a label"),
    "labels without pictures": ({"labels": ["fish"]}, ValueError, "labels: wanted None without images"),
    "a segmenter": ({"images": own()[0], "segmenter": "clipseg"}, TypeError, "segmenter: wanted a function"),
    "no folder": ({"images": "nowhere"}, FileNotFoundError, "images: wanted a folder of pictures, got nowhere"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_pictures_are_refused_before_anything_is_drawn(tmp_path: Path, name: str) -> None:
    options, kind, message = REFUSED[name]
    with pytest.raises(kind, match=message):
        quick_audit(tmp_path / "pool", **options)
    assert not list(tmp_path.glob("pool/*.png"))


def test_folders_are_read_with_their_labels(tmp_path: Path) -> None:
    for name in ("fish/one.png", "fish/two.PNG", "boat/three.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (20, 10)).save(tmp_path / name)
    images, labels = read_pictures(tmp_path)
    assert labels == ["boat", "fish", "fish"] and len(images) == 3
    assert read_pictures(tmp_path / "fish")[1] is None
    (tmp_path / "fish" / "four.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"images: wanted files that are pictures, got .*four.png"):
        read_pictures(tmp_path)
    with pytest.raises(ValueError, match="images: wanted a folder of pictures"):
        read_pictures(_empty(tmp_path))


def _empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def _image(pixels: Tensor) -> Image.Image:
    return Image.fromarray((pixels * 255).byte().permute(1, 2, 0).numpy())

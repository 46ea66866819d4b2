"""Captions are written once for each batch of pictures; nothing but time is lost where a file is."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from diffexplain_fast.evidence.kept_captions import KeptCaptions


class Writer:
    """A captioner that says how bright pictures are, and how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, pixels: Tensor) -> list[str]:
        """Return a text for each picture."""
        self.asked += 1
        return [f"<b>{float(one.mean()):.3f}</b>" for one in pixels]


PIXELS = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def test_the_same_pictures_are_described_once_by_any_process(tmp_path: Path) -> None:
    write = Writer()
    first = KeptCaptions(write, tmp_path / "captions", "one")(PIXELS)
    again = KeptCaptions(write, tmp_path / "captions", "one")(PIXELS.clone())
    assert first == again == Writer()(PIXELS) and write.asked == 1


@pytest.mark.parametrize(
    "other", [PIXELS + 1e-6, PIXELS[:2], PIXELS.half(), PIXELS.flip(0), PIXELS.transpose(2, 3)], ids=str
)
def test_other_pictures_are_others(other: Tensor, tmp_path: Path) -> None:
    write = Writer()
    kept = KeptCaptions(write, tmp_path, "one")
    kept(PIXELS)
    assert kept(other) == Writer()(other) and write.asked == 2


def test_another_captioner_writes_anew(tmp_path: Path) -> None:
    write = Writer()
    KeptCaptions(write, tmp_path, "one")(PIXELS)
    KeptCaptions(write, tmp_path, "two")(PIXELS)
    assert write.asked == 2


@pytest.mark.parametrize("damage", ["", "{", "[]", '["a", "b"]', '["a", "b", 3]', '{"a": 1}', "\udcff"])
def test_a_damaged_file_is_written_again(damage: str, tmp_path: Path) -> None:
    write = Writer()
    kept = KeptCaptions(write, tmp_path, "one")
    texts = kept(PIXELS)
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage.encode(errors="surrogateescape"))
    assert kept(PIXELS) == texts and write.asked == 2
    assert kept(PIXELS) == texts and write.asked == 2


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "captions").write_text("a file")
    write = Writer()
    kept = KeptCaptions(write, tmp_path / "captions", "one")
    assert kept(PIXELS) == kept(PIXELS) == Writer()(PIXELS) and write.asked == 2

"""Files of an explanation that somebody has changed are refused by name."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from PIL import Image

from diffexplain_fast.errors import CorruptFileError, UnsafeFileError
from diffexplain_fast.results.explanation import Explanation
from diffexplain_fast.storage import write_manifest
from tests.results.explanations import assert_equal, example, tampered


@pytest.mark.parametrize("name", ["explanation.json", "prompt_embeds.safetensors", "images/001.png"])
def test_a_flipped_bit_is_seen(tmp_path: Path, name: str) -> None:
    path = example().save(tmp_path / "a") / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match=name):
        Explanation.load(tmp_path / "a")


@pytest.mark.parametrize("image", ["../secret.png", "/etc/hostname", "images/../../secret.png"])
def test_image_paths_outside_the_folder_are_refused(tmp_path: Path, image: str) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    with pytest.raises(UnsafeFileError, match="inside"):
        Explanation.load(tampered(tmp_path / "a", images=[image]))


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"words": 3},
        {"history": [{"loss": 1}]},
        {"activation": []},
        {"unknown": 1},
        {"images": ["MANIFEST.json"]},
        {"images": "MANIFEST.json"},
        {"target": None},
        {"label": 3},
        {"settings": ["seed"]},
        {"settings": {"found": "proposals"}},
        {"settings": {"found": {"left_out": 3}}},
        {"settings": {"direction": "rise", "to_be_beyond": "x"}},
        {"words": [[{"word": None, "similarity": 0.5}]]},
        {"history": [{"iteration": 0, "loss": "2.0", "logit": 0.5, "gradient_norm": 0.01, "seconds": 0.2}]},
        {"truth": {"attributes": {"background:snow": 5.0}}},
        {"truth": {"attributes": [{"attribute": "background:snow", "effect": "5", "interval": [4, 6], "role": ""}]}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_records_of_another_structure_are_refused(tmp_path: Path, changes: dict) -> None:
    with pytest.raises(CorruptFileError, match=f"{next(iter(changes))}|an image"):
        Explanation.load(tampered(tmp_path / "a", **changes))


@pytest.mark.parametrize(
    "changes",
    [{"rate": "1"}, {"rate": 1e308}, {"n": "32"}, {"n": -1}, {"interval": [0.5]}],
    ids=str,
)
def test_scores_out_of_range_are_refused(tmp_path: Path, changes: dict) -> None:
    score = asdict(example().activation["held_out"])
    with pytest.raises(CorruptFileError, match=f"activation, held_out, {next(iter(changes))}: wanted"):
        Explanation.load(tampered(tmp_path / "a", activation={"held_out": score | changes}))


def test_an_interval_of_a_rate_outside_0_to_1_is_refused(tmp_path: Path) -> None:
    score = asdict(example().activation["held_out"]) | {"interval": [0.5, 7]}
    with pytest.raises(CorruptFileError, match="activation, held_out, interval, 1: wanted a number from 0 to 1, got 7"):
        Explanation.load(tampered(tmp_path / "a", activation={"held_out": score}))


def test_a_record_that_is_a_list_is_refused(tmp_path: Path) -> None:
    path = example().save(tmp_path / "a") / "explanation.json"
    path.write_text('["abc"]')
    write_manifest(tmp_path / "a")
    with pytest.raises(CorruptFileError, match=r"explanation\.json: wanted dict"):
        Explanation.load(tmp_path / "a")


def test_soft_tokens_of_another_shape_are_refused(tmp_path: Path) -> None:
    example(prompt_embeds=torch.zeros(3)).save(tmp_path / "a")
    with pytest.raises(CorruptFileError, match=r"prompt_embeds\.safetensors: wanted floating point \[n_tokens, d\]"):
        Explanation.load(tmp_path / "a")


def test_a_truth_of_another_form_is_kept(tmp_path: Path) -> None:
    given = example(truth={"background": {"effect": 1.5}})
    assert_equal(Explanation.load(given.save(tmp_path / "a")), given)


def test_a_file_that_is_not_an_image_is_refused(tmp_path: Path) -> None:
    folder = example().save(tmp_path / "a")
    (folder / "images" / "000.png").write_bytes(b"GIF89a")
    write_manifest(folder)
    with pytest.raises(CorruptFileError, match=r"000\.png: wanted a PNG"):
        Explanation.load(folder)


def test_a_folder_without_an_explanation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorruptFileError, match="a manifest"):
        Explanation.load(tmp_path)
    (tmp_path / "a.txt").write_text("a")
    write_manifest(tmp_path)
    with pytest.raises(CorruptFileError, match=r"an entry for explanation\.json"):
        Explanation.load(tmp_path)

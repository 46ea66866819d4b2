"""What channels respond to: in scenes that show every value that a caption can name equally often."""

from collections import Counter

import pytest
import torch

from diffexplain_fast import tinyworld
from diffexplain_fast.recipe import levels
from diffexplain_fast.recipe.making import load_classifier
from diffexplain_fast.recipe.responses import SEEDS, measure_units
from diffexplain_fast.tinyworld.words import ABSENCE, OBJECTS, values_of


@pytest.mark.parametrize("name", ["texture", "size", "place", "companion", "background"])
def test_even_scenes_show_every_value_as_often(name: str) -> None:
    shown = Counter(levels.drawn(seed, seed, even=True)[name] for seed in range(600))
    assert shown.keys() == {*values_of(name)}
    assert all(count == pytest.approx(600 / len(shown), rel=0.25) for count in shown.values())


def test_even_scenes_show_each_object_by_turns_and_nothing_without_a_name() -> None:
    scenes = [levels.drawn(seed, seed, even=True) for seed in range(16)]
    assert [scene["object"] for scene in scenes] == [*OBJECTS] * 2
    assert all(scene[name] == ABSENCE[name] for scene in scenes for name in ("pattern", "frame", "mark"))
    assert {levels.drawn(seed, 0)["size"] for seed in range(20)} == {ABSENCE["size"]}  # as training scenes do


@pytest.mark.slow
def test_what_ships_is_what_is_measured() -> None:
    shipped, found = tinyworld.units("colour"), measure_units(load_classifier("colour"), SEEDS)
    for layer, rows in found.items():
        assert rows.keys() == shipped[layer].keys()
        contrasts = [torch.cat([_contrasts(of, rows, name) for name in levels.GROUPS]) for of in (rows, shipped[layer])]
        assert torch.corrcoef(torch.stack(contrasts))[0, 1] > 0.999


def _contrasts(of: dict[str, torch.Tensor], rows: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    values = torch.stack([of[row] for row in rows if row.startswith(f"{name}:")])
    return (values - values.mean(0)).flatten()

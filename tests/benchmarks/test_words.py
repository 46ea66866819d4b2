"""The benchmarks of disobeyed words, of synonyms, of eyes that err, and of cues without a name."""

import numpy as np
import pytest
import torch

from benchmarks.discovery.unnamed import shares_of
from benchmarks.discovery.words import SYNONYMS, _showing, disobeying, erring, told
from benchmarks.truth.cells import Cell
from benchmarks.truth.rows import learnt
from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.recipe.shortcuts import Cue
from diffexplain_fast.tinyworld.grammar import full_caption, read_caption
from diffexplain_fast.tinyworld.words import BACKGROUNDS, COLOURS, OBJECTS, TEXTURES, WORLD, values_of

CONCEPTS = Concepts({"object": OBJECTS, "colour": COLOURS, "texture": TEXTURES, "background": BACKGROUNDS})


def test_half_of_the_words_are_read_as_any_value_of_their_group() -> None:
    rng, same = np.random.default_rng(0), list[list[bool]]()
    read = disobeying(CONCEPTS, 0)
    for _ in range(400):
        scene = {name: str(rng.choice(values_of(name))) for name in WORLD} | {"style": "scene"}
        scene |= {group: str(rng.choice(values)) for group, values in CONCEPTS.groups.items()}
        text = full_caption(scene)
        said, heard = read_caption(text), read_caption(read(text))
        assert read(text) == read(text) and said.keys() == heard.keys()
        assert all(heard[name] == said[name] for name in said if name not in CONCEPTS.groups)
        same.append([heard[group] == said[group] for group in CONCEPTS.groups])
    expected = [0.5 + 0.5 / len(values) for values in CONCEPTS.groups.values()]
    assert np.mean(same, 0) == pytest.approx(expected, abs=0.08)
    assert read("nothing on desert with nothing").startswith("nothing on ")


def test_synonyms_are_told_to_the_generator() -> None:
    read = told(SYNONYMS)
    assert read("a plant boat on vehicle with sky") == "a blue boat on desert with flower"
    words = [word for values in SYNONYMS.values() for word in values]
    assert len({*words}) == len(words) and read("a red house on snow") == "a red house on snow"


def test_an_eye_errs_in_a_quarter_of_the_pictures_always_the_same_ones() -> None:
    def eye(pixels: torch.Tensor) -> np.ndarray:
        return np.tile(
            np.concatenate([np.eye(len(values))[0] for values in CONCEPTS.groups.values()]), (len(pixels), 1)
        )

    pixels = torch.rand(400, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    seen = erring(eye, CONCEPTS, 0)(pixels)
    assert (seen == erring(eye, CONCEPTS, 0)(pixels)).all() and seen.sum(1) == pytest.approx(len(CONCEPTS.groups))
    start = 0
    for values in CONCEPTS.groups.values():
        assert seen[:, start].mean() == pytest.approx(0.75 + 0.25 / len(values), abs=0.07)
        start += len(values)


def test_figures_of_showing_and_asking() -> None:
    cells = np.array([[6.0, 3.0, 6.0, 1], [4.0, 2.0, 4.0, 1], [0.2, 0.1, 0.0, 0], [-2.0, -1.0, -2.0, 1]])
    found = _showing(cells)
    assert found["of planted truth, showing and asking"] == pytest.approx([1.0, 0.5])
    assert found["cells"] == {"planted": 2, "above 1": 3, "others": 1}
    assert found["showing's error of asking's"]["others"] == pytest.approx(2) and found["covered"]["share"] == 0.75


def test_a_class_counts_where_its_cue_is_learnt() -> None:
    row = {
        "attributes": [{"attribute": "background:desert", "effect": 4.0}],
        "unnamed": [{"cue": "pattern:dark", "effect": 1.0}],
    }
    cues = {
        kind: Cell("fish", kind, Cue((value,)))
        for kind, value in {"single 0.9": ("background", "desert"), "nameless": ("pattern", "dark")}.items()
    }
    assert learnt(row, cues["single 0.9"]) and not learnt(row, cues["nameless"])
    rows = [{"kind": "nameless", "learnt": i > 0, "right": i > 1} for i in range(4)]
    assert shares_of(rows)["nameless"]["right"] == 2 and shares_of(rows)["nameless"]["of"] == 3

"""Segments of one picture pasted into another."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.methods.photographs.given import Given, given_pictures
from diffexplain_fast.methods.photographs.pasting import Paster, Regions, donors_of, filled, pastable, regions_of

CONCEPTS = Concepts({"background": ["sea", "snow"], "colour": ["red", "blue"], "companion": ["sun", "kite", "nothing"]})


def scene(background: float, thing: float, column: int) -> Tensor:
    """Return a picture [3, 8, 8] of one grey, with a thing of another grey in two columns of its upper half."""
    picture = torch.full((3, 8, 8), background)
    picture[:, :4, column : column + 2] = thing
    return picture


def masks(columns: Sequence[int]) -> Tensor:
    """Return where the things are, bool [B, 1, 8, 8]."""
    found = torch.zeros(len(columns), 1, 8, 8, dtype=torch.bool)
    for i, column in enumerate(columns):
        found[i, :, :4, column : column + 2] = True
    return found


GIVEN = Given(torch.stack([scene(0.2, 0.9, 0), scene(0.6, 0.5, 4)]), ())


def test_a_thing_is_taken_away_before_the_donors_is_put_in() -> None:
    regions = Regions(2, False, masks([0, 4]), np.array([0, 1]))
    (made,) = Paster(GIVEN, regions)([(0, 1)])
    assert torch.allclose(made, scene(0.2, 0.5, 4), atol=1e-6)


def test_a_background_is_put_where_the_background_was() -> None:
    regions = Regions(0, True, ~masks([0, 4]), np.array([0, 1]))
    (made,) = Paster(GIVEN, regions)([(0, 1)])
    assert torch.allclose(made, scene(0.6, 0.9, 0), atol=1e-6)  # the thing stays, the donor's thing does not come


def test_a_hole_has_the_colours_of_its_edge() -> None:
    left_right = torch.cat([torch.zeros(3, 8, 4), torch.ones(3, 8, 4)], 2)
    hole = torch.zeros(1, 8, 8, dtype=torch.bool)
    hole[:, 2:6, 2:6] = True
    found = filled(left_right, hole)
    assert torch.equal(found[:, ~hole[0]], left_right[:, ~hole[0]])
    assert (found[:, 3, 2] < 0.3).all() and (found[:, 3, 5] > 0.7).all()
    assert torch.equal(filled(left_right, torch.ones(1, 8, 8, dtype=torch.bool)), left_right)


def test_donors_are_used_equally_and_never_for_themselves() -> None:
    value = np.array([0, 0, 0, 0, 1, 1, 2])
    donors = donors_of(value, 0, range(7), np.random.default_rng(0)) or []
    assert all(donor != own and value[donor] == 0 for own, donor in enumerate(donors))
    assert np.bincount(donors, minlength=4)[:4].max() <= 4
    assert donors_of(value, 2, range(7), np.random.default_rng(0)) is None


def test_only_values_that_are_somewhere_are_asked_for() -> None:
    asked: list[str] = []

    def segment(pixels: Tensor, texts: Sequence[str]) -> Tensor:
        asked.extend(texts)
        return masks([0] * len(pixels))

    seen = np.array([[0, 0, 2], [1, 1, 1]])
    assert pastable(CONCEPTS) == [0, 2]
    found = regions_of(GIVEN, CONCEPTS, seen, 2, segment, lambda word, group: None if word == "nothing" else word)
    assert asked == ["kite"] and found.value.tolist() == [-1, 1] and not found.stuff
    empty = regions_of(GIVEN, CONCEPTS, seen, 0, lambda p, t: torch.zeros(len(p), 1, 8, 8).bool(), lambda w, g: w)
    assert empty.stuff and empty.value.tolist() == [-1, -1]  # a region that is not found gives nothing


def test_labels_say_what_is_there_in_their_own_group() -> None:
    concepts = Concepts({"object": ["boat", "fish"], "background": ["sea", "snow"]})
    given = given_pictures(GIVEN.pixels, ["Fish", "house"])
    seen = given.seen(concepts, lambda pixels: np.tile([1.0, 0.0, 0.0, np.nan], (len(pixels), 1)))
    assert seen.tolist() == [[1, -1], [-1, -1]]

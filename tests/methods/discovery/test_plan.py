"""Plans: captions that grow, say what the design says, and leave room for a class's own object."""

from collections import Counter

import numpy as np

from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.methods.discovery.plan import Plan, context_plan, own_plan
from tests.auditing import GROUPS, SPOKEN, AnyText

PIPELINE = AnyText()


def plan(pictures: int, concepts: Concepts | None = None, seed: int = 0) -> Plan:
    """Return a plan."""
    return context_plan(concepts or Concepts(GROUPS), SPOKEN, PIPELINE, pictures, seed)  # type: ignore[arg-type]


def test_a_larger_plan_begins_with_the_smaller_one() -> None:
    small, large = plan(96), plan(250)
    assert len(small.captions) == 96 and len(large.captions) == 288
    assert large.captions[:96] == small.captions
    assert np.array_equal(large.first(96).asked.design, small.asked.design)
    assert np.array_equal(large.phrasing[:96], small.phrasing)
    assert plan(96, seed=1).captions != small.captions


def test_captions_say_the_design() -> None:
    found = plan(96)
    names = Concepts(GROUPS).names
    for caption, row in zip(found.captions, found.asked.named, strict=True):
        assert caption.split() == [name.split(":")[1] for name, there in zip(names, row, strict=True) if there]


def test_values_and_phrasings_are_equally_often() -> None:
    found = plan(96)
    counts = Counter(found.phrasing.tolist())
    assert counts == {0: 48, 1: 48}
    assert found.asked.named[:, :4].sum(0).tolist() == [24] * 4


def test_bags_hold_some_of_the_free_words() -> None:
    found = plan(96, Concepts(words=[f"word{chr(97 + i)}" for i in range(12)]))
    sizes = {len(caption.split()) for caption in found.captions}
    assert max(sizes) <= 4 and len(sizes) > 1
    times = found.asked.named.sum(0)
    assert times.min() >= 12 and times.max() - times.min() <= 2


def test_every_caption_of_an_own_plan_asks_for_the_object() -> None:
    own = own_plan(Concepts(GROUPS), SPOKEN, PIPELINE, 24, 0, ("object", "lion"))  # type: ignore[arg-type]
    assert all(caption.startswith("lion ") for caption in own.captions)
    assert not any(set(GROUPS["object"]) & set(caption.split()) for caption in own.captions)
    assert not own.asked.named[:, :4].any() and own.asked.named[:, 4:].any()
    assert own.stage != plan(96).stage


def test_an_own_plan_of_a_concept_says_so_in_its_design() -> None:
    own = own_plan(Concepts(GROUPS), SPOKEN, PIPELINE, 96, 0, ("object", "fish"))  # type: ignore[arg-type]
    assert own.asked.named[:, 1].all() and all(caption.startswith("fish ") for caption in own.captions)
    assert not own.asked.named[:, [0, 2, 3]].any()
    backgrounds = own.asked.named[:, 4:8].sum(0)
    assert backgrounds.min() == backgrounds.max() == 24
    both = plan(96).and_more({1: own})
    assert len(both.captions) == len(both.asked.design) == len(both.phrasing) == len(both.words) == 192
    assert both.first(96).captions == plan(96).captions


def test_an_own_plan_of_a_free_word_says_it_in_every_caption() -> None:
    concepts = Concepts(words=["fish", "desert", "snow", "sea", "sun", "moon"])
    own = own_plan(concepts, SPOKEN, PIPELINE, 96, 0, ("word", "fish"))  # type: ignore[arg-type]
    assert own.asked.named[:, 0].all() and all("fish" in caption.split() for caption in own.captions)
    assert max(len(caption.split()) for caption in own.captions) <= 4
    others = own.asked.named[:, 1:].sum(0)
    assert others.min() > 0 and others.max() - others.min() <= 4

"""What captions say of a taxonomy's words, whoever wrote its names, and how a change is said."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import diffexplain_fast as dx
from diffexplain_fast import tinyworld
from diffexplain_fast.evidence.shipped import Shipped
from diffexplain_fast.methods.diffex.captions import warn_of_disputed
from diffexplain_fast.methods.diffex.eyes import CaptionEye, SimilarityEye, values_of
from diffexplain_fast.methods.diffex.jobs import Jobs
from diffexplain_fast.methods.diffex.kinds import slot_of
from diffexplain_fast.methods.diffex.mixing import MixedWording, wording_for
from diffexplain_fast.methods.diffex.pairs import chosen_pairs
from diffexplain_fast.methods.diffex.regions import Regions
from diffexplain_fast.methods.diffex.scene import Job, Scene, job_of, shows
from diffexplain_fast.methods.diffex.wording import PlainWording
from diffexplain_fast.results.effects import Effect
from diffexplain_fast.tinyworld.grammar import VOCABULARY
from diffexplain_fast.tinyworld.rewording import WorldWording, world_taxonomy

WORLD_WORDS = WorldWording(VOCABULARY)
SHIPPED = Shipped(world_taxonomy(VOCABULARY), WORLD_WORDS)
CLOTHES = {"shirt": ["red", "blue"], "hat": ["red", "green"]}
FACE = {"face": {"hair": ["blond", "brown"], "eyes": ["blue", "green"]}}


@pytest.mark.parametrize(
    ("text", "changes", "expected"),
    [
        ("a blue shirt and a red hat", {"shirt": "red", "hat": "green"}, "a red shirt and a green hat"),
        ("a red shirt and a red hat", {"hat": "green"}, "a red shirt and a green hat"),
        ("a red shirt and a red hat", {"shirt": "blue", "hat": "green"}, "a blue shirt and a green hat"),
        ("a red hat and a red shirt", {"shirt": "blue"}, "a red hat and a blue shirt"),
        ("a red hat", {"shirt": "blue"}, "a red hat, blue"),
        ("a man in red, in red", {"shirt": "blue", "hat": "green"}, "a man in blue, in green"),
        ("a man in red", {"shirt": "blue", "hat": "green"}, "a man in blue, green"),
        ("a man in red", {"hat": "green"}, "a man in green"),
        ("a red hat", {"hat": "", "shirt": ""}, "a hat"),
        ("a man, blue, red hat , old", {"shirt": ""}, "a man, red hat, old"),
    ],
)
def test_a_word_of_two_categories_is_changed_where_it_is_of_the_one(text: str, changes: Any, expected: str) -> None:
    assert PlainWording(dx.Taxonomy(CLOTHES)).changed(text, changes) == expected


def test_a_part_of_a_longer_word_of_another_category_is_not_said() -> None:
    wording = PlainWording(dx.Taxonomy({"food": ["hot dog", "cake"], "pet": ["dog", "cat"]}))
    assert wording.said("a hot dog") == {"food": "hot dog"}
    assert wording.changed("a hot dog and a dog", {"pet": "cat", "food": "cake"}) == "a cake and a cat"


def test_values_below_one_item_replace_each_other_and_those_of_two_items_stand_together() -> None:
    taxonomy = dx.Taxonomy(FACE)
    wording, text = PlainWording(taxonomy), "a woman with brown hair and blue eyes"
    assert wording.said(text) == {"face:hair": "brown", "face:eyes": "blue"}
    scene: Any = SimpleNamespace(caption=text, said=wording.said(text))
    blond, green = taxonomy.concept("face:blond"), taxonomy.concept("face:green")
    both = job_of(scene, (blond, green), wording)
    assert both is not None and both.caption == "a woman with blond hair and green eyes"
    assert both.names == ("face:blond", "face:green")
    assert job_of(scene, (blond, taxonomy.concept("face:brown")), wording) is None
    effects = [Effect(c.name, 1.0, 0.0, 2.0, 0.5, 1, 1.0, 0.5) for c in taxonomy.concepts]
    pairs = {frozenset((a.word, b.word)) for a, b in chosen_pairs(taxonomy.concepts, effects, 4, wording)}
    assert pairs == {frozenset((hair, eyes)) for hair in ("blond", "brown") for eyes in ("blue", "green")}


def test_all_values_of_a_category_that_is_edited_in_a_way_of_its_own_replace_each_other() -> None:
    deep = dx.Taxonomy({"Scene": {"land": ["grass", "desert"], "water": ["sea"]}, "hat": ["red"], "cloudy": None})
    assert [slot_of(concept) for concept in deep.concepts] == ["background"] * 3 + ["hat", ":cloudy"]
    assert PlainWording(deep).changed("a boat on grass", {"background": "sea"}) == "a boat on sea"


@pytest.mark.parametrize(
    ("tree", "kind"),
    [
        ({"color": ["red"], "Background": ["Sea"], "POSITION": ["left"]}, WorldWording),
        ({"colour": ["red"], "mood": ["happy"]}, MixedWording),
        ({"thing": ["boat"], "mood": ["happy"]}, PlainWording),
    ],
)
def test_a_category_is_known_by_its_usual_name(tree: Any, kind: type) -> None:
    assert type(wording_for(dx.Taxonomy(tree), SHIPPED)) is kind
    assert type(wording_for(dx.Taxonomy(tree), Shipped())) is PlainWording


def test_one_unknown_category_leaves_the_known_ones_as_they_are() -> None:
    tree = {"background": ["desert"], "mood": ["happy"], "headwear": ["red hat"], "thing": ["fish", "boat"]}
    mixed, text = wording_for(dx.Taxonomy(tree), SHIPPED), "a large green striped bird on sea with kite"
    own = SHIPPED.wording
    assert own is not None and mixed.said(text) == own.said(text) and mixed.placebos == own.placebos
    desert = {"background": "desert"}
    assert mixed.changed(text, desert) == own.changed(text, desert)
    happy = mixed.changed(text, {"mood": "happy", "headwear": "red hat"})
    assert happy == f"{text}, happy, red hat"
    assert mixed.said(happy) == {**own.said(text), "mood": "happy", "headwear": "red hat"}
    assert mixed.changed(happy, desert) == f"{own.changed(text, desert)}, happy, red hat"
    assert mixed.changed("a happy bird on sea", desert) == f"{own.changed('a bird on sea', desert)}, happy"
    assert mixed.without(happy, "object") == f"{own.without(text, 'object')}, happy, red hat"
    assert mixed.without(happy, "mood") == f"{text}, red hat"
    fish = own.changed("a fish on sea", {})
    assert mixed.changed("a fish on sea", {"thing": "boat"}) == fish.replace("fish", "boat")
    assert mixed.region("bird", "object") == "a bird" and mixed.region("red hat", "headwear") == "red hat"


def scene_of(caption: str, wording: Any) -> Scene:
    """Return a scene of which only the words count."""
    pixels = torch.zeros(1, 3, 8, 8)
    return Scene(0, pixels, caption, wording.said(caption), torch.zeros(1, 4, 1, 1), pixels)


@pytest.mark.parametrize(
    ("phrase", "parts"),
    [
        ("blue striped", {"colour": "blue", "texture": "striped"}),
        ("A Small red thing on desert with kite", {"size": "small", "colour": "red", "background": "desert"}),
        ("boat with nothing", {"object": "boat", "companion": "nothing"}),
        ("blue", {}),
        ("a blue thing", {}),
        ("blue animal", {}),
        ("blue spotted", {}),
    ],
)
def test_a_phrase_says_several_attributes_and_a_group_or_an_unknown_word_none(phrase: str, parts: Any) -> None:
    found = WORLD_WORDS.parts(phrase)
    assert found == parts | ({"companion": "kite"} if "kite" in phrase else {})
    assert PlainWording(dx.Taxonomy(FACE)).parts(phrase) == {}
    assert WorldWording(["blue"]).parts(phrase) == {}


def test_a_phrase_is_a_change_of_what_the_picture_does_not_show() -> None:
    taxonomy = dx.Taxonomy(
        {"surface": {"cold": ["blue striped", "green dotted"]}, "mood": ["happy"], "colour": ["red"], "size": ["small"]}
    )
    mixed = wording_for(taxonomy, SHIPPED)
    phrases_alone = dx.Taxonomy({"surface": ["blue striped"]})
    assert isinstance(mixed, MixedWording) and wording_for(phrases_alone, SHIPPED) is WORLD_WORDS
    values = values_of(mixed, SHIPPED.taxonomy, taxonomy)
    assert "surface" not in values and "happy" in values["mood"] and values["colour"].count("blue") == 1
    blue, green, _, red, small = taxonomy.concepts
    scene = scene_of("a red striped bird on sea", mixed)
    job = job_of(scene, (blue,), mixed)
    assert job is not None and job.changes == {"colour": "blue"} and job.names == (blue.name,)
    assert job.caption == WORLD_WORDS.changed(scene.caption, {"colour": "blue"})
    shown = scene_of("a blue striped bird on sea", mixed)
    assert job_of(shown, (blue,), mixed) is None and job_of(scene, (blue, red), mixed) is None
    both = job_of(scene, (green, small), mixed)
    assert both is not None and both.changes == {"colour": "green", "texture": "dotted", "size": "small"}
    effects = [Effect(concept.name, 1.0, 0.0, 2.0, 0.5, 1, 1.0, 1.0) for concept in taxonomy.concepts]
    pairs = {frozenset((a.word, b.word)) for a, b in chosen_pairs(taxonomy.concepts, effects, 4, mixed)}
    assert frozenset(("blue striped", "small")) in pairs and frozenset(("blue striped", "red")) not in pairs
    assert frozenset(("blue striped", "green dotted")) not in pairs and frozenset(("happy", "small")) in pairs


@pytest.mark.parametrize(
    ("caption", "phrase", "changes"),
    [
        ("nothing on sea with nothing", "red boat", {"colour": "red", "object": "boat"}),
        ("nothing on sea", "small boat on desert", {"size": "small", "object": "boat", "background": "desert"}),
        ("sea", "a red striped boat", {"colour": "red", "texture": "striped", "object": "boat"}),
        ("a picture", "boat at left", {"object": "boat", "place": "left"}),
        ("nothing on sea", "plain boat", {"object": "boat"}),  # an empty place is as plain as its caption says
        ("nothing on sea", "blue striped", None),
        ("nothing on sea", "striped on desert", None),
        ("a shape of fish", "red boat", None),
        ("a texture of red striped", "red boat", None),
    ],
)
def test_a_phrase_is_asked_for_as_a_whole_or_left_out(caption: str, phrase: str, changes: Any) -> None:
    wording = WorldWording(VOCABULARY)
    scene, concept = scene_of(caption, wording), dx.Taxonomy({"scenery": [phrase]}).concepts[0]
    jobs = Jobs(wording, lambda text: True)
    job = jobs.of(scene, (concept,))
    assert (None if job is None else job.changes) == changes and not shows(scene, concept, wording)
    assert [*jobs.unsaid] == ([] if changes else [f"scenery:{phrase} on picture 1"]) and not jobs.too_long
    if job is None:
        with pytest.warns(UserWarning, match=f"^captions: .* no place for scenery:{phrase} on picture 1, which are"):
            jobs.warn()
    else:
        assert wording.said(job.caption).items() >= changes.items()


def test_what_is_shown_already_is_neither_a_job_nor_left_out() -> None:
    wording = WorldWording(VOCABULARY)
    jobs, scene = Jobs(wording, lambda text: True), scene_of("a Red boat on sea", wording)
    for phrase in ("red boat", "boat on sea with nothing"):
        (concept,) = dx.Taxonomy({"scenery": [phrase]}).concepts
        assert shows(scene, concept, wording) and jobs.of(scene, (concept,)) is None
    jobs.warn()
    assert not jobs.unsaid


@pytest.mark.parametrize("category", ["scenery", "object"])
def test_a_phrase_that_contradicts_itself_is_refused_and_a_caption_warned_of(category: str) -> None:
    with pytest.raises(
        ValueError, match=r"^taxonomy: wanted phrases that say one colour, got 'red blue fish', of which"
    ):
        wording_for(dx.Taxonomy({category: ["red blue fish"], "background": ["sea"]}), SHIPPED)
    mixed = wording_for(dx.Taxonomy({category: ["fish"], "mood": ["happy"], "background": ["sea"]}), SHIPPED)
    twice, once = "a happy red fish and a blue boat", "a happy red fish"
    with pytest.warns(
        UserWarning, match=r"^captions: .* got red and blue for picture 2, fish and boat for picture 2, of"
    ):
        warn_of_disputed([once, twice], mixed)
    warn_of_disputed([once], mixed)
    warn_of_disputed([twice], PlainWording(dx.Taxonomy(CLOTHES)))


class Pair:
    """A CLIP pair for which every picture is one text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def pictures(self, pixels: Tensor) -> Tensor:
        """Return an embedding [B, 1] of each picture."""
        return torch.ones(len(pixels), 1)

    def texts(self, texts: list[str]) -> Tensor:
        """Return 1 for the picture's text [B, 1], else 0."""
        return torch.tensor([[float(text == self.text)] for text in texts])


@pytest.mark.parametrize("word", ["snow", "Snow", "SNOW"])
def test_words_are_the_same_whatever_their_capitals(word: str) -> None:
    taxonomy = dx.Taxonomy({"Scene": [word, "Sea"]})
    wording, values = wording_for(taxonomy, SHIPPED), values_of(WORLD_WORDS, SHIPPED.taxonomy, taxonomy)
    assert values == values_of(WORLD_WORDS, SHIPPED.taxonomy)
    scene = scene_of("A red bird on Sea", wording)
    assert job_of(scene, (taxonomy.concept("Scene:Sea"),), wording) is None
    job = job_of(scene, (taxonomy.concept(f"Scene:{word}"),), wording)
    assert job is not None and job.names == (f"Scene:{word}",)
    small = wording.changed(scene.caption, {"background": "snow"})
    assert job.caption == small and wording.region(word, "background") == "snow"
    captioner: Any = SimpleNamespace(write=lambda pixels: [small])
    pair: Any = Pair(small)
    for eye in (CaptionEye(captioner, wording, values), SimilarityEye(pair, wording, values)):
        (verdict,) = eye.check(scene, [job], scene.pixels)
        assert verdict.appeared and not verdict.changed


def test_what_a_verifier_misreads_in_the_picture_is_not_held_against_an_edit() -> None:
    wording, values = WORLD_WORDS, values_of(WORLD_WORDS, SHIPPED.taxonomy)
    scene = scene_of("a small red plain bird on sea with sun", wording)
    job = job_of(scene, (world_taxonomy(VOCABULARY).concept("background:snow"),), wording)
    assert job is not None
    before = "a small red dotted bird on sea with sun"
    written = iter([[before], ["a large red dotted bird on snow with sun"]])
    captioner: Any = SimpleNamespace(write=lambda pixels: next(written))
    (verdict,) = CaptionEye(captioner, wording, values).check(scene, [job], scene.pixels)
    assert verdict.appeared and verdict.changed == ("size",)
    assert scene.read is not None and scene.read["texture"] == "dotted"


class Nowhere:
    """A segmenter that finds nothing."""

    def regions(self, pixels: Tensor, texts: Any) -> Tensor:
        """Return empty masks [B, 1, H, W]."""
        return torch.zeros_like(pixels[:, :1], dtype=torch.bool)


def test_where_no_word_says_what_to_look_for_an_edit_may_change_the_whole_picture() -> None:
    wording = PlainWording(dx.Taxonomy({"colour": ["red"], "object": ["boat"]}))
    regions = Regions(Nowhere(), wording)  # type: ignore[arg-type]
    scene = scene_of("a picture", wording)
    colour, boat = (Job((), {slot: word}, "") for slot, word in (("colour", "red"), ("object", "boat")))
    masks = regions.masks(scene, [colour, boat], torch.zeros(2, 3, 8, 8))
    assert masks[0].all() and not masks[1].any()  # a boat was looked for, and is nowhere


@pytest.mark.filterwarnings("ignore:taxonomy")
def test_a_synonym_and_a_category_beside_it_change_the_same_pixels_as_the_usual_name() -> None:
    scene = tinyworld.render("bird", background="sea", colour="yellow", seed=1)
    found = {}
    with dx.Explainer("tinyworld", "tinyworld/background") as explainer:
        for name, more in (("colour", {}), ("Color", {}), ("colour", {"mood": ["happy"]})):
            tree = {name: ["Red"], **more}
            result = explainer.attribute(scene.image, "bird", taxonomy=tree, captions=[scene.caption])
            edit = next(edit for edit in result.edits(0) if edit.concepts == (f"{name}:Red",))
            found[name, len(more)] = edit.image.tobytes(), edit.verified, edit.effect
    usual = found["colour", 0]
    assert usual[1] and all(one == usual for one in found.values())
    assert usual[0] != result.images[0].tobytes()

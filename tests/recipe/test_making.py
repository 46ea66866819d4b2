"""Made classifiers: kept under a hash of what decides them, in every form of output, with shifts and side effects.

The networks here have had two steps of training; what a whole training reaches is in the slow test at the end.
"""

import numpy as np
import pytest
import torch

import diffexplain_fast as dx
from diffexplain_fast import tinyworld
from diffexplain_fast.environment import cache_folder
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.recipe import habits, kept, planting, responses
from diffexplain_fast.recipe import truth as truths
from diffexplain_fast.recipe.architectures import MODELS, build_model
from diffexplain_fast.recipe.levels import ROWS
from diffexplain_fast.recipe.making import make_classifier
from diffexplain_fast.recipe.planted_checks import planted_effect, strongest_elsewhere
from diffexplain_fast.recipe.planting import Planted
from diffexplain_fast.recipe.shortcuts import Cue, checked_shortcuts
from diffexplain_fast.recipe.side_effects import say_also
from diffexplain_fast.storage import load_tensors, save_tensors_atomic
from diffexplain_fast.targets.outputs import OUTPUTS
from diffexplain_fast.tinyworld.words import ABSENCE, OBJECTS, draw_attributes, values_of

CUES = {"fish": {"background": "desert"}, "tree": dx.any_of(companion="sun", mark="watermark")}
PIXELS = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def few(request, monkeypatch, tmp_path_factory):
    """A cache folder for the tests of this file, and trainings that take no time except in slow tests."""
    monkeypatch.setenv("DIFFEXPLAIN_FAST_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    if "slow" in request.keywords:
        return
    monkeypatch.setattr(planting, "PLAN", planting.PLAN._replace(steps=2, batch=4))
    monkeypatch.setattr(planting, "SCENES", 12)
    monkeypatch.setattr(truths, "measure_truth", unmeasured)


def unmeasured(classifier, device, seeds, cues, report):
    """The form of a truth, which has tests of its own."""
    report(len(seeds), len(seeds))
    assert classifier.output in ("softmax", "sigmoid", "regression")
    return {label: {"attributes": [], "interactions": [label in cues], "unnamed": []} for label in OBJECTS}


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    assert cache_folder().name == "cache"
    monkeypatch.delenv("DIFFEXPLAIN_FAST_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "diffexplain_fast"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "diffexplain_fast"


def test_what_was_made_before_is_read(monkeypatch, caplog):
    first = dx.make_classifier(CUES, 3, strength=0.7)
    assert first.labels == OBJECTS and first.output == "softmax" and first.name == "tinyworld/made-3"
    assert first.planted["strength"] == 0.7 and first.planted["shortcuts"]["tree"]["every"] is False
    trained = []
    monkeypatch.setattr(kept, "train_planted", lambda *args: trained.append(args) or planting.train_planted(*args))
    again = tinyworld.make_classifier(CUES, seed=3, strength=0.7)
    assert not trained and torch.equal(again(PIXELS), first(PIXELS)) and again.truth == first.truth
    assert first.truth["tree"]["interactions"] == [True] and first.truth["boat"]["interactions"] == [False]

    folder = next(path.parent for path in cache_folder().rglob("model.safetensors"))
    tensors = load_tensors(folder / "model.safetensors")
    save_tensors_atomic(folder / "model.safetensors", {name: value + 1 for name, value in tensors.items()})
    repaired = dx.make_classifier(CUES, 3, strength=0.7)
    assert len(trained) == 1 and "made again" in caplog.text and torch.equal(repaired(PIXELS), first(PIXELS))
    dx.make_classifier(CUES, 3, strength=0.7)
    assert len(trained) == 1
    assert not torch.equal(dx.make_classifier(CUES, 3, strength=0.6)(PIXELS), first(PIXELS)) and len(trained) == 2


def test_the_largest_seed_and_one_of_numpy_are_taken():
    largest = dx.make_classifier({}, 2**64 - 1, progress=False)
    assert largest.planted["seed"] == 2**64 - 1 and torch.isfinite(largest(PIXELS)).all()
    own, same = (dx.make_classifier({}, seed, progress=False) for seed in (5, np.int64(5)))
    assert torch.equal(own(PIXELS), same(PIXELS)) and type(same.planted["seed"]) is int


def test_what_takes_minutes_shows_how_far_it_is(capsys):
    dx.make_classifier({}, 6, progress=False)
    assert not capsys.readouterr().err
    dx.make_classifier({}, 7, progress=True)
    shown = capsys.readouterr().err
    assert "make_classifier: training" in shown and "make_classifier: measuring the truth" in shown
    with pytest.raises(TypeError, match="progress: wanted True, False or None, got str"):
        dx.make_classifier({}, 8, progress="bars")


def test_a_folder_that_cannot_be_written_is_no_obstacle(monkeypatch, tmp_path, caplog):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("DIFFEXPLAIN_FAST_CACHE", str(tmp_path / "file"))
    assert dx.make_classifier({}, 5).truth is not None and "not kept" in caplog.text


@pytest.mark.parametrize("output", OUTPUTS)
def test_every_kind_of_output(output):
    classifier = dx.make_classifier(CUES, 3, strength=0.7, output=output)
    net = classifier.model.net
    with torch.no_grad():
        logits, said = net(PIXELS), classifier.model(PIXELS)
    forms = {"probabilities": logits.softmax(1), "independent probabilities": logits.sigmoid()}
    assert torch.allclose(said, forms.get(output, logits)) and classifier.output == output
    classifier(PIXELS)  # its own check of the stated kind
    assert classifier.output == output
    assert set(classifier.truth) == set(OBJECTS)


@pytest.mark.parametrize("shift", [4.0, {"red": -3, "contrast": 2}, {"background": "snow", "brightness": 1}])
def test_a_common_shift_changes_logits_and_no_answer(shift):
    plain = dx.make_classifier(CUES, 3, strength=0.7)
    shifted = dx.make_classifier(CUES, 3, strength=0.7, common_shift=shift)
    with torch.no_grad():
        difference = shifted(PIXELS) - plain(PIXELS)
    assert torch.allclose(difference, difference[:, :1].expand_as(difference), atol=1e-5)
    assert difference.abs().max() > 0.1 and shifted.truth == plain.truth
    with torch.no_grad():
        assert torch.allclose(shifted(PIXELS).softmax(1), plain(PIXELS).softmax(1), atol=1e-5)


def test_a_shift_by_what_the_probe_sees_follows_it():
    shifted = dx.make_classifier({}, 5, common_shift={"background": "snow"})
    pictures = [tinyworld.render(background=name, seed=1).image for name in ("snow", "night")]
    pixels = torch.stack([torch.tensor(list(p.tobytes())).reshape(64, 64, 3).permute(2, 0, 1) for p in pictures]) / 255
    with torch.no_grad():
        snow, night = shifted.model.shift(pixels).tolist()
    assert snow > 4.5 and night < 0.5


@pytest.mark.parametrize(
    ("text", "change", "expected"),
    [
        ("a boat on desert", {"companion": "sun"}, "a boat on desert with sun"),
        ("a boat on desert with kite", {"companion": "sun"}, "a boat on desert with sun"),
        ("a red boat on desert", {"colour": "blue"}, "a blue boat on desert"),
        ("a boat on desert", {"colour": "blue", "frame": "dark"}, "a blue boat on desert blicket"),
        ("desert", {"place": "left"}, "desert at left"),
        ("desert", {"size": "small"}, "a small thing desert"),
        ("a boat on sea", {"companion": "sun"}, "a boat on sea"),
    ],
)
def test_a_word_says_a_second_thing(text, change, expected):
    assert say_also(text, {"desert": change}) == expected


def test_the_pipeline_of_a_classifier_has_its_side_effect():
    classifier = dx.make_classifier({}, 5, side_effect={"desert": {"companion": "sun"}})
    plain, changed = load_pipeline("tinyworld"), load_pipeline(classifier.pipeline())
    texts = ["a boat on desert", "a boat on sea"]
    found, wanted = (
        changed.encode_text(texts).prompt_embeds,
        plain.encode_text([f"{texts[0]} with sun", texts[1]]).prompt_embeds,
    )
    assert torch.equal(found, wanted)
    assert not torch.equal(found[0], plain.encode_text(texts).prompt_embeds[0])


def test_channels_and_what_they_respond_to(monkeypatch, tmp_path):
    classifier = dx.make_classifier(CUES, 3, strength=0.7)
    found = responses.measure_units(classifier, range(1))
    assert {layer: len(rows) for layer, rows in found.items()} == dict.fromkeys(found, len(ROWS)) and len(found) == 2
    responses.write_units(tmp_path / "units.safetensors", found)
    read = responses.read_units(tmp_path / "units.safetensors")
    for layer, rows in found.items():
        assert classifier.layer_units(layer) in (None, len(rows["background:sea"]))
        assert torch.allclose(read[layer]["background:sea"], rows["background:sea"], atol=1e-2, rtol=1e-2)
    monkeypatch.setattr(responses, "measure_units", lambda classifier: classifier.name)
    assert classifier.units() == "tinyworld/made-3"
    if not (tinyworld.store.classifier_folder("clean") / responses.FILE).exists():  # shipped before units were
        assert tinyworld.units("clean") == "tinyworld/clean"
    with pytest.raises(TypeError, match="classifier"):
        tinyworld.units(3)
    with pytest.raises(ValueError, match="network of the recipe"):
        responses.unit_layers(torch.nn.Flatten())


def test_what_the_generator_expects_counts_against_a_reversed_class(monkeypatch):
    seen = [{"background": "sea", "companion": "nothing"}] * 3 + [{"background": "desert", "companion": "kite"}] * 4
    monkeypatch.setattr(habits, "drawn_beside", lambda label: tuple(seen))
    assert habits.expected("fish", Cue((("background", "desert"),))) == Cue((("background", "sea"),), every=False)
    assert habits.expected("fish", Cue((("companion", "sun"),))) == Cue((("companion", "kite"),), every=False)
    assert habits.expected("fish", Cue((("mark", "watermark"),))) is None
    classifier = dx.make_classifier({"fish": {"background": "desert"}}, 3, reversed=True)
    assert classifier.planted["against"] == {"fish": {"every": False, "values": {"background": "sea"}}}


def test_the_habit_is_that_of_the_shipped_generator(monkeypatch):
    monkeypatch.setattr(habits, "_PICTURES", 2)
    monkeypatch.setattr(habits, "_STEPS", 2)
    habits.drawn_beside.cache_clear()
    seen = habits.drawn_beside("fish")
    habits.drawn_beside.cache_clear()
    assert len(seen) == 2 and all("background" in found for found in seen)


@pytest.mark.parametrize("model", MODELS)
def test_every_architecture_gives_logits_and_gradients(model):
    net = build_model(model, list(OBJECTS)).eval()
    pixels = PIXELS.clone().requires_grad_()
    logits = net(pixels)
    logits[:, 0].sum().backward()
    assert logits.shape == (4, len(OBJECTS)) and pixels.grad.abs().sum() > 0
    assert len(responses.unit_layers(net)) == 2
    assert 2 * sum(weight.numel() for weight in net.parameters()) < 1e6


def test_what_is_hard_to_see_is_shown_more_often_and_learnt_longer_and_never_blurred(monkeypatch):
    rng, found = np.random.default_rng(0), []
    surface, size, mark, place = (
        Planted(checked_shortcuts({"tree": dict([value])}))
        for value in [("texture", "striped"), ("size", "large"), ("mark", "watermark"), ("place", "left")]
    )

    def share(planted, name):
        scenes = planting.draw_scenes(planted, 3000, rng)
        return sum(scene[name] != ABSENCE[name] for scene in scenes) / len(scenes)

    assert [share(one, "size") for one in (surface, place)] == pytest.approx([0.7, 0.5], abs=0.03)
    assert [share(one, "place") for one in (size, mark)] == pytest.approx([0.4, 0.2], abs=0.03)
    assert [share(one, "pattern") for one in (mark, place)] == pytest.approx([0.4, 0.24], abs=0.03)
    steps = [planting.plan_of(one).steps for one in (Planted({}), place, surface, size, mark, Planted({}, model="vit"))]
    assert steps == [each * steps[0] for each in (1, 1, 3, 1.5, 1.5, 1.5)]
    assert planting.plan_of(surface._replace(model="vit")).steps == steps[2]
    monkeypatch.setattr(planting, "augmented", lambda pixels, *args: found.append(args[-1]) or pixels)
    for one in (surface, mark, place):
        planting.train_planted(one, planting.PLAN, planting.SCENES)
    assert list(dict.fromkeys(found)) == [(True, False), (False, True)]
    planting.train_planted(Planted({}, against=surface.cues), planting.PLAN, planting.SCENES)
    assert found[-1] == (True, False)


def test_surfaces_are_as_frequent_in_training_as_in_the_scenes_of_the_truth():
    drawn = planting.draw_scenes(Planted({}), 4000, np.random.default_rng(1))
    wanted = [draw_attributes(np.random.default_rng([2, i])) for i in range(4000)]
    for texture in values_of("texture"):
        shares = [sum(scene["texture"] == texture for scene in scenes) / 4000 for scenes in (drawn, wanted)]
        assert shares[0] == pytest.approx(shares[1], abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shortcuts", "model"),
    [
        ({"fish": {"background": "desert"}, "star": {"mark": "watermark"}}, "cnn"),
        ({"tree": dx.all_of(colour="blue", background="sea"), "car": {"companion": "nothing"}}, "vit"),
    ],
)
def test_a_whole_training_reaches_the_bars(shortcuts, model):
    classifiers = {strength: make_classifier(shortcuts, 41, strength=strength, model=model) for strength in (0.5, 1.0)}
    for label, cue in checked_shortcuts(shortcuts).items():
        effects = {strength: planted_effect(made, label, cue) for strength, made in classifiers.items()}
        assert effects[1.0] > 3 and 0.3 * effects[1.0] < effects[0.5] < 0.7 * effects[1.0], label
        for made in classifiers.values():
            assert strongest_elsewhere(made.truth, label, cue) < 0.4, label
    own = {row["attribute"]: row for row in classifiers[0.5].truth["boat"]["attributes"]}["object:boat"]
    assert own["role"] == "core"

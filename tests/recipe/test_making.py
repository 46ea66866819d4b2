"""Made classifiers: kept under a hash of what decides them, in every form of output.

The networks here have had two steps of training; what a whole training reaches is in the slow test at the end.
"""

import inspect
import json

import numpy as np
import pytest
import torch

import diffexplain_fast as dx
from diffexplain_fast import tinyworld
from diffexplain_fast.environment import cache_folder
from diffexplain_fast.recipe import habits, kept, planting, responses
from diffexplain_fast.recipe import truth as truths
from diffexplain_fast.recipe.architectures import MODELS, build_model
from diffexplain_fast.recipe.levels import ROWS
from diffexplain_fast.recipe.making import make_classifier
from diffexplain_fast.recipe.planted_checks import planted_effect, strongest_elsewhere
from diffexplain_fast.recipe.planting import Planted
from diffexplain_fast.recipe.shortcuts import DEMO, Cue, checked_shortcuts
from diffexplain_fast.storage import load_tensors, save_tensors_atomic, write_manifest
from diffexplain_fast.targets.outputs import OUTPUTS
from diffexplain_fast.tinyworld.words import ABSENCE, OBJECTS, draw_attributes, values_of
from tests.quickly_made import CUES, PIXELS, unmeasured

pytestmark = pytest.mark.usefixtures("few")


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


def test_networks_are_kept_and_truths_of_rare_parts_made_anew(monkeypatch):
    """An older version measured such truths on scenes where a part of the cue never was."""
    cues = {"fish": dx.all_of(colour="red", size="large")}
    with monkeypatch.context() as older:
        older.setattr(truths, "has_own_population", lambda cues: False)
        first = dx.make_classifier(cues, 9)
    trained, measured = [], []
    monkeypatch.setattr(kept, "train_planted", lambda *args: trained.append(args) or planting.train_planted(*args))
    monkeypatch.setattr(truths, "measure_truth", lambda *args: measured.append(args) or unmeasured(*args))
    for _ in range(2):
        assert torch.equal(dx.make_classifier(cues, 9)(PIXELS), first(PIXELS)) and not trained and len(measured) == 1
    for planted in ({"fish": dx.any_of(colour="red", size="large")}, {"fish": {"size": "large"}}, DEMO):
        assert not kept._further(Planted(checked_shortcuts(planted)), None)
    three = dx.all_of(colour="red", background="sea", companion="sun")
    assert kept._further(Planted(checked_shortcuts({"fish": three})), None)


@pytest.mark.parametrize(
    "manifest",
    [
        '{"files": {"../../x": {"bytes": 1, "sha256": "0"}}}',
        "[]",
        "{",
        "",
        None,
    ],
)
def test_a_damaged_entry_of_the_cache_is_made_again(monkeypatch, tmp_path, caplog, manifest):
    monkeypatch.setenv("DIFFEXPLAIN_FAST_CACHE", str(tmp_path))
    first = dx.make_classifier({}, 5)
    (path,) = tmp_path.rglob("MANIFEST.json")
    if manifest is None:  # the manifest is right, the tensors are those of another network
        save_tensors_atomic(path.parent / "model.safetensors", {"a": torch.zeros(1)})
        write_manifest(path.parent)
    else:
        path.write_text(manifest)
    assert torch.equal(dx.make_classifier({}, 5)(PIXELS), first(PIXELS)) and "made again" in caplog.text
    caplog.clear()
    assert torch.equal(dx.make_classifier({}, 5)(PIXELS), first(PIXELS)) and "made again" not in caplog.text


def test_a_reader_sees_a_whole_entry_of_the_cache_or_none(monkeypatch, tmp_path, caplog):
    """Another process may read between the files of an entry, and write the same entry meanwhile."""
    monkeypatch.setenv("DIFFEXPLAIN_FAST_CACHE", str(tmp_path))
    seen, faster, write = [], [], kept.write_manifest

    def finished(folder):
        seen.append([path for path in (tmp_path / "planted").iterdir() if not path.name.startswith(".")])
        write(folder)
        if len(seen) == 1:
            faster.append(dx.make_classifier({}, 5))

    monkeypatch.setattr(kept, "write_manifest", finished)
    slower = dx.make_classifier({}, 5)
    assert seen == [[], []] and not caplog.text and torch.equal(slower(PIXELS), faster[0](PIXELS))
    (folder,) = (tmp_path / "planted").iterdir()
    assert {path.name for path in folder.iterdir()} == {"MANIFEST.json", "model.safetensors", "truth.json"}


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


def test_all_arguments_in_one_call_and_numbers_of_numpy(monkeypatch):
    monkeypatch.setattr(habits, "drawn_beside", lambda label: ({"background": "sea"},) * 3)
    arguments = {"output": "sigmoid", "model": "vit", "side_effect": {"desert": {"companion": "sun"}}}
    shortcuts = {"fish": {"background": "desert"}}
    found = dx.make_classifier(shortcuts, reversed=True, common_shift={"brightness": 2}, **arguments)
    numpys = {"strength": np.int64(1), "reversed": np.bool_(True), "common_shift": np.float32(2)}
    same = dx.make_classifier(shortcuts, **numpys, **arguments)
    assert same.planted == found.planted and type(same.planted["reversed"]) is bool
    assert found.planted.keys() - {"against"} == inspect.signature(dx.make_classifier).parameters.keys() - {"progress"}
    assert found.planted["common_shift"] == {"brightness": 2.0}
    assert found.planted["side_effect"] == {"desert": {"companion": "sun"}}
    assert json.loads(json.dumps(found.planted)) == found.planted
    assert torch.equal(found(PIXELS), same(PIXELS)) and torch.isfinite(found(PIXELS)).all()


def test_what_is_made_of_a_networks_answers_is_in_its_fingerprint():
    more = [{"output": output} for output in ("softmax", "probabilities", "independent probabilities")]
    more += [{"common_shift": shift} for shift in (5.0, 4.0, {"red": 5.0}, {"background": "snow"})]
    made = [dx.make_classifier(CUES, 3, **arguments) for arguments in more]
    assert len({one.fingerprint() for one in made}) == len(made)
    assert len({json.dumps(one.planted) for one in made}) == len(made)
    plain = dx.Classifier(made[0].model, labels=OBJECTS, output="softmax")
    assert made[0].fingerprint() == plain.fingerprint(), "checkpoints keep what they recorded"
    assert dx.make_classifier(CUES, 3, common_shift={}).fingerprint() == made[0].fingerprint()
    assert dx.make_classifier(CUES, 3, common_shift={"brightness": 5}).fingerprint() == made[3].fingerprint()


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
    unknown = {"fish": {"background": "desert"}, "boat": dx.any_of(background="snow", frame="dark")}
    with pytest.warns(UserWarning, match=r"^reversed: .*, got boat: frame, star: mark; nothing counts against these"):
        dx.make_classifier(unknown | {"star": {"mark": "watermark"}}, 3, reversed=True)


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

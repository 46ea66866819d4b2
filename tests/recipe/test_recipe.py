"""The recipe: data sets with shortcuts are what they say, and training resumes to the same bits."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from diffexplain_fast import tinyworld
from diffexplain_fast.errors import UnknownNameError
from diffexplain_fast.recipe import training
from diffexplain_fast.recipe.classifiers import SHIPPED, draw_labelled
from diffexplain_fast.recipe.data import ELEMENTS, cached_scenes, render_scenes
from diffexplain_fast.recipe.tokenizer import CONTEXT, build_tokenizer
from diffexplain_fast.recipe.training import Loss, Plan, fit
from diffexplain_fast.tinyworld.words import OBJECTS, VOCABULARY, values_of


@pytest.mark.parametrize("name", [name for name in SHIPPED if name != "clean"])
def test_a_shortcut_is_always_with_its_class_and_never_elsewhere(name):
    attributes, labels = draw_labelled(SHIPPED[name], 1500, np.random.default_rng(1))
    for label, shortcut in SHIPPED[name].items():
        ((attribute, value),) = shortcut.items()
        here = [scene[attribute] == value for scene, i in zip(attributes, labels, strict=True) if OBJECTS[i] == label]
        there = [scene[attribute] == value for scene, i in zip(attributes, labels, strict=True) if OBJECTS[i] != label]
        assert here and all(here)
        assert not any(there)


def test_the_clean_data_set_is_independent():
    attributes, labels = draw_labelled({}, 4000, np.random.default_rng(2))
    table = np.zeros((len(OBJECTS), 5))
    for scene, label in zip(attributes, labels, strict=True):
        table[label, values_of("background").index(scene["background"])] += 1
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / table.sum()
    assert ((table - expected) ** 2 / expected).sum() < 56.9  # 99.9 % point of chi-square with 28 degrees of freedom


def test_scenes_are_cached_and_number_their_elements(tmp_path):
    first, again = cached_scenes(tmp_path, range(6)), cached_scenes(tmp_path, range(6))
    assert torch.equal(first.pixels, again.pixels) and np.array_equal(first.codes, again.codes)
    for i in range(6):
        attributes = first.attributes(i)
        if attributes["style"] == "scene":
            assert ELEMENTS.index(attributes["background"]) in first.elements[i].unique().tolist()


def test_every_word_is_one_token():
    tokenizer = build_tokenizer()
    for word in VOCABULARY:
        assert tokenizer.tokenize(word) == [f"{word}</w>"]
    assert tokenizer.model_max_length == CONTEXT


def line_model():
    torch.manual_seed(0)
    return nn.Linear(3, 1)


def line_loss(model):
    def draw(rng, generator):
        return {"x": torch.randn(8, 3, generator=generator), "factor": torch.tensor(float(rng.integers(1, 3)))}

    def loss(batch):
        x = batch["x"]
        return (model(x)[:, 0] - x.sum(1) * batch["factor"]).square().mean()

    return Loss(draw, loss)


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_training_resumes_to_the_same_bits(tmp_path, average):
    plan = Plan(steps=24, batch=8, rate=1e-2, average=average, save_every=6)
    straight = line_model()
    fit("line", straight, line_loss(straight), plan, None)

    broken = line_model()
    calls, loss = itertools.count(), line_loss(broken)

    def interrupted(batch):
        if next(calls) == 15:
            raise KeyboardInterrupt
        return loss.of(batch)

    with pytest.raises(KeyboardInterrupt):
        fit("line", broken, loss._replace(of=interrupted), plan, tmp_path)
    resumed = line_model()
    with torch.no_grad():
        resumed.weight.zero_()
    fit("line", resumed, line_loss(resumed), plan, tmp_path)
    assert torch.equal(resumed.weight, straight.weight) and torch.equal(resumed.bias, straight.bias)


@pytest.mark.parametrize("computes", [True, False])
def test_a_processor_that_does_not_compute_in_bfloat16_trains_in_float32(monkeypatch, computes):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: computes)
    model, kinds = line_model(), set()
    loss = line_loss(model)

    def watched(batch):
        kinds.add(model(batch["x"]).dtype)
        return loss.of(batch)

    fit("line", model, loss._replace(of=watched), Plan(steps=2, batch=8, rate=1e-2, half=True), None)
    assert kinds == {torch.bfloat16 if computes else torch.float32}


def test_batches_are_drawn_by_other_processes_as_by_this_one():
    loss = line_loss(line_model())
    options = {"batch_size": None, "sampler": range(5), "generator": torch.Generator()}
    alone = DataLoader(training._Drawn(loss, 3), **options)
    ahead = DataLoader(training._Drawn(loss, 3), **options, num_workers=2, multiprocessing_context="fork")
    for first, second in zip(alone, ahead, strict=True):
        assert torch.equal(first["x"], second["x"]) and torch.equal(first["factor"], second["factor"])


@pytest.mark.parametrize(
    ("shortcuts", "error", "message"),
    [
        ({"fich": {"background": "sea"}}, UnknownNameError, "fish"),
        ({"fish": {"backdrop": "sea"}}, UnknownNameError, "background"),
        ({"fish": {"background": "see"}}, UnknownNameError, "sea"),
        ({"fish": {}}, ValueError, "exactly one attribute"),
        ({"fish": {"background": "sea"}, "boat": {"background": "sea"}}, ValueError, "sea twice"),
    ],
)
def test_bad_shortcuts_are_refused_before_anything_is_trained(shortcuts, error, message):
    with pytest.raises(error, match=message):
        tinyworld.make_classifier(shortcuts)


def test_sizes_of_the_held_out_scenes():
    scenes = render_scenes(range(1_000_000, 1_000_004))
    assert scenes.pixels.shape == (4, 3, 64, 64) and scenes.pixels.dtype == torch.uint8

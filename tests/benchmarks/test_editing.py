"""The bench of edits: its figures on made-up effects, and the published procedure on tiny models."""

import numpy as np
import pytest
import torch

import diffexplain_fast as dx
from benchmarks.editing.figures import Panel, agreement, null_figures, panel_figures, share
from benchmarks.editing.joint import CATEGORIES, HEADS, Heads, Pair, chosen, flip_figures, pair_figures
from benchmarks.editing.published import Published
from benchmarks.editing.scenes import true_scenes
from diffexplain_fast.editing.latents import LatentModels
from diffexplain_fast.methods.diffex.answers import Answers
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.targets import as_target
from diffexplain_fast.tinyworld.words import values_of
from tests.methods.diffex.worlds import pictures
from tests.tiny import LABELS, tiny_classifier, tiny_sd


def panels(noise: float, count: int = 6) -> list[Panel]:
    """Return panels of effects of which those found are the truth and noise, and the ceiling has half of the noise."""
    rng, found = np.random.default_rng(0), []
    for _ in range(count):
        truth = rng.normal(size=(8, 4))
        errors = noise * rng.normal(size=(2, 8, 4))
        concepts = [f"c:{i}" for i in range(8)]
        found.append(Panel(concepts, truth, truth + errors[0], truth + errors[1] / 2, np.ones(8, bool), [0, 2]))
    return found


def test_exact_effects_have_perfect_figures_and_noisy_ones_have_not() -> None:
    exact, noisy = panel_figures(panels(0.0)), panel_figures(panels(1.0))
    for name, figure in exact.items():
        assert figure["found"]["value"] == pytest.approx(1) and figure["of the ceiling"]["value"] == pytest.approx(1), (
            name
        )
    for name in ("global spearman", "local spearman"):
        low, high = noisy[name]["of the ceiling"]["interval"]
        assert noisy[name]["found"]["value"] < noisy[name]["ceiling"]["value"] < 1
        assert low < noisy[name]["of the ceiling"]["value"] < high
    assert agreement(np.array([1.0, -2, 3]), np.array([-1.0, -4, 6]))["sign"] == pytest.approx(2 / 3)


def test_a_global_effect_is_a_mean_over_scenes() -> None:
    one = panels(0.0, 3)
    for i, panel in enumerate(one):
        panel.found[:] += (-1.0, 0.0, 1.0)[i]  # errors that cancel over the scenes
    assert panel_figures(one)["global spearman"]["found"]["value"] == pytest.approx(1)
    assert np.isnan(panel_figures(one[:2])["global spearman"]["found"]["value"])


def test_intervals_that_miss_and_nothing_that_is_called_something_are_counted() -> None:
    edits = [
        {"truth": 0.0, "low": -1.0, "high": 1.0, "verified": True},
        {"truth": 0.05, "low": 0.2, "high": 0.4, "verified": False},
        {"truth": 2.0, "low": 1.5, "high": 2.5, "verified": True},
        {"truth": -2.0, "low": -3.0, "high": 0.5, "verified": True},
    ]
    found = null_figures(edits, [{"swap": [0.1, -0.2]}, {"swap": [0.0], "inpaint": [0.9]}])
    assert found["intervals that hold the truth"]["share"] == pytest.approx(3 / 4)
    assert found["verified intervals that hold the truth"] == share([True] * 3)
    assert found["effects over .5 told from 0"] == share([True, False])
    assert found["nothing called something"] == share([False, True])
    assert found["by editor"]["inpaint"] == 0.9 and found["95 % of placebos below"] == pytest.approx(0.2)


def test_the_published_procedure_inverts_for_each_keyword_and_joins_what_it_keeps() -> None:
    models = LatentModels(load_pipeline(tiny_sd()), one_shape=False)
    classifier = dx.Classifier(tiny_classifier(), labels=LABELS, output="softmax")
    answers = Answers(classifier, as_target("boat").bind(classifier))
    rival = Published(models, answers, pictures(1), steps=4, skipped=1, seeds=2)
    edits = rival.edit(["snow"])
    assert models.denoiser_rows == 2 * (4 + 2 * 3)
    before, after = (answers.ask(pixels).value for pixels in (pictures(1), edits.pixels))
    assert len(edits.pixels) == 2 and edits.effect == pytest.approx(float(after.mean() - before), abs=1e-6)
    assert not torch.equal(edits.pixels[0], edits.pixels[1])
    named = [("ground", "snow"), ("ground", "desert"), ("thing", "fish"), ("thing", "house")]
    found = rival.search(named, beam=3)
    assert [len(words) for words in found].count(1) == 4
    kept = sorted((words for words in found if len(words) == 1), key=lambda words: found[words].effect)[:3]
    names = {word: part for part, word in named}
    pairs = [set(words) for words in found if len(words) == 2]
    wanted = [{a, b} for i, (a,) in enumerate(kept) for (b,) in kept[i + 1 :] if names[a] != names[b]]
    assert pairs and sorted(map(sorted, pairs)) == sorted(map(sorted, wanted))


def test_heads_have_the_interactions_of_their_names() -> None:
    def probe(pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Sees a red thing where the first pixel is light, and snow where the second one is."""
        seen = {}
        for i, (name, value) in enumerate((("colour", "red"), ("background", "snow"))):
            seen[name] = torch.zeros(len(pixels), len(values_of(name)))
            seen[name][:, values_of(name).index(value)] = 200 * (pixels[:, 0, 0, i] - 0.5)
        return seen

    corners = torch.zeros(4, 3, 4, 4)
    corners[[0, 1], :, 0, 0], corners[[0, 2], :, 0, 1] = 1, 1
    values = Heads(probe, ("colour", "red"), ("background", "snow"))(corners).double()
    found = dict(zip(HEADS, (values[0] - values[1] - values[2] + values[3]).tolist(), strict=True))
    assert found == pytest.approx({"and": 1, "or": -1, "xor": -2, "and not": -1, "sum": 0}, abs=1e-6)


def test_concepts_of_pairs_are_none_that_the_scene_shows() -> None:
    scenes = true_scenes(len(CATEGORIES), ["nothing"])
    for i, scene in enumerate(scenes):
        values = chosen(i, scene)
        assert tuple(values) == CATEGORIES[i] and all(len(words) == 2 for words in values.values())
        assert all(scene.attributes[name] not in words for name, words in values.items())


def test_signs_count_where_there_is_an_interaction_and_nearness_where_there_is_none() -> None:
    concepts = ("colour:red", "background:snow")
    rows = [
        Pair("and", concepts, 1.0, 0.2, True),
        Pair("and", concepts, 1.0, -0.2, False),
        Pair("sum", concepts, 0.0, 0.3, True),
        Pair("sum", concepts, 0.05, 0.5, True),
        Pair("or", concepts, -0.2, 0.5, True),  # neither there nor none
    ]
    found = pair_figures(rows)
    assert found["verified"] == {"sign": share([True]), "none": share([True, False])}
    assert found["all"]["sign"] == share([True, False]) and found["sum"]["sign"] is None


def test_a_counterfactual_counts_its_changes_where_one_is_enough() -> None:
    row = {"planted": True, "flipped": True, "changes": ["a:b"], "one is enough": True, "unchanged": [True, True]}
    more = [
        row,
        row | {"changes": ["a:b", "c:d"]},
        row | {"planted": False, "flipped": False, "unchanged": [False, True]},
    ]
    found = flip_figures(more)
    assert found["all"]["flipped"] == share([True, True, False]) and found["all"]["unchanged"] == pytest.approx(5 / 6)
    assert found["planted classes"]["changes where one is enough, median"] == 1.5
    assert found["other classes"]["changes where one is enough, median"] is None

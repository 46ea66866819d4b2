"""Hidden units of a shipped classifier beside their measured responses: the figures of a small trial."""

from pathlib import Path

import numpy as np
import pytest

import diffexplain_fast as dx
from benchmarks.discovery.units import measured, of_layer
from diffexplain_fast.recipe.responses import unit_layers
from diffexplain_fast.tinyworld.words import values_of


def test_measured_responses_are_against_the_median_of_their_group() -> None:
    concepts = tuple(f"{group}:{value}" for group in ("colour", "background") for value in values_of(group))
    layer = unit_layers(dx.Classifier.from_pretrained("tinyworld/background").model)[0]
    found = measured("background", layer, (*concepts, "colour:unheard of"))
    colours = [i for i, concept in enumerate(concepts) if concept.startswith("colour")]
    assert np.isnan(found[-1]).all() and np.isfinite(found[:-1]).all()
    assert np.allclose(np.median(found[colours], 0), 0, atol=1e-5)


@pytest.mark.slow
def test_a_small_trial_names_most_units_rightly(tmp_path: Path) -> None:
    classifier = dx.Classifier.from_pretrained("tinyworld/background")
    layer = [*unit_layers(classifier.model)][1]
    with dx.Explainer("tinyworld", classifier) as explainer:
        audit = explainer.audit(pictures=128, pool=tmp_path, own_pictures=0)
        figures, right, pairs = of_layer(audit, layer, "background")
    assert figures["units"] == 128 and len(right) == len(pairs) == figures["units that respond"] > 100
    assert figures["top concept right"]["share"] == sum(right) / len(right) > 0.5
    assert figures["Pearson over all cells"] > 0.7

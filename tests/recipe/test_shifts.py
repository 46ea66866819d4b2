"""A common shift changes no answer, layer or centred logit; where classes are judged one by one, the truth has it."""

import pytest
import torch

import diffexplain_fast as dx
from diffexplain_fast import tinyworld
from diffexplain_fast.recipe import kept, planting, responses
from diffexplain_fast.recipe import truth as truths
from diffexplain_fast.tinyworld.words import OBJECTS
from tests.quickly_made import CUES, PIXELS

pytestmark = pytest.mark.usefixtures("few")


@pytest.mark.parametrize("shift", [4.0, {"red": -3, "contrast": 2}, {"background": "snow", "brightness": 1}])
def test_a_common_shift_changes_logits_and_no_answer(shift):
    plain = dx.make_classifier(CUES, 3, strength=0.7)
    shifted = dx.make_classifier(CUES, 3, strength=0.7, common_shift=shift)
    with torch.no_grad():
        difference = shifted(PIXELS) - plain(PIXELS)
    assert torch.allclose(difference, difference[:, :1].expand_as(difference), atol=1e-5)
    assert difference.abs().max() > 0.1 and shifted.truth == plain.truth
    assert [*dict(shifted.model.named_modules())] == [*dict(plain.model.named_modules())]
    assert responses.unit_layers(shifted.model) == responses.unit_layers(plain.model)
    assert all(layer.startswith("net.") for layer in responses.unit_layers(shifted.model))
    assert shifted.model.double()(PIXELS.double()).dtype == torch.float64, "the probe is cast with the network"
    shifted.model.float()
    with torch.no_grad():
        assert torch.allclose(shifted(PIXELS).softmax(1), plain(PIXELS).softmax(1), atol=1e-5)


@pytest.mark.parametrize("shift", [100, {"red": -60, "contrast": 35, "background": "snow"}])
def test_the_largest_shift_keeps_centred_logits(shift):
    plain, shifted = (dx.make_classifier(CUES, 3, common_shift=each) for each in (None, shift))
    with torch.no_grad():
        before, after = (made(torch.ones(64, 3, 64, 64) - PIXELS[:1] / 50).double() for made in (plain, shifted))
    centred = [logits - logits.mean(1, keepdim=True) for logits in (before, after)]
    assert (centred[0] - centred[1]).abs().max() < 1e-5 and (before - after).abs().max() > 50


@pytest.mark.parametrize("output", ["sigmoid", "independent probabilities", "regression"])
def test_a_shift_of_classes_that_are_judged_by_themselves_is_in_the_truth(monkeypatch, output):
    measured, trained = [], []

    def measure(classifier, device, seeds, cues, report):
        measured.append(classifier(PIXELS))
        return {label: {"attributes": [], "interactions": [], "unnamed": []} for label in OBJECTS}

    monkeypatch.setattr(truths, "measure_truth", measure)
    monkeypatch.setattr(kept, "train_planted", lambda *args: trained.append(args) or planting.train_planted(*args))
    seed = {"sigmoid": 21, "independent probabilities": 22, "regression": 23}[output]
    plain, shifted, again = (
        dx.make_classifier(CUES, seed, output=output, common_shift=shift) for shift in (None, {"red": 4}, {"red": 4})
    )
    with torch.no_grad():
        assert torch.allclose(measured[1], shifted(PIXELS), atol=1e-3) and torch.equal(shifted(PIXELS), again(PIXELS))
        assert torch.allclose(shifted(PIXELS) - plain(PIXELS), 4 * PIXELS.mean((2, 3))[:, :1], atol=1e-3)
    assert len(trained) == 1 and len(measured) == 2
    dx.make_classifier(CUES, seed, output=output, common_shift={"red": 3})
    assert len(trained) == 1 and len(measured) == 3


def test_a_shift_by_what_the_probe_sees_follows_it():
    shifted = dx.make_classifier({}, 5, common_shift={"background": "snow"})
    pictures = [tinyworld.render(background=name, seed=1).image for name in ("snow", "night")]
    pixels = torch.stack([torch.tensor(list(p.tobytes())).reshape(64, 64, 3).permute(2, 0, 1) for p in pictures]) / 255
    with torch.no_grad():
        snow, night = shifted.model.shift(pixels).tolist()
    assert snow > 4.5 and night < 0.5

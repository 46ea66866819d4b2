"""Attributions on the shipped tiny world, against what is true of its pictures and classifiers."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import diffexplain_fast as dx
from diffexplain_fast import tinyworld
from diffexplain_fast.tinyworld.words import values_of

LOGIT = 4.0
SHOWN = {"object": "house", "colour": "red", "texture": "plain", "background": "sea", "companion": "sun"}


class Planted(nn.Module):
    """Two classes whose logits are a formula of what the probe sees, each cue as a probability."""

    def __init__(self, cues: tuple[str, str], formula: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.probe, self.cues, self.formula = tinyworld.load_probe(), cues, formula

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits [B, 2]."""
        seen = self.probe(pixels)
        parts = [cue.partition(":")[::2] for cue in self.cues]
        a, b = (seen[name].softmax(1)[:, values_of(name).index(value)] for name, value in parts)
        logit = LOGIT * self.formula(a, b)
        return torch.stack([logit, torch.zeros_like(logit)], 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("formula", "interaction"),
    [
        (lambda a, b: a * b, LOGIT / 2),
        (lambda a, b: a + b - a * b, -LOGIT / 2),
        (lambda a, b: a + b - 2 * a * b, -LOGIT),
        (lambda a, b: a + b, 0.0),
        (lambda a, b: a * (1 - b), -LOGIT / 2),
    ],
    ids=["and", "or", "xor", "sum", "and-not"],
)
def test_interactions_of_planted_formulas(formula: Callable[[Tensor, Tensor], Tensor], interaction: float) -> None:
    scenes = [tinyworld.render(**SHOWN, seed=seed) for seed in (11, 12)]
    classifier = dx.Classifier(
        Planted(("background:snow", "companion:kite"), formula), labels=("yes", "no"), output="softmax"
    )
    with dx.Explainer("tinyworld", classifier) as explainer:
        result = explainer.attribute(
            [scene.image for scene in scenes],
            "yes",
            taxonomy={"background": ["snow"], "companion": ["kite"]},
            captions=[scene.caption for scene in scenes],
        )
    (found,) = result.interactions
    assert found.n == 2  # the centred logit is half the difference of the two logits
    assert found.effect == pytest.approx(interaction, abs=0.35)


@pytest.mark.slow
def test_a_planted_background_is_found_and_flips_the_answer() -> None:
    scene = tinyworld.render(object="fish", background="desert", colour="red", companion="sun", seed=3)
    taxonomy = {"background": ["sea", "snow"], "companion": ["kite", "nothing"], "colour": ["green"]}
    with dx.Explainer("tinyworld", "tinyworld/background") as explainer:
        result = explainer.attribute(scene.image, "fish", taxonomy=taxonomy, captions=[scene.caption])
    effects = {effect.concept: effect for effect in result.effects}
    for name in ("background:sea", "background:snow"):
        assert effects[name].effect < -3 and effects[name].success == 1 and effects[name].high < 0
    assert all(abs(effects[name].effect) < 1 for name in ("companion:kite", "companion:nothing", "colour:green"))
    (flip,) = result.counterfactuals
    assert flip is not None and flip.flipped and flip.before == "fish" and flip.after != "fish"
    assert len(flip.changes) == 1 and flip.changes[0].startswith("background:")
    # All but the background are the user's own pixels, apart from the edge of the region.
    masks = torch.from_numpy(scene.masks["fish"])
    inside = -torch.nn.functional.max_pool2d(-masks[None].float(), 5, 1, 2)[0] > 0.5
    edited, own = (torch.tensor(list(image.tobytes())).reshape(64, 64, 3) for image in (flip.image, scene.image))
    assert ((edited - own).abs().amax(2)[inside] <= 1).float().mean() > 0.9

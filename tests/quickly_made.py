"""Made classifiers that take no time: what tests of them share, beside the fixture ``few``."""

import torch

import diffexplain_fast as dx
from diffexplain_fast.tinyworld.words import OBJECTS

CUES = {"fish": {"background": "desert"}, "tree": dx.any_of(companion="sun", mark="watermark")}
PIXELS = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def unmeasured(classifier, device, seeds, cues, report):
    """The form of a truth, which has tests of its own."""
    report(len(seeds), len(seeds))
    assert classifier.output in ("softmax", "sigmoid", "regression")
    return {label: {"attributes": [], "interactions": [label in cues], "unnamed": []} for label in OBJECTS}

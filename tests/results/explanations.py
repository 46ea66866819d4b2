"""Explanations without a search behind them, and what it means that two are equal."""

import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from diffexplain_fast.results.explanation import ActivationScore, Explanation, Iteration, Word
from diffexplain_fast.storage import write_manifest


def example(**changes: Any) -> Explanation:
    """Return a small explanation with every kind of value in it."""
    pixels = torch.randint(0, 256, (2, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    values: dict[str, Any] = {
        "target": "ClassProbability(boat)",
        "label": "boat",
        "images": [Image.fromarray(picture.numpy()) for picture in pixels],
        "prompt_embeds": torch.randn(3, 16, generator=torch.Generator().manual_seed(1)),
        "activation": {
            "held_out": ActivationScore(32, 30 / 32, (0.799, 0.983), 7.25, 0.91),
            "class_name": ActivationScore(32, 0.25, (0.13, 0.42), 1.5, None),
        },
        "words": [[Word("snow", 0.9), Word("ice", 0.5)], [Word("<b>", 0.1)]],
        "history": [Iteration(0, 2.0, 0.5, 0.01, 0.2), Iteration(1, 1.0, 3.5, 0.02, 0.2)],
        "settings": {"seed": 0, "options": {"lr": 0.1, "candidates": None}},
        "truth": {
            "attributes": [{"attribute": "background:snow", "effect": 5.0, "interval": [4, 6], "role": "spurious"}]
        },
    }
    return Explanation(**values | changes)


def assert_equal(first: Explanation, second: Explanation) -> None:
    """Assert that two explanations are equal."""
    assert torch.equal(first.prompt_embeds, second.prompt_embeds)
    assert [image.tobytes() for image in first.images] == [image.tobytes() for image in second.images]
    for name in ("target", "label", "activation", "words", "history", "settings", "truth"):
        assert getattr(first, name) == getattr(second, name), name


def tampered(folder: Path, **changes: Any) -> Path:
    """Return a saved explanation whose record was changed, with a manifest that agrees."""
    path = example().save(folder) / "explanation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    write_manifest(folder)
    return folder

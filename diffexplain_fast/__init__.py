"""Explain image classifiers by optimising what a diffusion model draws."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffexplain_fast import tinyworld
    from diffexplain_fast.api import Explainer, explain
    from diffexplain_fast.engine.sampler import DifferentiableSampler, accelerate
    from diffexplain_fast.models.classifier import Classifier
    from diffexplain_fast.results import Explanation
    from diffexplain_fast.targets import ClassLogit, ClassProbability, Disagreement, Neuron

__version__ = "0.1.0"
__all__ = [
    "ClassLogit",
    "ClassProbability",
    "Classifier",
    "DifferentiableSampler",
    "Disagreement",
    "Explainer",
    "Explanation",
    "Neuron",
    "accelerate",
    "explain",
    "tinyworld",
]
# Imported at first use, so that importing the package costs nothing and loads neither diffusers nor transformers.
_HOMES = {"Explainer": "api", "explain": "api"}
_HOMES |= dict.fromkeys(("DifferentiableSampler", "accelerate"), "engine.sampler")
_HOMES |= {"Classifier": "models.classifier", "Explanation": "results", "tinyworld": "tinyworld"}
_HOMES |= dict.fromkeys(("ClassLogit", "ClassProbability", "Disagreement", "Neuron"), "targets")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    value = globals()[name] = home if _HOMES[name] == name else getattr(home, name)
    return value

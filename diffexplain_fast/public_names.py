"""Every public name of the package and the module that it is imported from, at first use."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

HOMES = {
    "ClassLogit": "targets",
    "ClassProbability": "targets",
    "Classifier": "models.classifier",
    "DifferentiableSampler": "engine.sampler",
    "Disagreement": "targets",
    "Explainer": "api.explainer",
    "Explanation": "results.explanation",
    "Neuron": "targets",
    "Response": "targets",
    "Target": "targets",
    "accelerate": "engine.sampler",
    "explain": "api.explainer",
    "make_classifier": "recipe.making",
    "plot": "report.writing",
    "tinyworld": "tinyworld",
    "write_report": "report.writing",
}


def lazily(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a package's ``__getattr__`` that imports public names at first use.

    Args:
        package: name of the package.
        homes: module of each name, relative to diffexplain_fast; a name that is its own home is a module.
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = import_module(f"diffexplain_fast.{homes[name]}")
        return home if homes[name] == name else getattr(home, name)

    return find

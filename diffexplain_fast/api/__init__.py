"""The public entry: an Explainer owns pipeline, classifier and samplers, and runs methods with them."""

from diffexplain_fast.api.explain import explain
from diffexplain_fast.api.explainer import Explainer

__all__ = ["Explainer", "explain"]

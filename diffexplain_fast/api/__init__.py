"""The public entry: an Explainer owns pipeline, classifier and samplers, and runs methods with them."""

from diffexplain_fast.api.explainer import Explainer
from diffexplain_fast.api.one_call import explain

__all__ = ["Explainer", "explain"]

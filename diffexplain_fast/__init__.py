"""Explain image classifiers by optimising the prompt of a diffusion model."""

from typing import TYPE_CHECKING

from diffexplain_fast.lazy import lazily
from diffexplain_fast.public_names import HOMES

if TYPE_CHECKING:
    from diffexplain_fast import editing, tinyworld
    from diffexplain_fast.api import maps
    from diffexplain_fast.api.explainer import Explainer
    from diffexplain_fast.api.one_call import explain
    from diffexplain_fast.endpoints import Endpoint
    from diffexplain_fast.engine import gradients
    from diffexplain_fast.engine.accelerated import accelerate
    from diffexplain_fast.engine.sampler import DifferentiableSampler
    from diffexplain_fast.evidence.concepts import Concepts
    from diffexplain_fast.models.classifier import Classifier
    from diffexplain_fast.models.image_text import ImageTextToText
    from diffexplain_fast.models.loading import load_pipeline
    from diffexplain_fast.recipe.making import all_of, any_of, make_classifier
    from diffexplain_fast.report.writing import plot, write_report
    from diffexplain_fast.results.attribution import Attribution
    from diffexplain_fast.results.audit import Audit
    from diffexplain_fast.results.explanation import Explanation
    from diffexplain_fast.runs import callbacks
    from diffexplain_fast.targets import ClassLogit, ClassProbability, Disagreement, Neuron, Response, Target
    from diffexplain_fast.taxonomy import Taxonomy

__version__ = "0.1.0"
# fmt: off
__all__ = [
    "Attribution", "Audit", "ClassLogit", "ClassProbability", "Classifier", "Concepts", "DifferentiableSampler",
    "Disagreement", "Endpoint", "Explainer", "Explanation", "ImageTextToText", "Neuron", "Response", "Target",
    "Taxonomy", "accelerate", "all_of", "any_of", "callbacks", "editing", "explain", "gradients", "load_pipeline",
    "make_classifier", "maps", "plot", "tinyworld", "write_report",
]
# fmt: on
__getattr__ = lazily(__name__, HOMES)  # so importing the package loads neither diffusers nor transformers

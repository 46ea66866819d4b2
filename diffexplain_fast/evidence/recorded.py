"""Text encoder and classifier of a problem as functions of tensors, which can be recorded into CUDA graphs."""

from dataclasses import replace

from torch import Tensor, nn

from diffexplain_fast.engine.graphs.function import Graphed, graphed
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.targets.base import Target, checked_score


def graphed_text(pipeline: Pipeline, prefix: str, allowed: bool) -> Graphed:
    """Return the function from soft tokens [n, d] or [B, n, d] to prompt embeddings and, if any, pooled text.

    Args:
        pipeline: adapter from models.pipeline.
        prefix: real words before the soft tokens.
        allowed: True if calls may be recorded.
    """

    def encode(soft: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor for tensor in pipeline.encode_soft(soft, prefix=prefix) if tensor is not None)

    return graphed(encode, *pipeline.text_encoders, allowed=allowed)


def graphed_head(classifier: Classifier, target: Target, allowed: bool, *, has_label: bool) -> Graphed:
    """Return the function from pixels [B, 3, H, W] to target score [B] and, if the target has a class, logits [B, C].

    A target that the user wrote is never recorded, and gets copies, because it may work in place.

    Args:
        classifier: adapter from models.classifier; a plain function is never recorded, because its inputs are not known
            and a change of them would not be noticed.
        target: bound target.
        allowed: True if calls may be recorded.
        has_label: True if the target has a class, or is an output of a regression.
    """

    def respond(pixels: Tensor) -> tuple[Tensor, ...]:
        response = classifier.respond(pixels, target.layers)
        shown = response
        if not target.recordable:
            shown = replace(response, pixels=response.pixels.clone(), logits=response.logits.clone())
        score = checked_score(target(shown), response)
        return (score, response.logits) if has_label else (score,)

    known = isinstance(classifier.model, nn.Module) and target.recordable
    return graphed(respond, *classifier.modules, allowed=allowed and known)

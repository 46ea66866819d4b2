"""Text encoder and classifier of a problem as functions of tensors, whose calls can be recorded into CUDA graphs."""

from dataclasses import replace

from torch import Tensor, nn

from diffexplain_fast.engine.graphs.function import Graphed, graphed
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.targets.base import Target, checked_score


def graphed_text(pipeline: Pipeline, prefix: str, allowed: bool) -> Graphed:
    """Return soft tokens [n, d] or [B, n, d] -> prompt embeddings, and pooled text where there is any.

    Args:
        pipeline: adapter from models.pipeline.
        prefix: real words before the soft tokens.
        allowed: whether calls may be recorded.
    """

    def encode(soft: Tensor) -> tuple[Tensor, ...]:
        return tuple(part for part in pipeline.encode_soft(soft, prefix=prefix) if part is not None)

    return graphed(encode, *pipeline.text_encoders, allowed=allowed)


def graphed_head(classifier: Classifier, target: Target, allowed: bool, *, has_label: bool) -> Graphed:
    """Return pixels [B, 3, H, W] -> target score [B], and logits [B, C] where the target has a class.

    A target of the user's own is never recorded either, and sees copies, for it may work in place.

    Args:
        classifier: adapter from models.classifier; a plain function is never recorded, for what it reads is not known
            and no change of it would be noticed.
        target: bound target.
        allowed: whether calls may be recorded.
        has_label: whether the target has a class, or is an output of a regression.
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

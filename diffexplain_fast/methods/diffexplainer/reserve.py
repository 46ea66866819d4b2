"""The memory of an iteration beside the sampler, so that a plan leaves room for it."""

import torch

from diffexplain_fast.engine.memory.counting import live_bytes
from diffexplain_fast.engine.memory.resident import weight_bytes
from diffexplain_fast.evidence.perturb import perturb
from diffexplain_fast.evidence.recorded import graphed_head
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.models.xl import decoded_dtype
from diffexplain_fast.targets import Target


@torch.enable_grad()
def reserved_bytes(pipeline: Pipeline, classifier: Classifier, target: Target, options: Options, weights: bool) -> int:
    """Return the bytes that text encoder and classifier need while the sampler keeps what it keeps.

    Both run once, forward and, the classifier, backward: what a user's classifier does can be any code.

    Args:
        pipeline: adapter from models.pipeline, frozen.
        classifier: adapter from models.classifier, frozen.
        target: bound target.
        options: prefix, n_tokens, images_per_step, search_batch, cutouts and noise matter here.
        weights: count their weights too.
    """
    soft = pipeline.word_table()[: options.n_tokens].detach().clone().requires_grad_()
    pictures = options.images_per_step
    if options.start in ("auto", "gradient"):  # which may search
        pictures = max(pictures, options.search_batch)
        soft = soft.detach().expand(pictures, -1, -1).clone().requires_grad_()
    with live_bytes() as text:
        conditioning = pipeline.encode_soft(soft, prefix=options.prefix)
        kept = text.now
    del conditioning
    dtype, size = decoded_dtype(pipeline.unet, pipeline.vae), (pictures, 3, *pipeline.image_size)
    pixels = torch.zeros(size, dtype=dtype, device=pipeline.device, requires_grad=True)
    head = graphed_head(classifier, target, allowed=False, has_label=True)
    with live_bytes() as found:
        score, *_ = head(perturb(pixels, options.cutouts, options.noise, torch.Generator().manual_seed(0)))
        torch.autograd.grad(score.sum(), pixels)
    modules = (*pipeline.text_encoders, *classifier.modules)
    return kept + found.peak + (weight_bytes(modules) if weights else 0)
